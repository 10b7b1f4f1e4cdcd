//! [`Mapping`]: a range of a file in memory (semantics 15.11, 16.9).
//!
//! It is a mapping of the donated descriptor where all data goes by that, of the page cache's
//! memory otherwise. Either way it shares its pages with reads and writes, and a truncation acts
//! on it as on any file's mapping.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gofer_transport::mapping::Access as MapAccess;

use crate::attr::FileType;
use crate::context::Context;
use crate::dentry::Node;
use crate::error::{Errno, Result};
use crate::filesystem::run;
use crate::handle::Handle;
use crate::inode::Inode;
use crate::locks::{Mutex, REGISTRY};
use crate::page_cache::{Budget, PAGE, PageCache, Reading};
use crate::superblock::Res;

bitflags::bitflags! {
    /// What may be done with mapped memory, beside reading it.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct Protection: u32 {
        /// It can be written.
        const WRITE = 2;
        /// It can be executed.
        const EXEC = 4;
    }
}

/// Who sees what is written to mapped memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// The file, and so everybody.
    Shared,
    /// This mapping alone.
    Private,
}

/// What is asked of a mapping.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) offset: u64,
    pub(crate) length: usize,
    pub(crate) protection: Protection,
    pub(crate) sharing: Sharing,
}

impl Request {
    fn access(&self) -> MapAccess {
        MapAccess {
            write: self.protection.contains(Protection::WRITE),
            execute: self.protection.contains(Protection::EXEC),
            shared: self.sharing == Sharing::Shared,
        }
    }

    /// Writes to it change the file.
    pub(crate) fn changes_file(&self) -> bool {
        self.sharing == Sharing::Shared && self.protection.contains(Protection::WRITE)
    }

    fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.length as u64
    }
}

/// The mapped memory itself, which outlives a change of what is mapped there.
pub(crate) struct Area {
    memory: gofer_transport::Mapping,
    request: Request,
    /// The [`Handle::serial`] of the descriptor that is mapped, 0 for the cache.
    source: AtomicU64,
    /// The id of the cache's pin.
    pin: Mutex<Option<u64>, REGISTRY>,
    /// Somebody has a pointer to it.
    exposed: AtomicBool,
}

impl Area {
    /// Maps a donated descriptor.
    pub(crate) fn of_handle(request: Request, handle: &Handle, small: bool) -> Res<Area> {
        let fd = handle.host_fd().ok_or(Errno::ENODEV)?;
        let (offset, length) = (request.offset, request.length);
        let memory = gofer_transport::Mapping::new(fd, offset, length, request.access());
        let memory = memory.map_err(|error| Errno::from(&error))?;
        if small {
            memory.map_in_small_pieces();
        }
        Ok(Area {
            memory,
            request,
            source: AtomicU64::new(handle.serial()),
            pin: Mutex::new(None),
            exposed: AtomicBool::new(false),
        })
    }

    /// Maps cached pages, after fetching all of them: there is nobody to ask at a fault. The data
    /// lock is held exclusively.
    pub(crate) fn of_cache(
        request: Request,
        cache: &PageCache,
        reading: &Reading<'_>,
    ) -> Res<Area> {
        let pin = pin_all(request, cache, reading)?;
        let size = (reading.size)()?;
        let (offset, length) = (request.offset, request.length);
        let mapped = cache.with_memory(&reading.inode.sb.pages, size, |memory| {
            memory.map(offset, length, request.access())
        });
        match mapped {
            Ok(memory) => Ok(Area {
                memory,
                request,
                source: AtomicU64::new(0),
                pin: Mutex::new(Some(pin)),
                exposed: AtomicBool::new(false),
            }),
            Err(error) => {
                cache.unpin(&reading.inode.sb.pages, pin, size);
                Err(Errno::from(&error).into())
            }
        }
    }

    fn is_of_cache(&self) -> bool {
        self.source.load(Ordering::Acquire) == 0
    }

    /// Maps the descriptor of another handle of the file in place of the one that is mapped.
    pub(crate) fn follow(&self, handle: &Handle) {
        let newest = handle.serial();
        let shared = self.request.sharing == Sharing::Shared;
        if !shared || self.is_of_cache() || self.source.load(Ordering::Acquire) == newest {
            return;
        }
        let Some(fd) = handle.host_fd() else {
            return;
        };
        match self.memory.replace(fd, self.request.offset) {
            Ok(()) => self.source.store(newest, Ordering::Release),
            Err(error) => tracing::warn!(%error, "a mapping stays with its old descriptor"),
        }
    }

    /// Shows cached pages in place of a descriptor's. Of a private mapping it is not said whether
    /// it follows the file, and its own pages must stay, so that is left alone.
    pub(crate) fn show_cache(&self, cache: &PageCache, reading: &Reading<'_>) -> Res<()> {
        if self.is_of_cache() || self.request.sharing == Sharing::Private {
            return Ok(());
        }
        let pin = pin_all(self.request, cache, reading)?;
        let size = (reading.size)()?;
        let moved = cache.with_memory(&reading.inode.sb.pages, size, |memory| {
            memory.take_over(&self.memory, self.request.offset)
        });
        if let Err(error) = moved {
            cache.unpin(&reading.inode.sb.pages, pin, size);
            return Err(Errno::from(&error).into());
        }
        *self.pin.lock() = Some(pin);
        self.source.store(0, Ordering::Release);
        if self.exposed.load(Ordering::Acquire) && self.request.changes_file() {
            cache.expect_writes(pin);
        }
        Ok(())
    }

    fn give_up(&self, cache: &PageCache, budget: &Budget, size: u64) {
        if let Some(pin) = self.pin.lock().take() {
            cache.unpin(budget, pin, size);
        }
    }
}

/// Pins the range of a mapping and fetches it.
fn pin_all(request: Request, cache: &PageCache, reading: &Reading<'_>) -> Res<u64> {
    let budget = &reading.inode.sb.pages;
    // A mapping may reach far beyond the end, which takes no memory until the file does.
    let range = request.range();
    let pin = cache.pin(budget, range.clone()).ok_or(Errno::ENOMEM)?;
    match cache.populate(reading, range) {
        Ok(()) => Ok(pin),
        Err(failure) => {
            cache.unpin(budget, pin, 0);
            Err(failure)
        }
    }
}

/// A mapped range of a file. It stays what it is when the file is closed, renamed or removed.
///
/// [`Mapping::read`] and [`Mapping::write`] fail where the file has become too short. What is
/// written to a shared mapping is seen by reads at once; the server gets it by
/// [`Mapping::sync`], by any fsync of the file, and after the mapping was dropped.
///
/// Cached pages that are mapped stay in memory, all of them: mappings of more than the option
/// `page_cache_limit` are `ENOMEM`.
pub struct Mapping {
    node: Node,
    area: Arc<Area>,
}

impl Mapping {
    pub(crate) fn new(node: Node, area: Area) -> Mapping {
        let inode = node.inode();
        if area.request.changes_file() {
            inode.open().writers.fetch_add(1, Ordering::SeqCst);
        }
        let area = Arc::new(area);
        inode.make_cache().add_area(&area);
        Mapping { node, area }
    }

    fn inode(&self) -> &Arc<Inode> {
        self.node.inode()
    }

    /// Bytes that are mapped, of which the file may have less.
    pub fn length(&self) -> usize {
        self.area.request.length
    }

    /// Reads at `at` from its start; fewer bytes than asked where the pages of the file end.
    /// `EFAULT` if there are none.
    pub fn read(&self, at: usize, into: &mut [u8]) -> Result<usize> {
        run("read mapping", b"", || {
            let read = self.area.memory.read(at, into);
            Ok(read.map_err(|error| Errno::from(&error))?)
        })
    }

    /// Writes at `at` from its start. `EFAULT` where the pages of the file end, `EACCES` for a
    /// mapping that may only be read.
    pub fn write(&self, at: usize, from: &[u8]) -> Result<usize> {
        run("write mapping", b"", || {
            let request = &self.area.request;
            if !request.protection.contains(Protection::WRITE) {
                return Err(Errno::EACCES.into());
            }
            let written = self.area.memory.write(at, from);
            let n = written.map_err(|error| Errno::from(&error))?;
            if request.changes_file() {
                self.wrote(at, n);
            }
            Ok(n)
        })
    }

    /// Comes after the bytes are there, so that no write-back in between takes the old ones for
    /// these.
    fn wrote(&self, at: usize, length: usize) {
        self.touch();
        let inode = self.inode();
        if self.area.is_of_cache()
            && let Some(cache) = inode.cache()
        {
            let start = self.area.request.offset + at as u64;
            let size = inode.attr().size;
            cache.dirty_pinned(&inode.sb.pages, start..start + length as u64, size);
        }
    }

    /// The file is changed: times where this client's clock stamps files.
    fn touch(&self) {
        let inode = self.inode();
        inode.about_to_change();
        if let Some(now) = inode.sb.stamp() {
            inode.change(|meta| meta.touch_mtime(now));
        }
    }

    /// Where it is in memory. Reading and writing there needs unsafe code, which must expect
    /// other writers at any time, and `SIGBUS` where the pages of the file end. The address holds
    /// until this is dropped.
    ///
    /// As nobody sees what is written there, from now on a writable shared mapping of cached
    /// pages is written back whole whenever the file is.
    pub fn as_ptr(&self) -> *mut u8 {
        let area = &self.area;
        area.exposed.store(true, Ordering::Release);
        if area.request.changes_file()
            && let Some(cache) = self.inode().cache()
            && let Some(pin) = *area.pin.lock()
        {
            cache.expect_writes(pin);
        }
        area.memory.as_ptr()
    }

    /// msync(2) with `MS_SYNC`: brings what was written to these bytes of the mapping to stable
    /// storage. Blocks.
    pub fn sync(&self, cx: &Context<'_>, at: usize, length: usize) -> Result<()> {
        run("msync", b"", || {
            crate::locks::assert_may_call();
            let area = &self.area;
            if !area.request.changes_file() {
                return Ok(());
            }
            if area.exposed.load(Ordering::Acquire) {
                self.touch();
            }
            let inode = self.inode();
            let Some(cache) = inode.cache().filter(|_| area.is_of_cache()) else {
                let synced = area.memory.sync(at, length);
                return Ok(synced.map_err(|error| Errno::from(&error))?);
            };
            let start = area.request.offset + at as u64;
            cache.write_back(cx, inode, start..start.saturating_add(length as u64))?;
            match inode.writer() {
                Some(handle) => handle.sync(cx, true),
                None => Ok(()),
            }
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let inode = self.node.inode();
        if !self.area.request.changes_file() {
            if let Some(cache) = inode.cache() {
                self.area.give_up(cache, &inode.sb.pages, 0);
                cache.settle_unmapped(inode);
            }
            return;
        }
        if self.area.exposed.load(Ordering::Acquire) {
            self.touch();
        }
        if let Some(cache) = inode.cache() {
            let size = inode.attr().size;
            self.area.give_up(cache, &inode.sb.pages, size);
            cache.settle_unmapped(inode);
        }
        if inode.open().writers.fetch_sub(1, Ordering::SeqCst) == 1 {
            inode.sb.times.send_later(&self.node);
        }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("offset", &self.area.request.offset)
            .field("length", &self.area.request.length)
            .field("of_cache", &self.area.is_of_cache())
            .finish_non_exhaustive()
    }
}

/// Checks in Linux's order whether a description that may read and write as told can be mapped
/// (mmap(2)).
pub(crate) fn check(
    file_type: FileType,
    (readable, writable): (bool, bool),
    request: &Request,
) -> Res<()> {
    if request.length == 0 {
        return Err(Errno::EINVAL.into());
    }
    if !request.offset.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL.into());
    }
    let end = request.offset.checked_add(request.length as u64);
    if end.is_none_or(|end| end > i64::MAX as u64) {
        return Err(Errno::EOVERFLOW.into());
    }
    if !readable || (request.changes_file() && !writable) {
        return Err(Errno::EACCES.into());
    }
    match file_type {
        FileType::Regular | FileType::CharDevice | FileType::BlockDevice => Ok(()),
        _ => Err(Errno::ENODEV.into()),
    }
}
