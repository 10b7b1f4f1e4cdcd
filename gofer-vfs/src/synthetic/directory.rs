//! An open synthetic directory: its entries are all in the cache, so it lists none itself.

use super::*;
use crate::flags::AllocMode;
use crate::remote::{DirEntry, DirPos, FileLock, Moved};

/// With the attributes of its directory.
pub(super) struct Empty(pub(super) Arc<sync::Mutex<Attr>>);

impl RemoteHandle for Empty {
    fn read_at(&self, _call: &Call<'_>, _into: &mut [IoSliceMut<'_>], _offset: u64) -> Moved {
        Moved::refused(Errno::EISDIR)
    }

    fn write_at(&self, _call: &Call<'_>, _from: &[IoSlice<'_>], _offset: u64) -> Moved {
        Moved::refused(Errno::EBADF)
    }

    fn read_dir(
        &self,
        _call: &Call<'_>,
        _from: DirPos,
        _each: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> RemoteResult<bool> {
        Ok(false)
    }

    fn attr(&self, _call: &Call<'_>, _want: AttrMask) -> RemoteResult<Attr> {
        Ok(*self.0.lock())
    }

    fn sync(&self, _call: &Call<'_>, _data_only: bool) -> RemoteResult<()> {
        Ok(())
    }

    fn allocate(
        &self,
        _call: &Call<'_>,
        _mode: AllocMode,
        _offset: u64,
        _len: u64,
    ) -> RemoteResult<()> {
        refused(Errno::EISDIR)
    }

    fn seek_data(&self, _call: &Call<'_>, _offset: u64, _hole: bool) -> RemoteResult<u64> {
        refused(Errno::EINVAL)
    }

    /// Nobody but this client has any.
    fn lock(&self, _call: &Call<'_>, _lock: &FileLock) -> RemoteResult<()> {
        Ok(())
    }

    fn test_lock(&self, _call: &Call<'_>, _lock: &FileLock) -> RemoteResult<Option<FileLock>> {
        Ok(None)
    }

    fn close(&self, _call: &Call<'_>, _when: Promptness) -> RemoteResult<()> {
        Ok(())
    }
}
