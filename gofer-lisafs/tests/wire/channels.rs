//! Windows and descriptor sockets against what two endpoints of gVisor left in theirs.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::time::Duration;

use gofer_lisafs::wire::ChannelHeader;
use gofer_transport::PacketSocket;
use gofer_transport::flipcall::{Endpoint, FlipError, Side};
use gofer_transport::shm::{WINDOW_HEADER, Window, WindowFile};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketType, recvmsg,
};
use serde_json::Value as Json;

use crate::common::{hex, number, text, to_hex, vectors};

/// Both sides of a fresh window in one thread: whoever passes control does not wait for it.
struct Pair {
    file: WindowFile,
    client: Endpoint,
    server: Endpoint,
}

fn give_up() -> Result<Duration, FlipError> {
    Err(FlipError::GaveUp)
}

impl Pair {
    fn new(window_len: u64) -> Pair {
        let mut file = WindowFile::create().unwrap();
        let (offset, length) = file.allocate(window_len as usize).unwrap();
        assert_eq!((offset, length as u64), (0, window_len));
        let map = || Window::map(file.as_fd(), offset, window_len).unwrap();
        let client = Endpoint::new(map(), Side::Client);
        let server = Endpoint::new(map(), Side::Server);
        Pair {
            file,
            client,
            server,
        }
    }

    fn side(&self, name: &str) -> &Endpoint {
        match name {
            "client" => &self.client,
            "server" => &self.server,
            other => panic!("no side {other}"),
        }
    }

    /// The first bytes of the window, as the memory file has them.
    fn bytes(&self, count: usize) -> String {
        let mut bytes = vec![0; count];
        let read = rustix::io::pread(&self.file, &mut bytes, 0).unwrap();
        assert_eq!(read, count);
        to_hex(&bytes)
    }

    /// Takes the step of the scenario that `phase` is the result of.
    fn step(&self, phase: &Json) {
        let window = hex(text(phase, "hex"));
        let datagram = &window[WINDOW_HEADER..];
        let pass = |side: &Endpoint| {
            side.window().write(0, datagram);
            let passed = side.exchange(datagram.len(), &mut give_up);
            assert_eq!(passed, Err(FlipError::GaveUp));
        };
        match text(phase, "phase") {
            "fresh window" => {}
            "connection request" => {
                assert_eq!(self.client.connect(&mut give_up), Err(FlipError::GaveUp));
            }
            "connection response" => {
                assert_eq!(self.server.accept(&mut give_up), Err(FlipError::GaveUp));
            }
            "first request" => {
                assert_eq!(self.client.receive(&mut give_up), Ok(3));
                pass(&self.client);
            }
            "first response" => {
                assert_eq!(self.server.receive(&mut give_up), Ok(12));
                pass(&self.server);
                assert_eq!(self.client.receive(&mut give_up), Ok(datagram.len()));
            }
            "shutdown" => self.side(text(phase, "written_by")).shut_down(),
            other => panic!("no step leads to {other}"),
        }
    }
}

#[test]
fn each_phase_of_a_window_is_as_recorded() {
    let mut phases = 0;
    for scenario in vectors("flipcall_window.json") {
        let Some(recorded) = scenario["phases"].as_array() else {
            continue;
        };
        let pair = Pair::new(number(&scenario, "window_len"));
        for phase in recorded {
            let name = format!("{}: {}", text(&scenario, "scenario"), text(phase, "phase"));
            pair.step(phase);
            let expected = text(phase, "hex");
            assert_eq!(pair.bytes(expected.len() / 2), expected, "{name}");
            phases += 1;
        }
        for side in [&pair.client, &pair.server] {
            let ended = side.exchange(0, &mut give_up);
            assert_eq!(ended, Err(FlipError::ShutDown), "both sides know");
        }
    }
    assert_eq!(phases, 12);
}

#[test]
fn the_window_of_a_channel_is_as_large_as_the_stock_one() {
    let scenarios = vectors("flipcall_window.json");
    let mut stock = scenarios
        .iter()
        .filter(|scenario| scenario.get("requested_len").is_some());
    let stock = stock.next().unwrap();
    let message = number(stock, "max_message_size") as usize;
    let requested = WINDOW_HEADER + ChannelHeader::SIZE + message;
    assert_eq!(requested as u64, number(stock, "requested_len"));
    let mut file = WindowFile::create().unwrap();
    let (offset, length) = file.allocate(requested).unwrap();
    assert_eq!(offset, number(stock, "first_offset"));
    assert_eq!(length as u64, number(stock, "window_len"));
    let window = Window::map(file.as_fd(), offset, length as u64).unwrap();
    assert_eq!(window.capacity() as u64, number(stock, "datagram_capacity"));
}

#[test]
fn a_descriptor_beside_a_channel_travels_as_recorded() {
    let recorded = vectors("fdchannel.json");
    let [recorded] = &recorded[..] else {
        panic!("{} datagrams", recorded.len());
    };
    let (server, client) = PacketSocket::pair().unwrap();
    let kind = rustix::net::sockopt::socket_type(&client).unwrap();
    assert_eq!(kind, SocketType::SEQPACKET);
    assert_eq!(u64::from(kind.as_raw()), number(recorded, "socket_type"));
    // Two descriptors, one after the other, as the server sends what it donates.
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    for fd in [&reader, &writer] {
        server.send(&[], &[fd.as_fd()]).unwrap();
    }
    for _ in 0..number(recorded, "fds_in_datagram") + 1 {
        check_datagram(&client, recorded);
    }
}

/// Receives as a stock client does: with room for control data of just the recorded length.
fn check_datagram(client: &PacketSocket, recorded: &Json) {
    // SOL_SOCKET and SCM_RIGHTS.
    assert_eq!(number(recorded, "cmsg_level"), 1);
    assert_eq!(number(recorded, "cmsg_type"), 1);
    let mut space = [MaybeUninit::uninit(); 64];
    let start = space.as_ptr().align_offset(align_of::<usize>());
    let room = number(recorded, "cmsg_len") as usize;
    let mut control = RecvAncillaryBuffer::new(&mut space[start..start + room]);
    let message = recvmsg(client, &mut [], &mut control, RecvFlags::DONTWAIT).unwrap();
    assert_eq!(message.bytes as u64, number(recorded, "data_len"));
    assert_eq!(
        message.flags.bits() as u64,
        number(recorded, "recv_flags"),
        "control data was cut: {:?}",
        ReturnFlags::CTRUNC
    );
    let mut count = 0;
    for message in control.drain() {
        let RecvAncillaryMessage::ScmRights(fds) = message else {
            panic!("not descriptors");
        };
        count += fds.count();
    }
    assert_eq!(count as u64, number(recorded, "fds_in_datagram"));
}
