//! Memory shared with a peer that is not trusted: one sealed file, mapped in windows.
//!
//! The peer can change every byte at any time. So no reference into the memory is ever made but
//! to the atomic words; everything else is copied out before it is looked at. The file is sealed
//! against shrinking, which is what keeps a mapping from turning into SIGBUS; a receiver refuses a
//! file without that seal.
#![allow(unsafe_code)]

mod files;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create,
};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Where the datagram begins in a window, after the state word, the length and a reserved word.
pub const WINDOW_HEADER: usize = 16;

/// The sealed memory file of one connection, from which windows are cut one after the other.
#[derive(Debug)]
pub struct WindowFile {
    file: OwnedFd,
    used: u64,
}

impl WindowFile {
    /// An empty file under the name that shows in /proc.
    pub fn create() -> io::Result<WindowFile> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create(c"flipcall_packet_windows", flags)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(WindowFile { file, used: 0 })
    }

    /// Sets aside a window of at least `length` bytes, rounded up to whole pages and filled with
    /// zeros, and returns its place: offset and length.
    pub fn allocate(&mut self, length: usize) -> io::Result<(u64, usize)> {
        let page = rustix::param::page_size();
        let length = length
            .checked_next_multiple_of(page)
            .ok_or(Errno::OVERFLOW)?;
        let end = self
            .used
            .checked_add(length as u64)
            .ok_or(Errno::OVERFLOW)?;
        ftruncate(&self.file, end)?;
        let offset = std::mem::replace(&mut self.used, end);
        Ok((offset, length))
    }
}

impl AsFd for WindowFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A mapped packet window.
#[derive(Debug)]
pub struct Window {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value until drop; it is reached only through atomics and
// through raw copies that make no reference, so threads may share it.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// Maps `length` bytes at `offset`. Refuses (`EINVAL`) a window smaller than a page, not on
    /// a page boundary, of 4 GiB or more, or beyond the end of the file, and (`EPERM`) a file
    /// that could shrink under the mapping.
    pub fn map(file: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<Window> {
        let page = rustix::param::page_size() as u64;
        let end = offset.checked_add(length).ok_or(Errno::INVAL)?;
        let size = rustix::fs::fstat(file)?.st_size;
        let fits = u64::try_from(size).is_ok_and(|size| end <= size);
        if length < page || length > u64::from(u32::MAX) || !offset.is_multiple_of(page) || !fits {
            return Err(Errno::INVAL.into());
        }
        if !fcntl_get_seals(file)?.contains(SealFlags::SHRINK) {
            return Err(Errno::PERM.into());
        }
        let length = length as usize;
        // SAFETY: a fresh mapping at an address of the kernel's choice; nothing is replaced.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                offset,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(Errno::FAULT)?;
        Ok(Window { base, length })
    }

    /// The word that says whose turn it is.
    pub fn state(&self) -> &AtomicU32 {
        self.word(0)
    }

    /// Most bytes a datagram can have.
    pub fn capacity(&self) -> usize {
        self.length - WINDOW_HEADER
    }

    /// The length word, read once. Not checked.
    pub fn datagram_length(&self) -> u32 {
        self.word(4).load(Ordering::Relaxed)
    }

    /// Stores the length word.
    pub fn set_datagram_length(&self, length: u32) {
        self.word(4).store(length, Ordering::Relaxed);
    }

    /// Copies `bytes` into the datagram at `at`.
    ///
    /// # Panics
    /// When they do not fit: the caller checks against [`Window::capacity`].
    pub fn write(&self, at: usize, bytes: &[u8]) {
        let target = self.datagram(at, bytes.len());
        // SAFETY: `datagram` checked that the range lies in the mapping; `bytes` is ordinary
        // memory, so the two do not overlap; the peer may write there too, which can only
        // change the bytes the peer itself will read.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) }
    }

    /// Copies bytes of the datagram from `at` on to `into`.
    ///
    /// # Panics
    /// When the range is not in the window.
    pub fn read(&self, at: usize, into: &mut [u8]) {
        let source = self.datagram(at, into.len());
        // SAFETY: as in `write`; whatever bytes the peer leaves there are valid u8 values.
        unsafe { std::ptr::copy_nonoverlapping(source, into.as_mut_ptr(), into.len()) }
    }

    fn datagram(&self, at: usize, length: usize) -> *mut u8 {
        let end = at
            .checked_add(length)
            .expect("a slice is shorter than the address space");
        assert!(
            end <= self.capacity(),
            "{end} bytes in a window for {}",
            self.capacity()
        );
        // SAFETY: at + WINDOW_HEADER is at most the length of the mapping.
        unsafe { self.base.as_ptr().add(WINDOW_HEADER + at) }
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: the mapping is page-aligned and at least a page long, `at` is 0 or 4, and all
        // accesses to these words, the peer's included, are meant to be atomic.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(at).cast()) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map`, is ours, and nobody can reach it any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mappings_share_one_window() {
        let mut file = WindowFile::create().unwrap();
        file.allocate(100).unwrap();
        let (offset, length) = file.allocate(5000).unwrap();
        let a = Window::map(file.as_fd(), offset, length as u64).unwrap();
        let b = Window::map(file.as_fd(), offset, length as u64).unwrap();
        a.write(3, b"hello");
        a.state().store(1, Ordering::Release);
        assert_eq!(b.state().load(Ordering::Acquire), 1);
        let mut bytes = [0; 5];
        b.read(3, &mut bytes);
        assert_eq!(&bytes, b"hello");
    }

    #[test]
    fn windows_that_could_fault_are_refused() {
        let mut file = WindowFile::create().unwrap();
        let (_, length) = file.allocate(1).unwrap();
        for (offset, length) in [
            (0, 1),
            (1, length as u64),
            (0, length as u64 + 1),
            (u64::MAX, 4096),
        ] {
            let error = Window::map(file.as_fd(), offset, length).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        }
        let unsealed = memfd_create(c"unsealed", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&unsealed, 4096).unwrap();
        let error = Window::map(unsealed.as_fd(), 0, 4096).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::PERM.raw_os_error()));
        assert!(ftruncate(&file, 0).is_err(), "the seal holds");
    }
}
