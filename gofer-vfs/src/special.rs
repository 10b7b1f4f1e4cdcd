//! Files whose every description has a handle of its own: devices and fifos (semantics 16).

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};

use crate::attr::FileType;
use crate::context::Context;
use crate::dentry::Node;
use crate::error::Errno;
use crate::file::Readiness;
use crate::flags::{Access, OpenFlags};
use crate::handle::Handle;
use crate::locks;
use crate::remote::Cancel;
use crate::superblock::Res;

/// How often a fifo without its other end is tried again, first and at last. The server opens
/// without blocking and has no way to tell when the other end appears.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Pauses between attempts, each longer than the one before.
struct Pauses(Duration);

impl Pauses {
    fn new() -> Pauses {
        Pauses(RETRY.0)
    }

    /// Waits for the next attempt. `EINTR` when cancelled, `ETIMEDOUT` at the deadline.
    fn pause(&mut self, cx: &Context<'_>) -> Res<()> {
        let time = self.0;
        self.0 = (time * 2).min(RETRY.1);
        wait(cx, None, Some(time))
    }
}

/// Opens a device or a fifo. Blocks on a fifo until the other end is there, unless told not to.
pub(crate) fn open(
    cx: &Context<'_>,
    node: &Node,
    access: Access,
    flags: OpenFlags,
) -> Res<Arc<Handle>> {
    if flags.contains(OpenFlags::DIRECT) {
        return Err(Errno::EINVAL.into());
    }
    let sb = node.sb();
    let file = node.remote();
    let waits = node.file_type() == FileType::Fifo && !flags.contains(OpenFlags::NONBLOCK);
    if waits && node.is_synthetic() {
        let end = node.open_synthetic_fifo(access)?;
        let handle = Handle::new(sb, Arc::new(end), access);
        if let Some(end) = handle.pipe_end() {
            end.wait_for_partner(cx)?;
        }
        return Ok(handle);
    }
    let mut pauses = Pauses::new();
    let handle = loop {
        match Handle::open(sb, cx, &*file, access, false) {
            Err(failure) if waits && failure.errno() == Errno::ENXIO => pauses.pause(cx)?,
            outcome => break outcome?,
        }
    };
    handle.close_promptly();
    if waits
        && access == Access::Read
        && let Some(fd) = handle.host_fd()
    {
        wait_for_writer(cx, fd)?;
    }
    Ok(handle)
}

/// Waits until somebody has the fifo open for writing: then reading it without a byte there
/// would block rather than end. Copying a byte aside is the only way to see that without
/// taking it. A watch tells when somebody opens the fifo; where there is none, it is looked at
/// again and again.
fn wait_for_writer(cx: &Context<'_>, fifo: BorrowedFd<'_>) -> Res<()> {
    let (aside, copy) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(Errno::from)?;
    let has_writer = || match tee(fifo, &copy, 1, SpliceFlags::NONBLOCK) {
        Ok(0) => Ok(false),
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(true),
        Err(errno) => Err(Errno::from(errno)),
    };
    let opened = Opened::watch(fifo);
    let mut pauses = Pauses::new();
    while !has_writer()? {
        let waited = match &opened {
            Some(opened) => wait(cx, Some((opened.0.as_fd(), PollFlags::IN)), None),
            None => pauses.pause(cx),
        };
        let came_and_went = opened.as_ref().is_some_and(Opened::writer_left);
        // A writer that came meanwhile has had its open succeed: do not leave it alone.
        if let Err(failure) = waited
            && !has_writer()?
            && !came_and_went
        {
            return Err(failure);
        }
        if came_and_went {
            break;
        }
    }
    drop(aside);
    Ok(())
}

/// A watch on a fifo of this host, through the descriptor.
struct Opened(OwnedFd);

impl Opened {
    /// `None` where `/proc` is missing, or watches are used up.
    fn watch(fifo: BorrowedFd<'_>) -> Option<Opened> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags).ok()?;
        let path = format!("/proc/self/fd/{}", fifo.as_raw_fd());
        let events = WatchFlags::OPEN | WatchFlags::CLOSE_WRITE;
        inotify::add_watch(&watch, path, events).ok()?;
        Some(Opened(watch))
    }

    /// Whether a writer was there and has gone, since this was asked last.
    fn writer_left(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        let mut left = false;
        while let Ok(event) = events.next() {
            left |= event.events().contains(ReadFlags::CLOSE_WRITE);
        }
        left
    }
}

/// Waits until `fd` is readable. `EINTR` when cancelled, `ETIMEDOUT` at the deadline.
pub(crate) fn wait_readable(cx: &Context<'_>, fd: BorrowedFd<'_>) -> Res<()> {
    wait(cx, Some((fd, PollFlags::IN)), None)
}

/// Waits until `fd` has one of `flags`, if it is given, for `at_most` a time.
fn wait(
    cx: &Context<'_>,
    fd: Option<(BorrowedFd<'_>, PollFlags)>,
    at_most: Option<Duration>,
) -> Res<()> {
    locks::assert_may_call();
    if cx.cancel.is_some_and(Cancel::is_set) {
        return Err(Errno::EINTR.into());
    }
    let now = Instant::now();
    let left = cx
        .deadline
        .map(|deadline| deadline.saturating_duration_since(now));
    if left == Some(Duration::ZERO) {
        return Err(Errno::ETIMEDOUT.into());
    }
    let time = [left, at_most].into_iter().flatten().min();
    let time = time.map(|time| Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    let mut fds = Vec::with_capacity(2);
    if let Some((fd, flags)) = &fd {
        fds.push(PollFd::from_borrowed_fd(fd.as_fd(), *flags));
    }
    if let Some(cancel) = cx.cancel {
        fds.push(PollFd::new(cancel, PollFlags::IN));
    }
    match poll(&mut fds, time.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(Errno::from(errno).into()),
    }
    if cx.cancel.is_some_and(Cancel::is_set) {
        return Err(Errno::EINTR.into());
    }
    Ok(())
}

/// The offset that means "where the file stands", for files that have no offsets.
const CURRENT: u64 = u64::MAX;

/// Whether a file of this type has offsets (semantics 16.4).
pub(crate) fn is_seekable(file_type: FileType) -> bool {
    !matches!(file_type, FileType::Fifo | FileType::Socket)
}

/// The most a fifo can hold, as far as it is taken out of it.
const DRAINED_MAX: usize = 512 << 10;

/// Takes what a fifo holds out of it, without waiting, and keeps it to be read from the handle.
/// Returns a copy.
pub(crate) fn drain(cx: &Context<'_>, handle: &Handle) -> Vec<u8> {
    let mut drained = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while drained.len() < DRAINED_MAX {
        match read_stream(cx, handle, &mut buffer, false) {
            Ok(n) if n > 0 => drained.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            // Nothing more, or nobody writes: whatever it is, the next read meets it again.
            _ => break,
        }
    }
    handle.push_back(&drained);
    drained
}

/// Reads from a file without offsets. Waits for data unless `blocks` is false (`EAGAIN`).
pub(crate) fn read_stream(
    cx: &Context<'_>,
    handle: &Handle,
    into: &mut [u8],
    blocks: bool,
) -> Res<usize> {
    if into.is_empty() {
        return Ok(0);
    }
    if let Some(n) = handle.take_back(into) {
        return Ok(n);
    }
    let mut pauses = Pauses::new();
    loop {
        let outcome = match handle.host_fd() {
            Some(fd) => {
                locks::assert_may_call();
                handle.count_host_read();
                rustix::io::read(fd, &mut *into).map_err(|errno| Errno::from(errno).into())
            }
            None => handle.read_at(cx, into, CURRENT),
        };
        match outcome {
            Err(failure) if blocks && failure.errno() == Errno::EAGAIN => {
                wait_ready(cx, handle, PollFlags::IN, into.len(), &mut pauses)?;
            }
            Err(failure) if failure.errno() == Errno::EINTR && handle.host_fd().is_some() => {}
            outcome => return outcome,
        }
    }
}

/// Writes to a file without offsets. Waits for room unless `blocks` is false (`EAGAIN`).
pub(crate) fn write_stream(
    cx: &Context<'_>,
    handle: &Handle,
    from: &[u8],
    blocks: bool,
) -> Res<usize> {
    let mut done = 0;
    let mut pauses = Pauses::new();
    while done < from.len() {
        let rest = from.get(done..).unwrap_or_default();
        let outcome: Res<usize> = match handle.host_fd() {
            Some(fd) => {
                locks::assert_may_call();
                handle.count_host_write();
                rustix::io::write(fd, rest).map_err(|errno| Errno::from(errno).into())
            }
            None => match handle.write_at(cx, rest, CURRENT) {
                (0, Some(failure)) => Err(failure),
                (n, _) => Ok(n),
            },
        };
        match outcome {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(failure) if failure.errno() == Errno::EAGAIN => {
                if !blocks {
                    break;
                }
                match wait_ready(cx, handle, PollFlags::OUT, rest.len(), &mut pauses) {
                    Err(failure) if done == 0 => return Err(failure),
                    Err(_) => break,
                    Ok(()) => {}
                }
            }
            Err(failure) if failure.errno() == Errno::EINTR && handle.host_fd().is_some() => {}
            Err(failure) if done == 0 => return Err(failure),
            Err(_) => break,
        }
    }
    if done == 0 && !from.is_empty() {
        return Err(Errno::EAGAIN.into());
    }
    Ok(done)
}

/// What the handle of a file without offsets is ready for now (semantics 16.7).
pub(crate) fn readiness(handle: &Handle) -> Res<Readiness> {
    let kept = match handle.has_back() {
        true => Readiness::READ,
        false => Readiness::empty(),
    };
    if let Some(end) = handle.pipe_end() {
        return Ok(kept | end.readiness());
    }
    let Some(fd) = handle.host_fd() else {
        return Ok(Readiness::READ | Readiness::WRITE);
    };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN | PollFlags::OUT)];
    loop {
        match poll(&mut fds, Some(&Timespec::default())) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Errno::from(errno).into()),
        }
    }
    let now = fds.first().map_or(PollFlags::empty(), PollFd::revents);
    Ok(kept | Readiness::of(now))
}

/// Waits until the handle is ready for one of `want`, or may be. Only for handles that are not
/// always ready.
pub(crate) fn wait_for(cx: &Context<'_>, handle: &Handle, want: Readiness) -> Res<()> {
    if let Some(end) = handle.pipe_end() {
        return end.wait_for(cx, want);
    }
    match handle.host_fd() {
        Some(fd) => wait(
            cx,
            Some((fd, PollFlags::from_bits_retain(want.bits()))),
            None,
        ),
        None => Ok(()),
    }
}

/// Waits until the handle may be ready for `len` bytes: with its descriptor, else by trying again
/// soon.
fn wait_ready(
    cx: &Context<'_>,
    handle: &Handle,
    flags: PollFlags,
    len: usize,
    pauses: &mut Pauses,
) -> Res<()> {
    if let Some(end) = handle.pipe_end() {
        return match flags {
            PollFlags::IN => end.wait_readable(cx),
            _ => end.wait_writable(cx, len),
        };
    }
    match handle.host_fd() {
        Some(fd) => wait(cx, Some((fd, flags)), None),
        None => pauses.pause(cx),
    }
}
