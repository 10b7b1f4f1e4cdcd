//! Extended attributes of a control FD (lisafs 6.25 to 6.28).

use gofer_vfs::remote::{Call, RemoteError, RemoteResult};
use gofer_vfs::{Errno, XattrFlags};

use super::file::ControlFile;
use crate::wire::{FGetXattrReq, FListXattrReq, FRemoveXattrReq, FSetXattrReq};

/// The most a value can have on Linux, in bytes.
const VALUE_MAX: usize = 65536;

/// No name is longer than what its length can say; Linux's own limit is far below.
fn name_fits(name: &[u8]) -> RemoteResult<()> {
    match name.len() <= usize::from(u16::MAX) {
        true => Ok(()),
        false => Err(RemoteError::not_sent(Errno::ERANGE)),
    }
}

pub(super) fn get(
    file: &ControlFile,
    call: &Call<'_>,
    name: &[u8],
    limit: usize,
) -> RemoteResult<Vec<u8>> {
    name_fits(name)?;
    // "No limit" is asked for as the most there can be: some releases answer a size of 0 with
    // meaningless bytes (lisafs 6.25).
    let buf_size = match limit {
        0 => VALUE_MAX as u32,
        limit => limit.min(VALUE_MAX) as u32,
    };
    let request = FGetXattrReq {
        fd: file.fd,
        buf_size,
        name,
    };
    file.connection
        .call(call, &request, |response, _| Ok(response.value.to_vec()))
}

pub(super) fn set(
    file: &ControlFile,
    call: &Call<'_>,
    name: &[u8],
    value: &[u8],
    flags: XattrFlags,
) -> RemoteResult<()> {
    name_fits(name)?;
    if value.len() > usize::from(u16::MAX) {
        return Err(RemoteError::not_sent(Errno::E2BIG));
    }
    let request = FSetXattrReq {
        fd: file.fd,
        flags: flags.bits(),
        name,
        value,
    };
    file.connection.call(call, &request, |_, _| Ok(()))
}

pub(super) fn list(
    file: &ControlFile,
    call: &Call<'_>,
    each: &mut dyn FnMut(&[u8]),
) -> RemoteResult<()> {
    file.connection.call(
        call,
        &FListXattrReq {
            fd: file.fd,
            size: 0,
        },
        |response, _| {
            if response
                .xattrs
                .iter()
                .any(|name| name.is_empty() || name.contains(&0))
            {
                return Err(RemoteError::unknown(Errno::EIO));
            }
            response.xattrs.iter().for_each(each);
            Ok(())
        },
    )
}

pub(super) fn remove(file: &ControlFile, call: &Call<'_>, name: &[u8]) -> RemoteResult<()> {
    name_fits(name)?;
    let request = FRemoveXattrReq { fd: file.fd, name };
    file.connection.call(call, &request, |_, _| Ok(()))
}
