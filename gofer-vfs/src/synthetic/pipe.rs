//! The pipe behind a synthetic fifo, as `fifo(7)` and `pipe(7)`: 64 KiB, writes of up to
//! `PIPE_BUF` bytes in one piece, lost when nobody has it open any more.

use std::collections::VecDeque;
use std::time::Instant;

use super::*;
use crate::context::Context;
use crate::file::Readiness;
use crate::flags::Access;
use crate::remote::{Cancel, FileLock, Moved};
use crate::superblock::Res;

/// What a pipe holds, in bytes.
pub(crate) const CAPACITY: usize = 64 << 10;

/// Writes of at most this many bytes are not mixed with others.
const PIPE_BUF: usize = 4096;

/// See the module.
pub(super) struct Pipe {
    /// A lock without a rank: nothing else is locked while it is held.
    state: sync::Mutex<State>,
    changed: sync::Condvar,
}

#[derive(Default)]
struct State {
    content: VecDeque<u8>,
    readers: usize,
    writers: usize,
    /// How many ends were opened so far: an end that came and went has been there all the same.
    readers_seen: u64,
    writers_seen: u64,
}

/// An open end.
pub(crate) struct PipeEnd {
    pipe: Arc<Pipe>,
    /// The fifo's.
    attr: Arc<sync::Mutex<Attr>>,
    access: Access,
    closed: std::sync::atomic::AtomicBool,
    /// The other ends that were seen when this one was opened.
    before: (u64, u64),
    /// A writer was there when this one was opened.
    met_writer: bool,
}

impl Pipe {
    pub(super) fn new() -> Arc<Pipe> {
        Arc::new(Pipe {
            state: sync::Mutex::new(State::default()),
            changed: sync::Condvar::new(),
        })
    }

    /// A pipe in which something waits for those who are about to open it.
    pub(super) fn holding(content: &[u8]) -> Arc<Pipe> {
        let pipe = Pipe::new();
        pipe.state.lock().content.extend(content);
        pipe
    }

    /// What waits in it, left where it is.
    pub(super) fn content(&self) -> Vec<u8> {
        self.state.lock().content.iter().copied().collect()
    }

    /// Opens an end, which is there from now on; [`PipeEnd::wait_for_partner`] is what is left
    /// for who `waits`. Who does not gets `ENXIO` for writing without a reader.
    pub(super) fn open(
        self: &Arc<Pipe>,
        access: Access,
        attr: &Arc<sync::Mutex<Attr>>,
        waits: bool,
    ) -> Result<PipeEnd, Errno> {
        let mut state = self.state.lock();
        if access == Access::Write && state.readers == 0 && !waits {
            return Err(Errno::ENXIO);
        }
        let before = (state.readers_seen, state.writers_seen);
        let met_writer = state.writers > 0;
        if access.can_read() {
            state.readers += 1;
            state.readers_seen += 1;
        }
        if access.can_write() {
            state.writers += 1;
            state.writers_seen += 1;
        }
        self.changed.notify_all();
        Ok(PipeEnd {
            pipe: self.clone(),
            attr: attr.clone(),
            access,
            closed: Default::default(),
            before,
            met_writer,
        })
    }

    /// Waits until `done`. `EINTR` when cancelled, `ETIMEDOUT` at the deadline.
    fn wait(self: &Arc<Pipe>, cx: &Context<'_>, done: impl Fn(&State) -> bool) -> Res<()> {
        crate::locks::assert_may_call();
        let _watch = cx.cancel.map(|cancel| {
            let pipe = self.clone();
            cancel.watch(Arc::new(move || {
                let _state = pipe.state.lock();
                pipe.changed.notify_all();
            }))
        });
        let mut state = self.state.lock();
        loop {
            if done(&state) {
                return Ok(());
            }
            if cx.cancel.is_some_and(Cancel::is_set) {
                return Err(Errno::EINTR.into());
            }
            match cx.deadline {
                Some(at) if Instant::now() >= at => return Err(Errno::ETIMEDOUT.into()),
                Some(at) => {
                    let _ = self.changed.wait_until(&mut state, at);
                }
                None => self.changed.wait(&mut state),
            }
        }
    }
}

impl State {
    fn room_for(&self, len: usize) -> usize {
        let room = CAPACITY - self.content.len();
        match len <= PIPE_BUF && room < len {
            true => 0,
            false => room.min(len),
        }
    }
}

impl PipeEnd {
    /// Waits until an end for the other direction is there, or has been since this one was opened.
    pub(crate) fn wait_for_partner(&self, cx: &Context<'_>) -> Res<()> {
        let (readers, writers) = self.before;
        self.pipe.wait(cx, |state| match self.access {
            Access::Read => state.writers > 0 || state.writers_seen > writers,
            Access::Write => state.readers > 0 || state.readers_seen > readers,
            Access::ReadWrite => true,
        })
    }

    /// Waits until reading would not block.
    pub(crate) fn wait_readable(&self, cx: &Context<'_>) -> Res<()> {
        self.pipe
            .wait(cx, |state| !state.content.is_empty() || state.writers == 0)
    }

    /// Waits until a write of `len` bytes would not block.
    pub(crate) fn wait_writable(&self, cx: &Context<'_>, len: usize) -> Res<()> {
        self.pipe
            .wait(cx, |state| state.room_for(len) > 0 || state.readers == 0)
    }

    /// What this end is ready for now, as `poll(2)` tells of a host's pipe.
    pub(crate) fn readiness(&self) -> Readiness {
        self.readiness_in(&self.pipe.state.lock())
    }

    fn readiness_in(&self, state: &State) -> Readiness {
        let mut ready = Readiness::empty();
        if self.access.can_read() {
            ready.set(Readiness::READ, !state.content.is_empty());
            let had_writers = self.met_writer || state.writers_seen > self.before.1;
            ready.set(Readiness::HANGUP, state.writers == 0 && had_writers);
        }
        if self.access.can_write() {
            ready.set(Readiness::WRITE, state.room_for(PIPE_BUF) > 0);
            ready.set(Readiness::ERROR, state.readers == 0);
        }
        ready
    }

    /// Waits until this end is ready for one of `want`.
    pub(crate) fn wait_for(&self, cx: &Context<'_>, want: Readiness) -> Res<()> {
        self.pipe
            .wait(cx, |state| self.readiness_in(state).intersects(want))
    }

    fn take(&self, into: &mut [IoSliceMut<'_>]) -> Result<usize, Errno> {
        let mut state = self.pipe.state.lock();
        if state.content.is_empty() {
            return match state.writers {
                0 => Ok(0),
                _ => Err(Errno::EAGAIN),
            };
        }
        let mut taken = 0;
        for part in into {
            let mut rest: &mut [u8] = part;
            // Each read stops where the buffer wraps around.
            while let Ok(n @ 1..) = std::io::Read::read(&mut state.content, rest) {
                taken += n;
                rest = rest.get_mut(n..).unwrap_or_default();
            }
        }
        self.pipe.changed.notify_all();
        Ok(taken)
    }

    fn put(&self, from: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let mut state = self.pipe.state.lock();
        if state.readers == 0 {
            return Err(Errno::EPIPE);
        }
        let len: usize = from.iter().map(|part| part.len()).sum();
        let room = state.room_for(len);
        if room == 0 && len > 0 {
            return Err(Errno::EAGAIN);
        }
        let bytes = from.iter().flat_map(|part| part.iter().copied());
        state.content.extend(bytes.take(room));
        self.pipe.changed.notify_all();
        Ok(room)
    }

    fn retire(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut state = self.pipe.state.lock();
        state.readers -= usize::from(self.access.can_read());
        state.writers -= usize::from(self.access.can_write());
        if state.readers + state.writers == 0 {
            state.content = VecDeque::new();
        }
        self.pipe.changed.notify_all();
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.retire();
    }
}

fn moved(done: Result<usize, Errno>) -> Moved {
    match done {
        Ok(n) => Moved { n, error: None },
        Err(errno) => Moved::refused(errno),
    }
}

impl RemoteHandle for PipeEnd {
    fn read_at(&self, _call: &Call<'_>, into: &mut [IoSliceMut<'_>], _offset: u64) -> Moved {
        moved(self.take(into))
    }

    fn write_at(&self, _call: &Call<'_>, from: &[IoSlice<'_>], _offset: u64) -> Moved {
        moved(self.put(from))
    }

    fn attr(&self, _call: &Call<'_>, _want: AttrMask) -> RemoteResult<Attr> {
        Ok(*self.attr.lock())
    }

    /// Nobody but this client has any.
    fn lock(&self, _call: &Call<'_>, _lock: &FileLock) -> RemoteResult<()> {
        Ok(())
    }

    fn test_lock(&self, _call: &Call<'_>, _lock: &FileLock) -> RemoteResult<Option<FileLock>> {
        Ok(None)
    }

    fn close(&self, _call: &Call<'_>, _when: Promptness) -> RemoteResult<()> {
        self.retire();
        Ok(())
    }
}
