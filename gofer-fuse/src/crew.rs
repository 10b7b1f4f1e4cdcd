//! Which threads ask the kernel for requests.
//!
//! The kernel hands requests to the threads that wait for them in turns, so that with many of
//! them each request meets another thread, whose stack and state no processor has at hand. Yet
//! many are needed while requests wait for the server. So only a few threads wait for the kernel,
//! and the others sleep until all of those are at work.
//!
//! fuser has no place to decide that in: a thread that has answered a request, and would be one
//! too many to wait for the next, sleeps before it goes back to fuser.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use parking_lot::{Condvar, Mutex};

use crate::adapter::Adapter;

/// The threads of one mount.
#[derive(Clone)]
struct Crew(Arc<Shared>);

struct Shared {
    /// How many may wait for the kernel.
    waiting_max: usize,
    state: Mutex<State>,
    wake: Condvar,
}

/// Of threads that have served a request before; others are not known here.
#[derive(Default)]
struct State {
    /// They wait for the kernel.
    waiting: usize,
    asleep: usize,
    /// Sleepers that were told to go on, and have not woken yet.
    called: usize,
    /// The mount is gone: nobody sleeps any more.
    over: bool,
}

thread_local! {
    static MEMBER: RefCell<Option<Member>> = const { RefCell::new(None) };
}

/// What this thread is to its crew. fuser's threads end with the mount, and not before.
struct Member {
    crew: Crew,
    waiting: bool,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.crew.0.state.lock().over = true;
        self.crew.0.wake.notify_all();
    }
}

/// A request being served. Once that is over, the thread may have to sleep.
struct Serving<'c>(&'c Crew);

impl Crew {
    fn new(waiting_max: usize) -> Crew {
        Crew(Arc::new(Shared {
            waiting_max: waiting_max.max(1),
            state: Mutex::default(),
            wake: Condvar::new(),
        }))
    }

    /// This thread has been given a request.
    fn serve(&self) -> Serving<'_> {
        let waited = self.mark(false);
        if waited {
            let mut state = self.0.state.lock();
            state.waiting -= 1;
            if state.waiting == 0 && state.asleep > state.called {
                state.called += 1;
                self.0.wake.notify_one();
            }
        }
        Serving(self)
    }

    /// Notes whether this thread waits for the kernel. Returns what was noted before.
    fn mark(&self, waiting: bool) -> bool {
        MEMBER.with_borrow_mut(|member| {
            let member = member.get_or_insert_with(|| Member {
                crew: self.clone(),
                waiting: false,
            });
            std::mem::replace(&mut member.waiting, waiting)
        })
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let shared = &*self.0.0;
        let mut state = shared.state.lock();
        if state.waiting >= shared.waiting_max && !state.over {
            state.asleep += 1;
            while state.called == 0 && !state.over {
                shared.wake.wait(&mut state);
            }
            state.asleep -= 1;
            state.called = state.called.saturating_sub(1);
        }
        state.waiting += 1;
        drop(state);
        self.0.mark(true);
    }
}

/// An adapter whose threads take turns.
pub(crate) struct Served {
    adapter: Adapter,
    crew: Crew,
}

impl Served {
    /// Of `adapter`'s threads `waiting_max` may wait for the kernel at a time.
    pub(crate) fn new(adapter: Adapter, waiting_max: usize) -> Served {
        Served {
            adapter,
            crew: Crew::new(waiting_max),
        }
    }
}

macro_rules! served {
    ($($call:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $call(&self, request: &Request, $($argument: $type),*) {
            let _serving = self.crew.serve();
            self.adapter.$call(request, $($argument),*);
        })*
    };
}

impl Filesystem for Served {
    fn init(&mut self, request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        self.adapter.init(request, config)
    }

    fn destroy(&mut self) {
        self.adapter.destroy();
    }

    served! {
        lookup(parent: INodeNo, name: &OsStr, reply: ReplyEntry);
        forget(number: INodeNo, count: u64);
        getattr(number: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr);
        setattr(number: INodeNo, mode: Option<u32>, uid: Option<u32>, gid: Option<u32>,
            size: Option<u64>, atime: Option<TimeOrNow>, mtime: Option<TimeOrNow>,
            ctime: Option<SystemTime>, handle: Option<FileHandle>, crtime: Option<SystemTime>,
            chgtime: Option<SystemTime>, bkuptime: Option<SystemTime>, flags: Option<BsdFileFlags>,
            reply: ReplyAttr);
        readlink(number: INodeNo, reply: ReplyData);
        mknod(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry);
        mkdir(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry);
        unlink(parent: INodeNo, name: &OsStr, reply: ReplyEmpty);
        rmdir(parent: INodeNo, name: &OsStr, reply: ReplyEmpty);
        symlink(parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry);
        rename(parent: INodeNo, name: &OsStr, new_parent: INodeNo, new_name: &OsStr,
            flags: RenameFlags, reply: ReplyEmpty);
        link(number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry);
        open(number: INodeNo, flags: OpenFlags, reply: ReplyOpen);
        create(parent: INodeNo, name: &OsStr, mode: u32, umask: u32, flags: i32,
            reply: ReplyCreate);
        read(number: INodeNo, handle: FileHandle, offset: u64, size: u32, flags: OpenFlags,
            owner: Option<LockOwner>, reply: ReplyData);
        write(number: INodeNo, handle: FileHandle, offset: u64, data: &[u8],
            write_flags: WriteFlags, flags: OpenFlags, owner: Option<LockOwner>,
            reply: ReplyWrite);
        flush(number: INodeNo, handle: FileHandle, owner: LockOwner, reply: ReplyEmpty);
        release(number: INodeNo, handle: FileHandle, flags: OpenFlags, owner: Option<LockOwner>,
            flush: bool, reply: ReplyEmpty);
        fsync(number: INodeNo, handle: FileHandle, datasync: bool, reply: ReplyEmpty);
        opendir(number: INodeNo, flags: OpenFlags, reply: ReplyOpen);
        readdir(number: INodeNo, handle: FileHandle, offset: u64, reply: ReplyDirectory);
        readdirplus(number: INodeNo, handle: FileHandle, offset: u64, reply: ReplyDirectoryPlus);
        releasedir(number: INodeNo, handle: FileHandle, flags: OpenFlags, reply: ReplyEmpty);
        fsyncdir(number: INodeNo, handle: FileHandle, datasync: bool, reply: ReplyEmpty);
        statfs(number: INodeNo, reply: ReplyStatfs);
        setxattr(number: INodeNo, name: &OsStr, value: &[u8], flags: i32, position: u32,
            reply: ReplyEmpty);
        getxattr(number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr);
        listxattr(number: INodeNo, size: u32, reply: ReplyXattr);
        removexattr(number: INodeNo, name: &OsStr, reply: ReplyEmpty);
        access(number: INodeNo, mask: AccessFlags, reply: ReplyEmpty);
        getlk(number: INodeNo, handle: FileHandle, owner: LockOwner, start: u64, end: u64,
            kind: i32, pid: u32, reply: ReplyLock);
        setlk(number: INodeNo, handle: FileHandle, owner: LockOwner, start: u64, end: u64,
            kind: i32, pid: u32, sleep: bool, reply: ReplyEmpty);
        copy_file_range(from_number: INodeNo, from: FileHandle, offset: u64, to_number: INodeNo,
            to: FileHandle, to_offset: u64, length: u64, flags: CopyFileRangeFlags,
            reply: ReplyWrite);
        fallocate(number: INodeNo, handle: FileHandle, offset: u64, length: u64, mode: i32,
            reply: ReplyEmpty);
        lseek(number: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;

    fn waiting(crew: &Crew) -> (usize, usize) {
        let state = crew.0.state.lock();
        (state.waiting, state.asleep - state.called)
    }

    fn until(crew: &Crew, expected: (usize, usize)) {
        while waiting(crew) != expected {
            std::thread::yield_now();
        }
    }

    /// Threads that each serve one request at the same time, and then wait for the kernel until
    /// the mount is over.
    #[test]
    fn surplus_threads_sleep_until_they_are_needed_and_all_end_with_the_mount() {
        let crew = Crew::new(2);
        let (all_serve, unmounted) = (Barrier::new(6), Barrier::new(3));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let serving = crew.serve();
                    all_serve.wait();
                    drop(serving);
                    if !crew.0.state.lock().over {
                        // One of the two whom the kernel tells that it is gone.
                        unmounted.wait();
                    }
                });
            }
            until(&crew, (2, 4));
            unmounted.wait();
        });
        assert!(crew.0.state.lock().over);
        assert_eq!(crew.0.state.lock().asleep, 0);
    }

    #[test]
    fn the_last_that_goes_to_work_calls_another() {
        let crew = Crew::new(1);
        let [both, work, done] = [2; 3].map(Barrier::new);
        let (free, freed) = channel();
        let first = AtomicBool::new(true);
        std::thread::scope(|scope| {
            for free in [free.clone(), free] {
                let (crew, both, work, done, first) = (&crew, &both, &work, &done, &first);
                scope.spawn(move || {
                    let serving = crew.serve();
                    both.wait();
                    drop(serving);
                    free.send(()).unwrap();
                    if first.swap(false, Ordering::SeqCst) {
                        work.wait();
                        let _again = crew.serve();
                        done.wait();
                    }
                });
            }
            freed.recv().unwrap();
            until(&crew, (1, 1));
            assert!(freed.try_recv().is_err());
            work.wait();
            // While that one works the sleeper waits for the kernel.
            freed.recv().unwrap();
            done.wait();
        });
    }
}
