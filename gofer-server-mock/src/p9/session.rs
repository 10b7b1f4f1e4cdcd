//! A session: what one Tversion begins and the next, or the end of the connection, ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gofer_9p::wire::{
    DecodeError, Fid, HEADER_SIZE, IO_HEADER_SIZE, Level, Qid, TMessage, Version,
};
use gofer_transport::TransportKind;

use super::channel::SessionChannels;
use super::fids::{Fids, Target};
use super::reply::Reply;
use super::{SHARED, locks};
use crate::host::{Acting, Errno, Export, Identity, Result, Stat};
use crate::limits::Limits;
use crate::survive::survive;

/// Tells the sessions of this process apart.
static SESSIONS: AtomicU64 = AtomicU64::new(0);

/// What the requests of a session share. All of its methods may run at once.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) export: Arc<Export>,
    pub(super) fids: Fids,
    number: u64,
    version: Version,
    msize: u32,
    /// Descriptors can travel beside replies.
    carries_descriptors: bool,
    pub(super) channels: SessionChannels,
}

impl Session {
    pub(super) fn new(
        export: Arc<Export>,
        version: Version,
        msize: u32,
        limits: &Limits,
        transport: TransportKind,
    ) -> Session {
        Session {
            export,
            fids: Fids::new(limits.handles),
            number: SESSIONS.fetch_add(1, Ordering::Relaxed),
            version,
            msize,
            carries_descriptors: transport == TransportKind::Unix,
            channels: SessionChannels::new(limits.channels),
        }
    }

    pub(super) fn msize(&self) -> u32 {
        self.msize
    }

    /// Carries one request out: any type but Tversion and Tflush, which are not the session's.
    pub(super) fn handle(self: &Arc<Session>, kind: u8, body: &[u8], reply: &mut Reply) {
        let done = match TMessage::decode(kind, body) {
            Ok(request) => survive(|| self.dispatch(request, reply)),
            Err(DecodeError::UnknownType(_)) => Err(Errno::OPNOTSUPP),
            Err(_) => Err(Errno::PROTO),
        };
        if let Err(errno) = done {
            reply.fail(errno);
        }
    }

    /// Most bytes of data in one reply (9P 4.4).
    pub(super) fn payload_max(&self) -> usize {
        self.msize.saturating_sub(IO_HEADER_SIZE) as usize
    }

    /// Most bytes of the body of one reply.
    pub(super) fn body_max(&self) -> usize {
        // One less: some clients refuse a reply of exactly msize.
        (self.msize as usize).saturating_sub(HEADER_SIZE + 1)
    }

    /// Whether the dialect has what came with `level`.
    pub(super) fn speaks(&self, level: Level) -> bool {
        self.version.has(level)
    }

    /// Whether a walk that fails half-way is an error, as clients of the Google dialects need
    /// (9P 8.3).
    pub(super) fn walks_whole(&self) -> bool {
        self.version.has(Level::Flushf)
    }

    /// Whether replies may bring descriptors (9P 10.3). Whether they do is the export's to say.
    pub(super) fn donates(&self) -> bool {
        self.carries_descriptors && self.version.has(Level::Flushf)
    }

    /// Whether descriptors can travel at all.
    pub(super) fn carries_descriptors(&self) -> bool {
        self.carries_descriptors
    }

    /// `EROFS` on a read-only export. For what the host layer would not get to see.
    pub(super) fn check_writable(&self) -> Result<()> {
        self.export.policy().check_writable()
    }

    /// What `fid` stands for.
    pub(super) fn target(&self, fid: Fid) -> Result<Target> {
        self.fids.get(fid)
    }

    /// What `fid` stands for, and the calling thread acts as its user while the second lives. For
    /// requests that the host checks, or that make files.
    pub(super) fn act(&self, fid: Fid) -> Result<(Target, Acting)> {
        let target = self.target(fid)?;
        let acting = target.attach.user.assume()?;
        Ok((target, acting))
    }

    /// The qid of the file that `stat` describes.
    pub(super) fn qid(&self, stat: &Stat) -> Qid {
        SHARED.qid_paths.qid(stat)
    }

    /// Who asks for a lock.
    pub(super) fn lock_owner(&self, proc_id: u32, client_id: &[u8]) -> Result<locks::Owner> {
        locks::Owner::new(self.number, proc_id, client_id)
    }

    /// For locks on `file`.
    pub(super) fn lock_handle(&self, file: Identity) -> locks::Handle {
        SHARED.locks.handle(self.number, file)
    }
}
