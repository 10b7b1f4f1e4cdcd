//! Files read into a window and written from one, without a copy in between.
//!
//! The kernel reads and writes the shared bytes, each of them once; this process does not look at
//! them. A peer that changes them meanwhile changes the data it gets or gives.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::Window;

impl Window {
    /// Reads from `file` into the datagram, `length` bytes from `at` on: at `offset`, or, with
    /// `None`, whatever comes next. Returns how many there were, 0 at the end of the file. Errors
    /// are those of pread(2), `EINTR` included.
    ///
    /// # Panics
    /// When the range is not in the window.
    pub fn read_from(
        &self,
        file: BorrowedFd<'_>,
        offset: Option<u64>,
        at: usize,
        length: usize,
    ) -> Result<usize, Errno> {
        let target = self.datagram(at, length).cast();
        let file = file.as_raw_fd();
        // SAFETY: `datagram` checked that `length` bytes from `target` on are in the mapping, which
        // lives as long as `self`, and nothing has a reference to them. The kernel writes there.
        count(unsafe {
            match offset {
                Some(offset) => libc::pread64(file, target, length, offset as i64),
                None => libc::read(file, target, length),
            }
        })
    }

    /// Writes `length` bytes of the datagram from `at` on to `file`: at `offset`, or, with `None`,
    /// behind what was written before. Returns how many were taken. Errors are those of pwrite(2),
    /// `EINTR` included.
    ///
    /// # Panics
    /// When the range is not in the window.
    pub fn write_to(
        &self,
        file: BorrowedFd<'_>,
        offset: Option<u64>,
        at: usize,
        length: usize,
    ) -> Result<usize, Errno> {
        let source = self.datagram(at, length).cast_const().cast();
        let file = file.as_raw_fd();
        // SAFETY: as in `read_from`; the kernel reads there.
        count(unsafe {
            match offset {
                Some(offset) => libc::pwrite64(file, source, length, offset as i64),
                None => libc::write(file, source, length),
            }
        })
    }
}

/// What a system call of the C library returned: -1 is an error, anything else a count.
fn count(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| {
        let error = io::Error::last_os_error();
        Errno::from_io_error(&error).unwrap_or(Errno::IO)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::WindowFile;
    use std::os::fd::AsFd;

    fn window() -> Window {
        let mut file = WindowFile::create().unwrap();
        let (offset, length) = file.allocate(8192).unwrap();
        Window::map(file.as_fd(), offset, length as u64).unwrap()
    }

    #[test]
    fn a_file_goes_through_a_window() {
        let window = window();
        let file = tempfile::tempfile().unwrap();
        window.write(5, b"hello");
        assert_eq!(window.write_to(file.as_fd(), Some(2), 5, 5), Ok(5));
        assert_eq!(window.read_from(file.as_fd(), Some(1), 100, 50), Ok(6));
        let mut bytes = [7; 7];
        window.read(100, &mut bytes);
        assert_eq!(&bytes, b"\0hello\0");
        assert_eq!(window.read_from(file.as_fd(), Some(7), 0, 1), Ok(0));
        let negative = window.read_from(file.as_fd(), Some(u64::MAX), 0, 1);
        assert_eq!(negative, Err(Errno::INVAL));
    }

    #[test]
    fn a_pipe_has_no_offsets() {
        let window = window();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        window.write(0, b"abc");
        assert_eq!(window.write_to(writer.as_fd(), None, 0, 3), Ok(3));
        assert_eq!(window.read_from(reader.as_fd(), None, 10, 9), Ok(3));
        let at_an_offset = window.read_from(reader.as_fd(), Some(0), 0, 1);
        assert_eq!(at_an_offset, Err(Errno::SPIPE));
    }

    #[test]
    #[should_panic(expected = "in a window for")]
    fn no_byte_beyond_the_window() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let window = window();
        let _ = window.read_from(reader.as_fd(), None, window.capacity() - 1, 2);
    }
}
