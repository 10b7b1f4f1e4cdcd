//! Large reads and writes: several pieces under way at once, as in a pipe line.
//!
//! The pieces of a regular file do not depend on each other. A piece that is answered short, or
//! with an error, ends the line there: what lies behind it does not count, and is done again if
//! the transfer goes on. Other files get one piece after the other.

use std::io::{IoSlice, IoSliceMut};

use gofer_vfs::Errno;
use gofer_vfs::remote::{Call, Moved, RemoteError, RemoteResult};

use super::exchange::{EXCHANGE_MAX, Exchange};
use super::handle::Handle;
use super::incoming::{Piece, Sink};
use super::table::Effect;
use crate::wire::{Data, Tag, Tread, Twrite};

/// Most pieces of one transfer that are under way at once.
const PIECES_MAX: usize = 16;

const _: () = assert!(PIECES_MAX <= EXCHANGE_MAX);

/// Most bytes of one transfer that are under way at once; one piece may be more.
const WINDOW_SIZE: usize = 4 << 20;

/// A piece under way, or a free place for one.
const NO_PIECE: Piece = Piece {
    tag: Tag::NONE,
    start: 0,
    len: 0,
};

/// The pieces under way, the oldest first.
struct Line {
    pieces: [Piece; PIECES_MAX],
    /// The request of each.
    requests: [usize; PIECES_MAX],
    count: usize,
    limit: usize,
}

impl Line {
    fn new(handle: &Handle) -> Line {
        let limit = match handle.regular {
            true => (WINDOW_SIZE / handle.io_size.max(1)).clamp(1, PIECES_MAX),
            false => 1,
        };
        Line {
            pieces: [NO_PIECE; PIECES_MAX],
            requests: [0; PIECES_MAX],
            count: 0,
            limit,
        }
    }

    fn is_full(&self) -> bool {
        self.count == self.limit
    }

    fn pieces(&self) -> &[Piece] {
        self.pieces.get(..self.count).unwrap_or_default()
    }

    fn push(&mut self, piece: Piece, request: usize) {
        if let (Some(place), Some(number)) = (
            self.pieces.get_mut(self.count),
            self.requests.get_mut(self.count),
        ) {
            (*place, *number) = (piece, request);
            self.count += 1;
        }
    }

    fn oldest(&self) -> Option<(Piece, usize)> {
        let piece = self.pieces().first()?;
        self.requests.first().map(|request| (*piece, *request))
    }

    fn drop_oldest(&mut self) {
        self.pieces.copy_within(1.., 0);
        self.requests.copy_within(1.., 0);
        self.count -= 1;
    }

    /// How many of the pieces have no answer.
    fn unanswered(&self, exchange: &Exchange<'_>) -> usize {
        let requests = self.requests.get(..self.count).unwrap_or_default();
        let unanswered = |request: &&usize| !exchange.is_answered(**request);
        requests.iter().filter(unanswered).count()
    }
}

/// How one run of the line went.
struct Run {
    /// Bytes moved before the first piece that was not whole.
    moved: usize,
    /// Why it was not.
    end: RemoteResult<End>,
}

#[derive(PartialEq, Eq)]
enum End {
    Complete,
    Short,
    Empty,
}

impl Handle {
    /// Reads until the buffers are full or the file ends.
    pub(super) fn read_all(
        &self,
        call: &Call<'_>,
        into: &mut [IoSliceMut<'_>],
        offset: u64,
    ) -> Moved {
        let total = into.iter().map(|buffer| buffer.len()).sum();
        let mut n = 0;
        while n < total {
            let run = self.read_run(call, into, n..total, offset);
            n += run.moved;
            match run.end {
                // For a regular file only an empty reply is the end (9P 8.6); elsewhere more may
                // take its time.
                Ok(End::Short) if self.regular => {}
                Ok(_) => break,
                Err(error) => return moved(n, Some(error)),
            }
        }
        moved(n, None)
    }

    /// Writes all of the buffers.
    pub(super) fn write_all(&self, call: &Call<'_>, from: &[IoSlice<'_>], offset: u64) -> Moved {
        let total: usize = from.iter().map(|part| part.len()).sum();
        let mut n = 0;
        while n < total {
            let run = self.write_run(call, from, n..total, offset);
            n += run.moved;
            match run.end {
                Ok(End::Complete) => break,
                Ok(End::Short) => {}
                // It would go on like this for ever.
                Ok(End::Empty) => return moved(n, Some(RemoteError::refused(Errno::EIO))),
                Err(error) => return moved(n, Some(error)),
            }
        }
        moved(n, None)
    }

    /// Reads the bytes of `range` up to the first piece that is not whole.
    fn read_run(
        &self,
        call: &Call<'_>,
        into: &mut [IoSliceMut<'_>],
        range: std::ops::Range<usize>,
        offset: u64,
    ) -> Run {
        let mut exchange = self.session().begin(call);
        let mut line = Line::new(self);
        let (mut asked, mut done) = (range.start, 0);
        let mut end = Ok(End::Complete);
        loop {
            while end == Ok(End::Complete) && asked < range.end && !line.is_full() {
                let len = self.io_size.min(range.end - asked);
                match self.push_read(&mut exchange, offset, asked, len) {
                    Ok(Some(request)) => {
                        let (tag, start) = (exchange.tag(request), asked);
                        line.push(Piece { tag, start, len }, request);
                        asked += len;
                    }
                    // Beyond where offsets go.
                    Ok(None) => asked = range.end,
                    Err(error) => end = Err(error),
                }
            }
            let Some((piece, request)) = line.oldest() else {
                break;
            };
            let pieces = line.pieces();
            let mut sink = Sink { into, pieces };
            if !exchange.is_answered(request) {
                let left = line.unanswered(&exchange).saturating_sub(1);
                if let Err(error) = exchange.run_with(&[], Some(&mut sink), left) {
                    return Run {
                        moved: done,
                        end: Err(error),
                    };
                }
                continue;
            }
            if end == Ok(End::Complete) {
                match exchange.data(request) {
                    Ok(data) if data.len() > piece.len => {
                        end = Err(exchange.broken("more data than was asked for"));
                    }
                    Ok(data) => {
                        sink.fill(piece.start, data.as_bytes());
                        done += data.len();
                        end = Ok(how_much(data.len(), piece.len));
                    }
                    Err(error) => end = Err(error),
                }
            }
            exchange.retire(request);
            line.drop_oldest();
        }
        Run { moved: done, end }
    }

    /// The offset of a piece. Files without offsets have none, whatever the piece; others end.
    fn offset_of(&self, offset: u64, at: usize) -> Option<u64> {
        match self.regular {
            true => offset.checked_add(at as u64),
            false => Some(offset.saturating_add(at as u64)),
        }
    }

    fn push_read(
        &self,
        exchange: &mut Exchange<'_>,
        offset: u64,
        at: usize,
        len: usize,
    ) -> RemoteResult<Option<usize>> {
        let Some(offset) = self.offset_of(offset, at) else {
            return Ok(None);
        };
        let request = Tread {
            fid: self.fid(),
            offset,
            count: len as u32,
        };
        exchange.push(request, Effect::None).map(Some)
    }

    /// Writes the bytes of `range` up to the first piece that is not whole.
    fn write_run(
        &self,
        call: &Call<'_>,
        from: &[IoSlice<'_>],
        range: std::ops::Range<usize>,
        offset: u64,
    ) -> Run {
        let mut exchange = self.session().begin(call);
        let mut line = Line::new(self);
        let (mut sent, mut done) = (range.start, 0);
        let mut end = Ok(End::Complete);
        loop {
            let goes_on = end == Ok(End::Complete) && sent < range.end;
            let result = if goes_on && !line.is_full() {
                let len = self.io_size.min(range.end - sent);
                let last = sent + len == range.end;
                let result =
                    self.send_write(&mut exchange, &mut line, from, (sent, len), offset, last);
                sent += len;
                result
            } else if let Some((piece, request)) = line.oldest() {
                if exchange.is_answered(request) {
                    if end == Ok(End::Complete) {
                        end = written(&exchange, request, piece, &mut done);
                    }
                    exchange.retire(request);
                    line.drop_oldest();
                    continue;
                }
                let left = line.unanswered(&exchange).saturating_sub(1);
                exchange.run_with(&[], None, left)
            } else {
                break;
            };
            if let Err(error) = result {
                return Run {
                    moved: done,
                    end: Err(error),
                };
            }
        }
        Run { moved: done, end }
    }

    /// Sends one piece, and waits for replies if nothing else is to be sent now.
    fn send_write(
        &self,
        exchange: &mut Exchange<'_>,
        line: &mut Line,
        from: &[IoSlice<'_>],
        (at, len): (usize, usize),
        offset: u64,
        last: bool,
    ) -> RemoteResult<()> {
        let offset = self
            .offset_of(offset, at)
            .ok_or(RemoteError::not_sent(Errno::EFBIG))?;
        let request = Twrite {
            fid: self.fid(),
            offset,
            data: Data::apart(len),
        };
        let request = exchange.push(request, Effect::None)?;
        let (tag, start) = (exchange.tag(request), at);
        line.push(Piece { tag, start, len }, request);
        let oldest = line
            .oldest()
            .is_some_and(|(_, oldest)| exchange.is_answered(oldest));
        let left = match (last || line.is_full()) && !oldest {
            true => line.unanswered(exchange).saturating_sub(1),
            false => usize::MAX,
        };
        with_slices(from, at, len, |payload| {
            exchange.run_with(payload, None, left)
        })
    }
}

fn moved(n: usize, error: Option<RemoteError>) -> Moved {
    Moved { n, error }
}

fn how_much(moved: usize, len: usize) -> End {
    match moved {
        0 => End::Empty,
        moved if moved < len => End::Short,
        _ => End::Complete,
    }
}

/// What an Rwrite says about its piece.
fn written(
    exchange: &Exchange<'_>,
    request: usize,
    piece: Piece,
    done: &mut usize,
) -> RemoteResult<End> {
    let count = exchange.reply::<Twrite<'_>>(request)?.count as usize;
    if count > piece.len {
        return Err(exchange.broken("more bytes written than were sent"));
    }
    *done += count;
    Ok(how_much(count, piece.len))
}

/// Shows `then` the `len` bytes of `parts` after the first `skip`.
fn with_slices<R>(
    parts: &[IoSlice<'_>],
    skip: usize,
    len: usize,
    then: impl FnOnce(&[IoSlice<'_>]) -> R,
) -> R {
    let mut few = [IoSlice::new(&[]); 4];
    let mut used = 0;
    let mut slices = Slices { parts, skip, len };
    for (place, slice) in few.iter_mut().zip(&mut slices) {
        *place = IoSlice::new(slice);
        used += 1;
    }
    if slices.len == 0 {
        return then(few.get(..used).unwrap_or_default());
    }
    let many: Vec<IoSlice<'_>> = Slices { parts, skip, len }.map(IoSlice::new).collect();
    then(&many)
}

/// `len` bytes of `parts` after the first `skip`.
struct Slices<'a> {
    parts: &'a [IoSlice<'a>],
    skip: usize,
    len: usize,
}

impl<'a> Iterator for Slices<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while let Some((part, rest)) = self.parts.split_first() {
            self.parts = rest;
            let Some(part) = part.get(self.skip..).filter(|part| !part.is_empty()) else {
                self.skip -= part.len();
                continue;
            };
            self.skip = 0;
            let part = part.get(..self.len).unwrap_or(part);
            self.len -= part.len();
            return (!part.is_empty()).then_some(part);
        }
        None
    }
}
