//! Targets that send whatever bytes to a server as the requests of a client.
//!
//! The server must answer each request once with what can be its answer, end when its client
//! hangs up, and leave nothing open.

use gofer_9p::wire::{HEADER_SIZE, Header, MSIZE_MAX, Message, RMessage, Rlerror, TMessage, Tag};
use gofer_lisafs::wire::{AnyRequest, AnyResponse, Mid, SocketHeader};
use gofer_server_mock::limits::Limits;
use gofer_server_mock::server::Protocol;

use crate::session::{Alone, Session};

/// Bytes of answers after which the client hangs up without reading the rest.
const OUTPUT_MAX: usize = 16 << 20;

/// Inputs that reserve more bytes in a file are left out: the host would really set them aside.
const RESERVE_MAX: u64 = 1 << 20;

/// Frames of lisafs on the socket.
pub fn lisafs(input: &[u8]) {
    let limits = Limits::default();
    let requests = lisafs_requests(input);
    if requests.iter().any(|&(mid, body)| reserves_much(mid, body)) {
        return;
    }
    let mut count = 0;
    let all_read = run(Protocol::Lisafs, limits, input, &mut |answers| {
        let (header, rest) = answers.split_first_chunk()?;
        let header = SocketHeader::decode(header);
        let length = header.payload_len.get();
        assert!(length <= limits.message_size, "{length} bytes of answer");
        let payload = rest.get(..length as usize)?;
        let (asked, _) = *requests.get(count).expect("more answers than requests");
        check_lisafs_answer(asked, header.message, payload);
        count += 1;
        Some(SocketHeader::SIZE + payload.len())
    });
    // What begins as a 9P client does is not even listened to.
    if all_read && input.get(4) != Some(&100) {
        assert_eq!(count, requests.len(), "requests without an answer");
    }
}

/// Messages of 9P.
pub fn p9(input: &[u8]) {
    let limits = Limits::default();
    let mut requests = p9_requests(input);
    if requests.iter().any(|request| request.reserves_much()) {
        return;
    }
    run(Protocol::P9, limits, input, &mut |answers| {
        let bytes = answers.first_chunk::<HEADER_SIZE>()?;
        let header = Header::decode(bytes, MSIZE_MAX).expect("a header");
        let body = answers.get(HEADER_SIZE..header.size as usize)?;
        RMessage::decode(header.kind, body).expect("an answer that decodes");
        let index = requests
            .iter()
            .position(|request| request.may_get(&header))
            .unwrap_or_else(|| panic!("{header:?} answers nothing"));
        requests.remove(index);
        Some(header.size as usize)
    });
}

/// Whether `mid` with this payload is an answer to `asked`.
pub(crate) fn check_lisafs_answer(asked: Mid, mid: Mid, payload: &[u8]) {
    assert!(mid == Mid::ERROR || mid == asked, "{mid} answers {asked}");
    AnyResponse::decode(mid, payload).expect("an answer that decodes");
}

/// Whether a lisafs request would fill the host's disk.
pub(crate) fn reserves_much(mid: Mid, payload: &[u8]) -> bool {
    match AnyRequest::decode(mid, payload) {
        Ok(AnyRequest::FAllocate(request)) => {
            request.offset.saturating_add(request.length) > RESERVE_MAX
        }
        _ => false,
    }
}

/// Has a server take `input`. `check` gets the answers that are unread and says how many bytes
/// the first of them has; `None` while it is incomplete. `false`: not all answers were read.
fn run(
    protocol: Protocol,
    limits: Limits,
    input: &[u8],
    check: &mut dyn FnMut(&[u8]) -> Option<usize>,
) -> bool {
    let alone = Alone::begin();
    let mut session = Session::start(protocol, limits);
    let (mut unread, mut total) = (Vec::new(), 0);
    session.feed(input, &mut |output| {
        total += output.len();
        unread.extend_from_slice(output);
        let mut checked = 0;
        while let Some(size) = check(&unread[checked..]) {
            checked += size;
        }
        unread.drain(..checked);
        total < OUTPUT_MAX
    });
    session.end();
    alone.end();
    if total < OUTPUT_MAX {
        assert!(unread.is_empty(), "the last answer is cut");
    }
    total < OUTPUT_MAX
}

/// The complete requests in a stream, up to where it stops to be one.
fn lisafs_requests(mut stream: &[u8]) -> Vec<(Mid, &[u8])> {
    let mut requests = Vec::new();
    while let Some((header, rest)) = stream.split_first_chunk() {
        let header = SocketHeader::decode(header);
        let Some(payload) = rest.get(..header.payload_len.get() as usize) else {
            break;
        };
        requests.push((header.message, payload));
        stream = &rest[payload.len()..];
    }
    requests
}

struct P9Request<'a> {
    kind: u8,
    tag: Tag,
    body: &'a [u8],
}

impl P9Request<'_> {
    fn may_get(&self, answer: &Header) -> bool {
        let is_its =
            answer.kind == Rlerror::KIND || u16::from(answer.kind) == u16::from(self.kind) + 1;
        is_its && answer.tag == self.tag
    }

    fn reserves_much(&self) -> bool {
        match TMessage::decode(self.kind, self.body) {
            Ok(TMessage::Tallocate(request)) => {
                request.offset.saturating_add(request.length) > RESERVE_MAX
            }
            _ => false,
        }
    }
}

fn p9_requests(mut stream: &[u8]) -> Vec<P9Request<'_>> {
    let mut requests = Vec::new();
    while let Some(bytes) = stream.first_chunk::<HEADER_SIZE>() {
        let Ok(header) = Header::decode(bytes, MSIZE_MAX) else {
            break;
        };
        let Some((message, rest)) = stream.split_at_checked(header.size as usize) else {
            break;
        };
        requests.push(P9Request {
            kind: header.kind,
            tag: header.tag,
            body: &message[HEADER_SIZE..],
        });
        stream = rest;
    }
    requests
}
