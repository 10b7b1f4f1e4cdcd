//! Reading and writing on a descriptor that the server donated.
//!
//! These calls go to the host's kernel. They cannot be given up, and need not be: a donated
//! regular file answers.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;

use gofer_vfs::Errno;
use gofer_vfs::remote::{Moved, RemoteError, RemoteResult};
use rustix::fs::SeekFrom;
use rustix::io::{preadv, pwritev, retry_on_intr};

/// The most buffers one system call takes (`IOV_MAX`).
const BUFFERS_MAX: usize = 1024;

/// preadv(2) until the buffers are full or the file ends.
pub(crate) fn read_at(host: BorrowedFd<'_>, mut into: &mut [IoSliceMut<'_>], offset: u64) -> Moved {
    let mut n = 0;
    IoSliceMut::advance_slices(&mut into, 0);
    while !into.is_empty() {
        let count = into.len().min(BUFFERS_MAX);
        match retry_on_intr(|| preadv(host, &mut into[..count], offset + n as u64)) {
            Ok(0) => break,
            Ok(read) => {
                n += read;
                IoSliceMut::advance_slices(&mut into, read);
            }
            Err(error) => return stopped(n, error),
        }
    }
    Moved { n, error: None }
}

/// pwritev(2) until everything is written.
pub(crate) fn write_at(host: BorrowedFd<'_>, from: &[IoSlice<'_>], offset: u64) -> Moved {
    let mut n = 0;
    let mut from = from.to_vec();
    let mut from = &mut from[..];
    IoSlice::advance_slices(&mut from, 0);
    while !from.is_empty() {
        let count = from.len().min(BUFFERS_MAX);
        match retry_on_intr(|| pwritev(host, &from[..count], offset + n as u64)) {
            Ok(0) => return stopped(n, rustix::io::Errno::IO),
            Ok(written) => {
                n += written;
                IoSlice::advance_slices(&mut from, written);
            }
            Err(error) => return stopped(n, error),
        }
    }
    Moved { n, error: None }
}

fn stopped(n: usize, error: rustix::io::Errno) -> Moved {
    Moved {
        n,
        error: Some(RemoteError::refused(error.into())),
    }
}

/// lseek(2) to data or to a hole. The position it leaves is used by nobody.
pub(crate) fn seek_data(host: BorrowedFd<'_>, offset: u64, hole: bool) -> RemoteResult<u64> {
    let whence = match hole {
        true => SeekFrom::Hole(offset),
        false => SeekFrom::Data(offset),
    };
    rustix::fs::seek(host, whence).map_err(|error| RemoteError::refused(Errno::from(error)))
}
