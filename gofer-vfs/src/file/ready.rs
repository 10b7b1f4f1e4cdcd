//! Whether a file can be read or written without waiting (semantics 16.7).

use rustix::event::PollFlags;

use super::File;
use crate::context::Context;
use crate::error::{Errno, Result};
use crate::filesystem::run;
use crate::handle::Handle;
use crate::special;
use crate::superblock::Res;

bitflags::bitflags! {
    /// What a file is ready for: the numbers of `poll(2)`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Readiness: u16 {
        /// Reading does not wait: there is data, or the end.
        const READ = 1;
        /// Writing does not wait.
        const WRITE = 4;
        /// Writing fails: nobody reads any more. Told whether asked for or not.
        const ERROR = 8;
        /// Nobody writes any more. Told whether asked for or not.
        const HANGUP = 0x10;
    }
}

impl Readiness {
    const UNASKED: Readiness = Readiness::ERROR.union(Readiness::HANGUP);

    pub(crate) fn of(flags: PollFlags) -> Readiness {
        Readiness::from_bits_truncate(flags.bits())
    }
}

impl File {
    /// What the file is ready for now. Fifos and sockets are as ready as the descriptor that the
    /// server donated; without one, and for all other files, reading and writing is always said
    /// not to wait. `EBADF` for a file opened with `PATH`. Does not block.
    pub fn ready(&self) -> Result<Readiness> {
        run("poll", &self.path, || self.ready_now())
    }

    /// Waits until the file is ready for one of `want`, or in an error; returns what it is ready
    /// for then. `EINTR` when cancelled, `ETIMEDOUT` at the deadline.
    pub fn wait_ready(&self, cx: &Context<'_>, want: Readiness) -> Result<Readiness> {
        run("poll", &self.path, || {
            loop {
                let ready = self.ready_now()?;
                if ready.intersects(want | Readiness::UNASKED) {
                    return Ok(ready);
                }
                special::wait_for(cx, self.stream()?, want | Readiness::UNASKED)?;
            }
        })
    }

    fn ready_now(&self) -> Res<Readiness> {
        if self.is_path() {
            return Err(Errno::EBADF.into());
        }
        if special::is_seekable(self.file_type()) {
            return Ok(Readiness::READ | Readiness::WRITE);
        }
        special::readiness(self.stream()?)
    }

    /// The handle of a file without offsets.
    fn stream(&self) -> Res<&Handle> {
        match &self.own {
            Some(handle) => Ok(handle),
            None => Err(Errno::EBADF.into()),
        }
    }
}
