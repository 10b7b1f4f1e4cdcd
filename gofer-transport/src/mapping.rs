//! Mappings of files for whoever works on memory rather than with reads and writes.
//!
//! The file may shrink under a mapping, and touching what is gone is a signal. So nothing here
//! touches it: [`Mapping::read`] and [`Mapping::write`] have the kernel copy, which reports a
//! fault as an error. Only a user's own code that follows [`Mapping::as_ptr`] takes the risk.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MsyncFlags, ProtFlags, madvise, mmap, msync, munmap};

/// What may be done with mapped memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// It can be written.
    pub write: bool,
    /// It can be executed.
    pub execute: bool,
    /// Writes go to the file; otherwise they stay private to the mapping.
    pub shared: bool,
}

/// A range of a file, mapped readable until this is dropped.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    length: usize,
    access: Access,
}

// SAFETY: the mapping belongs to this value until drop, and is reached only by the kernel's
// copies, so threads may share it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of `file` at `offset`, which is a multiple of the page size. It may
    /// reach beyond the end of the file.
    pub fn new(
        file: BorrowedFd<'_>,
        offset: u64,
        length: usize,
        access: Access,
    ) -> io::Result<Mapping> {
        // SAFETY: a fresh mapping at an address of the kernel's choice; nothing is replaced.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                protection(access),
                sharing(access),
                file,
                offset,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(Errno::FAULT)?;
        Ok(Mapping {
            base,
            length,
            access,
        })
    }

    /// Puts another file in place of the one that is mapped, at the same addresses, in one step.
    /// What was written privately is lost.
    pub fn replace(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<()> {
        // SAFETY: the range is this mapping's own, whole pages, and is given up to the new one.
        // No reference into it exists: memory behind `as_ptr` may change at any time anyway.
        unsafe {
            mmap(
                self.base.as_ptr().cast(),
                self.length,
                protection(self.access),
                sharing(self.access) | MapFlags::FIXED,
                file,
                offset,
            )?;
        }
        Ok(())
    }

    /// Has a fault read no more of the file than the kernel's usual 64 KiB around it: nothing is
    /// read ahead. What is in memory already may be mapped in larger pieces (since Linux 6.18).
    pub fn map_in_small_pieces(&self) {
        for advice in [Advice::LinuxNoHugepage, Advice::Random] {
            // SAFETY: advice of this kind changes no content and no address.
            // Kernels without large pages refuse the first, and need it not.
            let _ = unsafe { madvise(self.base.as_ptr().cast(), self.length, advice) };
        }
    }

    /// Bytes that are mapped.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Where it is in memory. Whoever follows the pointer must expect the bytes to change at any
    /// time, and `SIGBUS` in pages that the file no longer reaches.
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Copies bytes from `at` on to `into`; fewer than asked if the file, or the mapping, ends.
    /// `EFAULT` if there are none.
    pub fn read(&self, at: usize, into: &mut [u8]) -> io::Result<usize> {
        self.copy(at, into.len(), |ours, mapped, pid| {
            let local = iovec(into.as_mut_ptr().cast(), ours);
            // SAFETY: `local` is all of `into`, or a part of it; the other side is checked by
            // the kernel, which reports what it cannot read.
            unsafe { libc::process_vm_readv(pid, &local, 1, mapped, 1, 0) }
        })
    }

    /// Copies `from` to `at`; fewer bytes if the file, or the mapping, ends. `EFAULT` if it takes
    /// none, also for a mapping that cannot be written.
    pub fn write(&self, at: usize, from: &[u8]) -> io::Result<usize> {
        self.copy(at, from.len(), |ours, mapped, pid| {
            let local = iovec(from.as_ptr().cast_mut().cast(), ours);
            // SAFETY: the kernel only reads `local`, which is all of `from` or a part of it, and
            // writes to this mapping's own memory, into which no reference exists.
            unsafe { libc::process_vm_writev(pid, &local, 1, mapped, 1, 0) }
        })
    }

    /// Has `step` copy what fits; the kernel stops at the first page that is not there.
    fn copy(
        &self,
        at: usize,
        length: usize,
        mut step: impl FnMut(usize, &libc::iovec, libc::pid_t) -> isize,
    ) -> io::Result<usize> {
        let length = length.min(self.length.saturating_sub(at));
        if length == 0 {
            return Ok(0);
        }
        // SAFETY: `at` is below the length of the mapping.
        let mapped = iovec(unsafe { self.base.as_ptr().add(at) }.cast(), length);
        // SAFETY: has no preconditions.
        let pid = unsafe { libc::getpid() };
        let done = step(length, &mapped, pid);
        usize::try_from(done).map_err(|_| io::Error::last_os_error())
    }

    /// msync(2) of all pages that hold some of these bytes: waits until the file has them.
    pub fn sync(&self, at: usize, length: usize) -> io::Result<()> {
        let page = rustix::param::page_size();
        let start = at.min(self.length) / page * page;
        let end = at.saturating_add(length).min(self.length);
        if start >= end {
            return Ok(());
        }
        // SAFETY: the range lies in this mapping; its content does not change.
        unsafe {
            let start_at = self.base.as_ptr().add(start);
            msync(start_at.cast(), end - start, MsyncFlags::SYNC)?;
        }
        Ok(())
    }
}

fn protection(access: Access) -> ProtFlags {
    let mut flags = ProtFlags::READ;
    flags.set(ProtFlags::WRITE, access.write);
    flags.set(ProtFlags::EXEC, access.execute);
    flags
}

fn sharing(access: Access) -> MapFlags {
    match access.shared {
        true => MapFlags::SHARED,
        false => MapFlags::PRIVATE,
    }
}

fn iovec(base: *mut libc::c_void, length: usize) -> libc::iovec {
    libc::iovec {
        iov_base: base,
        iov_len: length,
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new`, is ours, and nobody can reach it through this
        // value any more; whoever kept its pointer was told that it ends here.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    const SHARED: Access = Access {
        write: true,
        execute: false,
        shared: true,
    };

    fn file(bytes: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn what_is_written_is_in_the_file_if_it_is_shared() {
        let one = file(&[1; 8192]);
        let mapping = Mapping::new(one.as_fd(), 4096, 4096, SHARED).unwrap();
        assert_eq!(mapping.write(10, b"here").unwrap(), 4);
        mapping.sync(10, 4).unwrap();
        let mut bytes = [0; 6];
        rustix::io::pread(&one, &mut bytes, 4096 + 9).unwrap();
        assert_eq!(&bytes, b"\x01here\x01");

        let private = Access {
            shared: false,
            ..SHARED
        };
        let mapping = Mapping::new(one.as_fd(), 4096, 4096, private).unwrap();
        assert_eq!(mapping.write(10, b"gone").unwrap(), 4);
        mapping.read(9, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\x01gone\x01");
        rustix::io::pread(&one, &mut bytes, 4096 + 9).unwrap();
        assert_eq!(&bytes, b"\x01here\x01");
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_and_no_signal() {
        let one = file(&[1; 8192]);
        let mapping = Mapping::new(one.as_fd(), 0, 16384, SHARED).unwrap();
        let mut bytes = [0; 8192];
        assert_eq!(mapping.read(4096, &mut bytes).unwrap(), 4096);
        one.set_len(4096).unwrap();
        let fault = Some(libc::EFAULT);
        let error = mapping.read(4096, &mut bytes).unwrap_err();
        assert_eq!(error.raw_os_error(), fault);
        let error = mapping.write(4096, b"x").unwrap_err();
        assert_eq!(error.raw_os_error(), fault);
        assert_eq!(mapping.read(16384, &mut bytes).unwrap(), 0);
    }

    #[test]
    fn another_file_takes_the_place_at_the_same_address() {
        let (one, two) = (file(&[1; 4096]), file(&[2; 4096]));
        let mapping = Mapping::new(one.as_fd(), 0, 4096, SHARED).unwrap();
        let before = mapping.as_ptr();
        mapping.replace(two.as_fd(), 0).unwrap();
        let mut byte = [0];
        mapping.read(0, &mut byte).unwrap();
        assert_eq!((byte, mapping.as_ptr()), ([2], before));
    }

    #[test]
    fn what_may_not_be_written_is_not() {
        let one = file(&[1; 4096]);
        let readonly = Access {
            write: false,
            ..SHARED
        };
        let mapping = Mapping::new(one.as_fd(), 0, 4096, readonly).unwrap();
        assert!(mapping.write(0, b"x").is_err());
    }

    /// Bytes of the file that are in memory.
    fn in_memory(mapping: &Mapping) -> usize {
        let page = rustix::param::page_size();
        let mut pages = vec![0u8; mapping.length.div_ceil(page)];
        // SAFETY: the range is the mapping's own, and there is a byte for each of its pages.
        let done = unsafe {
            libc::mincore(
                mapping.base.as_ptr().cast(),
                mapping.length,
                pages.as_mut_ptr(),
            )
        };
        assert_eq!(done, 0);
        page * pages.iter().filter(|page| **page & 1 == 1).count()
    }

    #[test]
    fn a_fault_in_small_pieces_reads_little() {
        // Beside the program: pages of a file that is nowhere but in memory cannot be dropped.
        let program = std::env::current_exe().unwrap();
        let mut one = tempfile::tempfile_in(program.parent().unwrap()).unwrap();
        one.write_all(&vec![1; 8 << 20]).unwrap();
        one.sync_all().unwrap();
        let mapping = Mapping::new(one.as_fd(), 0, 8 << 20, SHARED).unwrap();
        mapping.map_in_small_pieces();
        // Somebody may look at some of the pages just now.
        let dropped = (0..100).any(|_| {
            rustix::fs::fadvise(&one, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            in_memory(&mapping) == 0
        });
        if !dropped {
            eprintln!("not run: needs a build directory on a disk");
            return;
        }
        for faults in 1..=3 {
            let mut byte = [0];
            mapping.read(faults * (2 << 20) + 5000, &mut byte).unwrap();
            assert_eq!(byte, [1]);
            let there = in_memory(&mapping);
            assert!((1..=faults * (64 << 10)).contains(&there), "{there}");
        }
    }
}
