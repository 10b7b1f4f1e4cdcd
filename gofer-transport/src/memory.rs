//! [`MemoryFile`]: a file in memory that is read through a mapping, as fast as memory.
//!
//! Its descriptor that can write is never given away, so only this module changes its length, and
//! that takes the file exclusively, as Rust has it: nobody reads meanwhile. That is what keeps
//! reading from turning into SIGBUS, and from needing a lock.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::OnceLock;

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::mapping::{Access, Mapping};

/// Bytes of the file that are mapped together.
const WINDOW: u64 = 32 << 20;

/// Windows that stay mapped; address space is all they take.
const WINDOWS_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct MemoryFile {
    file: OwnedFd,
    length: u64,
    /// Each in the place that its index says, as many share one.
    windows: Box<[OnceLock<Window>; WINDOWS_MAX]>,
}

#[derive(Debug)]
struct Window {
    index: u64,
    base: NonNull<u8>,
}

// SAFETY: the mapping belongs to this value until drop; it is only read, by raw copies that make
// no reference, so threads may share it.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl MemoryFile {
    /// An empty file, shown in /proc as `gofer-pages`.
    pub fn create() -> io::Result<MemoryFile> {
        Ok(MemoryFile {
            file: memfd_create(c"gofer-pages", MemfdFlags::CLOEXEC)?,
            length: 0,
            windows: Box::new([const { OnceLock::new() }; WINDOWS_MAX]),
        })
    }

    /// Bytes up to the end; not all of them take memory.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Cuts the file or extends it with zeros. Bytes of the last page beyond the end become
    /// zeros, too.
    pub fn set_length(&mut self, length: u64) -> io::Result<()> {
        ftruncate(&self.file, length)?;
        self.length = length;
        Ok(())
    }

    /// Writes all of `from`; the file grows if need be.
    pub fn write(&mut self, mut offset: u64, mut from: &[u8]) -> io::Result<()> {
        if offset.checked_add(from.len() as u64).is_none() {
            return Err(Errno::OVERFLOW.into());
        }
        self.make_way(offset..offset + from.len() as u64);
        while !from.is_empty() {
            match rustix::io::pwrite(&self.file, from, offset) {
                Ok(0) => return Err(Errno::IO.into()),
                Ok(n) => {
                    from = from.get(n..).unwrap_or_default();
                    offset += n as u64;
                    self.length = self.length.max(offset);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// What is written is likely to be read: windows that have the places of its own go.
    fn make_way(&mut self, range: Range<u64>) {
        for index in range.start / WINDOW..range.end.div_ceil(WINDOW) {
            let place = &mut self.windows[index as usize % WINDOWS_MAX];
            if place.get().is_some_and(|window| window.index != index) {
                place.take();
            }
        }
    }

    /// Fills `into` from `offset` on. `EINVAL` if the file ends before.
    #[inline]
    pub fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(Errno::INVAL.into());
        }
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            let (index, within) = (at / WINDOW, (at % WINDOW) as usize);
            let rest = into.get_mut(done..).unwrap_or_default();
            let n = rest.len().min(WINDOW as usize - within);
            let rest = rest.get_mut(..n).unwrap_or_default();
            match self.window(index)? {
                // SAFETY: `within + n` is at most the size of the window, all of it below the
                // length of the file, which cannot change while it is borrowed; `rest` is ordinary
                // memory of `n` bytes. Users of a mapping may write there meanwhile: then either
                // byte is right.
                Some(window) => unsafe {
                    let source = window.base.as_ptr().add(within);
                    std::ptr::copy_nonoverlapping(source, rest.as_mut_ptr(), rest.len());
                },
                None => self.read_unmapped(at, rest)?,
            }
            done += n;
        }
        Ok(())
    }

    /// The window that shows this part of the file, mapped if need be; `None` if another has its
    /// place.
    #[inline]
    fn window(&self, index: u64) -> io::Result<Option<&Window>> {
        let place = &self.windows[index as usize % WINDOWS_MAX];
        let window = match place.get() {
            Some(window) => window,
            None => {
                let window = self.map_window(index)?;
                place.get_or_init(|| window)
            }
        };
        Ok((window.index == index).then_some(window))
    }

    #[cold]
    fn map_window(&self, index: u64) -> io::Result<Window> {
        let offset = index.checked_mul(WINDOW).ok_or(Errno::OVERFLOW)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice; nothing is replaced.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                WINDOW as usize,
                ProtFlags::READ,
                MapFlags::SHARED,
                &self.file,
                offset,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(Errno::FAULT)?;
        Ok(Window { index, base })
    }

    #[cold]
    fn read_unmapped(&self, mut offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pread(&self.file, rest, offset) {
                Ok(0) => return Err(Errno::IO.into()),
                Ok(n) => {
                    done += n;
                    offset += n as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Frees whole pages: they read as zeros from then on.
    pub fn free(&self, offset: u64, length: u64) -> io::Result<()> {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.file, mode, offset, length)?)
    }

    /// Maps a range for a user.
    pub fn map(&self, offset: u64, length: usize, access: Access) -> io::Result<Mapping> {
        Mapping::new(self.file.as_fd(), offset, length, access)
    }

    /// Puts a range of this file in the place of what is mapped.
    pub fn take_over(&self, mapping: &Mapping, offset: u64) -> io::Result<()> {
        mapping.replace(self.file.as_fd(), offset)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map_window`, is ours, and is reached by nobody else.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), WINDOW as usize) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::RwLock;

    #[test]
    fn what_is_written_is_read_across_windows() {
        let mut file = MemoryFile::create().unwrap();
        let bytes: Vec<u8> = (0..20_000u32).map(|n| n as u8 ^ (n >> 8) as u8).collect();
        let offset = WINDOW - 7_777;
        file.write(offset, &bytes).unwrap();
        assert_eq!(file.length(), offset + 20_000);
        let mut found = vec![0; 20_000];
        file.read(offset, &mut found).unwrap();
        assert!(found == bytes);
        assert!(file.read(offset + 1, &mut found).is_err());
        file.read(0, &mut found).unwrap();
        assert!(found.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn cut_and_freed_bytes_come_back_as_zeros() {
        let mut file = MemoryFile::create().unwrap();
        file.write(0, &[7; 10_000]).unwrap();
        file.set_length(5_000).unwrap();
        assert!(file.read(4_999, &mut [0; 2]).is_err());
        file.set_length(10_000).unwrap();
        let mut found = [1; 10_000];
        file.read(0, &mut found).unwrap();
        assert!(found[..5_000].iter().all(|byte| *byte == 7));
        assert!(found[5_000..].iter().all(|byte| *byte == 0));
        file.free(0, 4096).unwrap();
        file.read(0, &mut found).unwrap();
        assert!(found[..4096].iter().all(|byte| *byte == 0));
        assert_eq!(found[4096], 7);
    }

    #[test]
    fn a_mapping_and_the_file_are_one() {
        let mut file = MemoryFile::create().unwrap();
        file.write(0, b"first").unwrap();
        let access = Access {
            write: true,
            execute: false,
            shared: true,
        };
        let mapping = file.map(0, 4096, access).unwrap();
        mapping.write(0, b"F").unwrap();
        file.write(4, b"T").unwrap();
        let (mut by_file, mut by_mapping) = ([0; 5], [0; 5]);
        file.read(0, &mut by_file).unwrap();
        mapping.read(0, &mut by_mapping).unwrap();
        assert_eq!((&by_file, &by_mapping), (b"FirsT", b"FirsT"));
    }

    #[test]
    fn windows_of_one_place_show_each_its_own() {
        let mut file = MemoryFile::create().unwrap();
        let apart = WINDOW * WINDOWS_MAX as u64;
        let read = |file: &MemoryFile, at: u64| {
            let mut byte = [0];
            file.read(at, &mut byte).map(|()| byte[0])
        };
        for part in [1u8, 2, 3, 1] {
            let at = u64::from(part) * apart + 7;
            file.write(at, &[part]).unwrap();
            // Mapped by the first read, not by the second, which finds it.
            for _ in 0..2 {
                assert_eq!(read(&file, at).unwrap(), part);
            }
        }
        for part in [3u8, 2, 1] {
            assert_eq!(read(&file, u64::from(part) * apart + 7).unwrap(), part);
        }
        assert_eq!(read(&file, apart * 2).unwrap(), 0);
        file.set_length(apart * 2 + 8).unwrap();
        assert_eq!(read(&file, apart * 2 + 7).unwrap(), 2);
        assert!(read(&file, apart * 2 + 8).is_err());
    }

    #[test]
    fn reading_while_it_is_cut_is_no_signal() {
        let file = RwLock::new(MemoryFile::create().unwrap());
        file.write().write(0, &[1; 64 << 10]).unwrap();
        std::thread::scope(|scope| {
            let cutter = scope.spawn(|| {
                for _ in 0..500 {
                    file.write().set_length(0).unwrap();
                    file.write().write(0, &[1; 64 << 10]).unwrap();
                }
            });
            let mut bytes = vec![0; 64 << 10];
            while !cutter.is_finished() {
                let _ = file.read().read(0, &mut bytes);
            }
        });
    }
}
