//! Open files and directories, by the number the kernel was given for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fuser::FileHandle;
use gofer_vfs::File;
use parking_lot::RwLock;

/// See the module.
#[derive(Default)]
pub(crate) struct Files(RwLock<Slots>);

#[derive(Default)]
struct Slots {
    files: Vec<Option<Open>>,
    free: Vec<usize>,
}

struct Open {
    file: Arc<File>,
    /// Somebody has closed a descriptor of it. If it is written to nevertheless, others have
    /// copies of that, or it is mapped.
    closed: AtomicBool,
}

impl Files {
    /// Takes in a file that was opened.
    pub(crate) fn add(&self, file: File) -> FileHandle {
        let file = Some(Open {
            file: Arc::new(file),
            closed: AtomicBool::new(false),
        });
        let mut slots = self.0.write();
        let index = match slots.free.pop() {
            Some(index) => index,
            None => {
                slots.files.push(None);
                slots.files.len() - 1
            }
        };
        if let Some(slot) = slots.files.get_mut(index) {
            *slot = file;
        }
        FileHandle(index as u64)
    }

    /// The file of a number.
    pub(crate) fn get(&self, handle: FileHandle) -> Option<Arc<File>> {
        let index = usize::try_from(handle.0).ok()?;
        let slots = self.0.read();
        slots
            .files
            .get(index)?
            .as_ref()
            .map(|open| open.file.clone())
    }

    /// As [`Files::get`], for who closes a descriptor of it.
    pub(crate) fn closing(&self, handle: FileHandle) -> Option<Arc<File>> {
        let index = usize::try_from(handle.0).ok()?;
        let slots = self.0.read();
        let open = slots.files.get(index)?.as_ref()?;
        open.closed.store(true, Ordering::Relaxed);
        Some(open.file.clone())
    }

    /// Whether a descriptor of the file was closed.
    pub(crate) fn was_closed(&self, handle: FileHandle) -> bool {
        let slots = self.0.read();
        let open = usize::try_from(handle.0)
            .ok()
            .and_then(|index| slots.files.get(index)?.as_ref());
        open.is_some_and(|open| open.closed.load(Ordering::Relaxed))
    }

    /// Takes a file out; its number may be used again.
    pub(crate) fn remove(&self, handle: FileHandle) -> Option<Arc<File>> {
        let index = usize::try_from(handle.0).ok()?;
        let mut slots = self.0.write();
        let file = slots.files.get_mut(index)?.take()?;
        slots.free.push(index);
        Some(file.file)
    }

    /// Takes all files out: the kernel is gone.
    pub(crate) fn clear(&self) -> Vec<Arc<File>> {
        let mut slots = self.0.write();
        slots.free.clear();
        let open = slots.files.drain(..).flatten();
        open.map(|open| open.file).collect()
    }
}
