//! Open files and directories, by the number the kernel was given for each.

use std::sync::Arc;

use fuser::FileHandle;
use gofer_vfs::File;
use parking_lot::RwLock;

/// See the module.
#[derive(Default)]
pub(crate) struct Files(RwLock<Slots>);

#[derive(Default)]
struct Slots {
    files: Vec<Option<Arc<File>>>,
    free: Vec<usize>,
}

impl Files {
    /// Takes in a file that was opened.
    pub(crate) fn add(&self, file: File) -> FileHandle {
        let file = Some(Arc::new(file));
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
        self.0.read().files.get(index)?.clone()
    }

    /// Takes a file out; its number may be used again.
    pub(crate) fn remove(&self, handle: FileHandle) -> Option<Arc<File>> {
        let index = usize::try_from(handle.0).ok()?;
        let mut slots = self.0.write();
        let file = slots.files.get_mut(index)?.take()?;
        slots.free.push(index);
        Some(file)
    }

    /// Takes all files out: the kernel is gone.
    pub(crate) fn clear(&self) -> Vec<Arc<File>> {
        let mut slots = self.0.write();
        slots.free.clear();
        slots.files.drain(..).flatten().collect()
    }
}
