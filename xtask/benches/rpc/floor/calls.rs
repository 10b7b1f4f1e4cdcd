//! The bare system calls that an operation cannot do without, made by this process itself.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, SeekFrom, open, openat};

use super::{MANY, NEW, Sizes};
use crate::{DEEP, Tree};

const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What the calls work on.
pub(crate) struct Calls {
    root: OwnedFd,
    data: OwnedFd,
    /// Names the `data` file for a second open, as the server has to.
    magic: String,
    many: OwnedFd,
    fresh: OwnedFd,
    names: Vec<String>,
    buffer: Vec<u8>,
    records: Vec<MaybeUninit<u8>>,
}

impl Calls {
    pub(crate) fn new(tree: &Tree) -> Calls {
        let place = |name: &str| open(tree.path(name), PLACE, Mode::empty()).expect("open");
        let data = open(
            tree.path("data"),
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let data = data.expect("open");
        Calls {
            root: place(""),
            magic: format!("/proc/self/fd/{}", data.as_raw_fd()),
            data,
            many: open(tree.path(MANY), directory, Mode::empty()).expect("open"),
            fresh: open(tree.path(NEW), directory, Mode::empty()).expect("open"),
            names: DEEP.split('/').map(str::to_owned).collect(),
            buffer: vec![7; 1 << 20],
            records: vec![MaybeUninit::uninit(); 32 << 10],
        }
    }

    pub(crate) fn stat(&mut self) {
        black_box(rustix::fs::fstat(&self.root).expect("fstat"));
    }

    /// The first `count` names of the deep path, all of them held until the last is found.
    pub(crate) fn walk(&mut self, count: usize) {
        let mut places: Vec<OwnedFd> = Vec::with_capacity(count);
        for name in &self.names[..count] {
            let dir = places.last().unwrap_or(&self.root);
            let place = openat(dir.as_fd(), name.as_str(), PLACE, Mode::empty()).expect("openat");
            black_box(rustix::fs::fstat(&place).expect("fstat"));
            places.push(place);
        }
    }

    pub(crate) fn open(&mut self) {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        drop(open(self.magic.as_str(), flags, Mode::empty()).expect("open"));
    }

    pub(crate) fn create(&mut self) {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        drop(openat(&self.fresh, "bare", flags, Mode::RUSR | Mode::WUSR).expect("create"));
        rustix::fs::unlinkat(&self.fresh, "bare", AtFlags::empty()).expect("unlink");
    }

    pub(crate) fn read(&mut self, size: usize) {
        let count = rustix::io::pread(&self.data, &mut self.buffer[..size], 0);
        assert_eq!(count, Ok(size));
    }

    pub(crate) fn write(&mut self, size: usize) {
        let count = rustix::io::pwrite(&self.data, &self.buffer[..size], 0);
        assert_eq!(count, Ok(size));
    }

    /// Takes the whole directory from its start.
    pub(crate) fn readdir(&mut self) {
        rustix::fs::seek(&self.many, SeekFrom::Start(0)).expect("seek");
        let mut records = RawDir::new(&self.many, &mut self.records);
        let mut count = 0;
        while let Some(record) = records.next() {
            black_box(record.expect("getdents64"));
            count += 1;
        }
        assert!(count >= Sizes::ENTRIES);
    }
}
