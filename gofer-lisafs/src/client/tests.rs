//! `transcript_channel.json`: what this client puts into a window for the calls of a recorded
//! session, and what it makes of the recorded answers.

// Helpers of tests fail by panicking, as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use gofer_transport::flipcall::{Endpoint, FlipError, Side};
use gofer_transport::shm::{Window, WindowFile};
use gofer_transport::{FdQueue, PacketSocket, Stream, Tracer, Wait};
use gofer_vfs::Errno;
use gofer_vfs::remote::{Call, Fate, RemoteError, RemoteResult};
use serde_json::Value as Json;

use super::connection::{Connection, Terms};
use super::incoming::Scatter;
use crate::wire::{AnyRequest, ChannelHeader, ChannelResp, ErrorResp, Message, Mid, MountReq};

/// One recorded request and its answer, each with its header.
struct Exchange {
    step: String,
    request: Vec<u8>,
    answer: Vec<u8>,
    num_fds: usize,
}

/// The exchanges of one transport of the session.
fn recorded(transport: &str) -> Vec<Exchange> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/transcript_channel.json"
    );
    let all: Vec<Json> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let ours: Vec<Json> = all
        .into_iter()
        .filter(|message| message["transport"] == transport)
        .collect();
    let bytes = |message: &Json| {
        let text = message["hex"].as_str().unwrap();
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    };
    ours.chunks(2)
        .map(|pair| {
            assert_eq!(
                (&pair[0]["dir"], &pair[1]["dir"]),
                (&"c2s".into(), &"s2c".into())
            );
            Exchange {
                step: pair[0]["step"].as_str().unwrap().to_owned(),
                request: bytes(&pair[0]),
                answer: bytes(&pair[1]),
                num_fds: pair[1]["num_fds"].as_u64().unwrap() as usize,
            }
        })
        .collect()
}

/// The recorded server: start-up on the socket, everything else on the channel opened last.
fn serve(stream: &Stream) {
    let mut file = WindowFile::create().unwrap();
    let mut channels: Vec<(Endpoint, PacketSocket)> = Vec::new();
    let mut next = Err(FlipError::GaveUp);
    for exchange in recorded("socket") {
        let mut request = vec![0; exchange.request.len()];
        let whole = stream.receive_exact(&mut request, None, &Wait::default());
        assert!(whole.unwrap());
        assert_eq!(request, exchange.request, "{}", exchange.step);
        let mut fds: Vec<OwnedFd> = Vec::new();
        if exchange.num_fds == 2 {
            let place = ChannelResp::decode(&exchange.answer[8..]).unwrap();
            let (offset, length) = file.allocate(place.data_length as usize).unwrap();
            assert_eq!(offset, place.data_offset as u64);
            let window = Window::map(file.as_fd(), offset, length as u64).unwrap();
            let (ours, theirs) = PacketSocket::pair().unwrap();
            channels.push((Endpoint::new(window, Side::Server), ours));
            fds = vec![file.as_fd().try_clone_to_owned().unwrap(), theirs.into()];
        }
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let answer = [IoSlice::new(&exchange.answer)];
        stream.send(&answer, &borrowed, &Wait::default()).unwrap();
        if let (Some((endpoint, _)), 2) = (channels.last(), exchange.num_fds) {
            endpoint.receive(&mut patient()).unwrap();
            endpoint.window().write(0, b"{}\n");
            // Does not wait, but may see the first request already.
            next = endpoint.exchange(3, &mut || Err(FlipError::GaveUp));
        }
    }
    let (endpoint, socket) = channels.last().unwrap();
    if next == Err(FlipError::GaveUp) {
        next = endpoint.receive(&mut patient());
    }
    for exchange in recorded("channel 1") {
        let mut request = vec![0; next.unwrap()];
        endpoint.window().read(0, &mut request);
        let (got, expected) = (masked(request), masked(exchange.request));
        assert_eq!(got, expected, "{}", exchange.step);
        for _ in 0..exchange.num_fds {
            socket.send(&[], &[file.as_fd()]).unwrap();
        }
        endpoint.window().write(0, &exchange.answer);
        next = endpoint.exchange(exchange.answer.len(), &mut patient());
    }
    assert_eq!(next, Err(FlipError::ShutDown));
}

/// A datagram without what its padding holds: in the recorded Listen that is not zero.
fn masked(mut datagram: Vec<u8>) -> Vec<u8> {
    if datagram.starts_with(&Mid::LISTEN.get().to_le_bytes()) {
        datagram[16..20].fill(0);
    }
    datagram
}

fn patient() -> impl FnMut() -> Result<Duration, FlipError> {
    || Ok(Duration::from_millis(100))
}

/// Makes the call that `request` is.
fn ask(connection: &Connection, request: &AnyRequest<'_>) -> RemoteResult<()> {
    let call = Call::default();
    macro_rules! by_type {
        ($($Variant:ident),*) => {
            match request {
                $(AnyRequest::$Variant(request) => {
                    connection.call(&call, request, |_, _: &mut FdQueue| Ok(()))
                })*
                AnyRequest::PRead(read) => {
                    let mut buffer = vec![0; read.count as usize];
                    let into = &mut [IoSliceMut::new(&mut buffer)];
                    let place = (read.fd, read.offset, read.count);
                    connection.read(&call, place, &mut Scatter::new(into)).map(drop)
                }
                AnyRequest::PWrite(write) => {
                    let data = [IoSlice::new(write.data.0)];
                    connection.write(&call, (write.fd, write.offset), &data).map(drop)
                }
                other => panic!("{} is not in the session", other.mid()),
            }
        };
    }
    by_type!(
        FStat,
        SetStat,
        Walk,
        WalkStat,
        OpenAt,
        OpenCreateAt,
        Close,
        FSync,
        MkdirAt,
        MknodAt,
        SymlinkAt,
        LinkAt,
        FStatFS,
        FAllocate,
        ReadLinkAt,
        Connect,
        UnlinkAt,
        RenameAt,
        Getdents64,
        FGetXattr,
        FSetXattr,
        BindAt,
        Listen,
        Accept
    )
}

/// What a call that gets `answer` returns.
fn expected(answer: &[u8]) -> RemoteResult<()> {
    let header = ChannelHeader::decode(answer.first_chunk().unwrap());
    if header.message != Mid::ERROR {
        return Ok(());
    }
    let error = ErrorResp::decode(&answer[ChannelHeader::SIZE..]).unwrap();
    let errno = Errno::from_raw(error.errno as i32);
    Err(RemoteError {
        errno,
        fate: Fate::Refused,
    })
}

#[test]
fn a_recorded_session_puts_the_same_bytes_into_the_window() {
    let (ours, theirs) = Stream::pair().unwrap();
    let server = std::thread::spawn(move || serve(&theirs));
    let connection = Connection::new(ours, None, Tracer::default());
    let mounted = connection.call(&Call::default(), &MountReq {}, |response, _| {
        connection.agree(Terms::new(&response));
        Ok(())
    });
    assert_eq!(mounted, Ok(()));
    connection.open_channels(&Call::default(), 2);
    assert_eq!(connection.channels(), 2);
    let session = recorded("channel 1");
    assert_eq!(session.len(), 91);
    for exchange in session {
        let header = ChannelHeader::decode(exchange.request.first_chunk().unwrap());
        let payload = &exchange.request[ChannelHeader::SIZE..];
        let request = AnyRequest::decode(header.message, payload).unwrap();
        let got = ask(&connection, &request);
        assert_eq!(got, expected(&exchange.answer), "{}", exchange.step);
    }
    connection.shutdown();
    server.join().unwrap();
}
