//! Cuts the stream into requests.

use std::io;
use std::ops::Range;

use gofer_9p::wire::{HEADER_SIZE, Header};
use gofer_transport::{Stream, Wait};

/// Room for the requests of a client that writes little; grows to the largest message when one
/// comes, and goes back when it has gone.
const ROOM: usize = 64 << 10;

/// A request as it arrived.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    pub(super) header: Header,
    pub(super) body: &'a [u8],
    /// Nothing has arrived behind it yet.
    pub(super) alone: bool,
}

/// What was received and not yet taken, in the order of the stream.
#[derive(Debug)]
pub(super) struct Inbox {
    buffer: Vec<u8>,
    unread: Range<usize>,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox {
            buffer: vec![0; ROOM],
            unread: 0..0,
        }
    }

    /// Whether the next request has arrived whole, or can be told to be wrong: then
    /// [`Inbox::next`] does not wait.
    pub(super) fn is_ready(&self, limit: u32) -> bool {
        self.unread.len() >= HEADER_SIZE
            && match self.header(limit) {
                Ok(header) => self.unread.len() >= header.size as usize,
                Err(_) => true,
            }
    }

    /// Whether nothing has arrived behind what was taken.
    pub(super) fn is_empty(&self) -> bool {
        self.unread.is_empty()
    }

    /// Waits for the next request and takes it. `None` is the end of the stream between requests;
    /// the end inside of one is `UnexpectedEof`, a size below 7 or above `limit` is `InvalidData`. Takes no descriptors: the kernel closes what a client sends.
    pub(super) fn next(&mut self, stream: &Stream, limit: u32) -> io::Result<Option<Incoming<'_>>> {
        if !self.fill(stream, HEADER_SIZE)? {
            return Ok(None);
        }
        let header = self.header(limit)?;
        // Bounded by `limit`, which this server has agreed to.
        self.fill(stream, header.size as usize)?;
        let start = self.unread.start;
        self.unread.start += header.size as usize;
        let body = self.buffer.get(start + HEADER_SIZE..self.unread.start);
        Ok(Some(Incoming {
            header,
            body: body.unwrap_or_default(),
            alone: self.unread.is_empty(),
        }))
    }

    fn header(&self, limit: u32) -> io::Result<Header> {
        let bytes = self.buffer.get(self.unread.clone()).unwrap_or_default();
        let head = bytes.first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
        Header::decode(head, limit)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Receives until `count` bytes are unread; `false` if the stream ended before the first.
    fn fill(&mut self, stream: &Stream, count: usize) -> io::Result<bool> {
        if self.unread.len() >= count {
            return Ok(true);
        }
        self.make_room(count);
        while self.unread.len() < count {
            let room = self.buffer.get_mut(self.unread.end..).unwrap_or_default();
            match stream.receive(room, None, &Wait::default())? {
                0 if self.unread.is_empty() => return Ok(false),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                received => self.unread.end += received,
            }
        }
        Ok(true)
    }

    /// Moves what is unread to the front of a buffer in which `count` bytes have room.
    fn make_room(&mut self, count: usize) {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let size = ROOM.max(count).max(self.unread.len());
        if size != self.buffer.len() {
            self.buffer.resize(size, 0);
            self.buffer.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;

    fn send(stream: &Stream, bytes: &[u8]) {
        stream
            .send(&[IoSlice::new(bytes)], &[], &Wait::default())
            .unwrap();
    }

    fn message(size: usize, fill: u8) -> Vec<u8> {
        let mut bytes = vec![fill; size];
        bytes[..4].copy_from_slice(&(size as u32).to_le_bytes());
        bytes
    }

    #[test]
    fn requests_come_out_whole_however_they_arrive() {
        let (client, server) = Stream::pair().unwrap();
        let all = [
            message(7, 1),
            message(200_000, 2),
            message(8, 3),
            message(70_000, 4),
        ]
        .concat();
        let sender = std::thread::spawn(move || {
            for piece in all.chunks(4_999) {
                send(&client, piece);
            }
        });
        let mut inbox = Inbox::new();
        for (size, fill) in [(7, 1), (200_000, 2), (8, 3), (70_000, 4)] {
            let Incoming { header, body, .. } = inbox.next(&server, 1 << 20).unwrap().unwrap();
            assert_eq!((header.size, header.kind), (size, fill));
            assert_eq!(body.len(), size as usize - HEADER_SIZE);
            assert!(body.iter().all(|&byte| byte == fill));
        }
        sender.join().unwrap();
        assert!(inbox.next(&server, 1 << 20).unwrap().is_none());
    }

    #[test]
    fn a_request_that_arrived_with_another_is_seen_to_wait() {
        let (client, server) = Stream::pair().unwrap();
        send(&client, &[message(7, 1), message(9, 2)].concat());
        let mut inbox = Inbox::new();
        assert!(!inbox.next(&server, 100).unwrap().unwrap().alone);
        assert!(inbox.next(&server, 100).unwrap().unwrap().alone);
    }

    #[test]
    fn sizes_out_of_bounds_and_cut_requests_are_errors() {
        for (bytes, kind) in [
            (message(7, 0)[..6].to_vec(), io::ErrorKind::UnexpectedEof),
            (message(9, 0)[..8].to_vec(), io::ErrorKind::UnexpectedEof),
            (vec![6, 0, 0, 0, 1, 0, 0], io::ErrorKind::InvalidData),
            (message(101, 0), io::ErrorKind::InvalidData),
            (vec![255; 7], io::ErrorKind::InvalidData),
        ] {
            let (client, server) = Stream::pair().unwrap();
            send(&client, &bytes);
            drop(client);
            let error = Inbox::new().next(&server, 100).unwrap_err();
            assert_eq!(error.kind(), kind, "{bytes:?}");
        }
    }
}
