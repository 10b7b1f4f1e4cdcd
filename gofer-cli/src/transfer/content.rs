//! The bytes of one file, holes left out.

use gofer_vfs::{Attr, SetAttr};

use super::side::{Fault, Place, Reader, Settable, SideResult, Writer};
use crate::error::{CliError, CliResult};

/// Bytes moved at once; each thread has one buffer of this size.
pub const BUFFER: usize = 1 << 20;

/// Runs of zeros shorter than this are written: most file systems cannot leave them out.
const BLOCK: usize = 4096;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Why a copy ended early.
pub enum Broken {
    /// Reading failed.
    Source(Fault),
    /// Writing failed.
    Target(Fault),
    /// It was stopped.
    Stopped(CliError),
}

/// Copies from `offset` to the end and returns the size. `moved` is told of every piece and may
/// stop the copy.
pub fn copy<R: Reader, W: Writer>(
    from: &R,
    to: &W,
    attr: &Attr,
    offset: u64,
    buffer: &mut [u8],
    moved: &mut dyn FnMut(u64) -> CliResult<()>,
) -> Result<u64, Broken> {
    // Only a file that has holes already may get some.
    let sparse = attr.blocks.saturating_mul(512) < attr.size;
    let mut at = offset;
    let mut written_to = offset;
    loop {
        if sparse {
            let next = from.next_data(at).map_err(Broken::Source)?;
            let next = next.unwrap_or(attr.size.max(at));
            moved(next - at).map_err(Broken::Stopped)?;
            at = next;
        }
        // One byte more than is expected shows whether the file has grown.
        let left = attr.size.saturating_sub(at).saturating_add(1);
        let want = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .max(BLOCK)
            .min(buffer.len());
        let piece = &mut buffer[..want];
        let got = from.read_at(piece, at).map_err(Broken::Source)?;
        write(to, &piece[..got], at, sparse, &mut written_to).map_err(Broken::Target)?;
        at += got as u64;
        moved(got as u64).map_err(Broken::Stopped)?;
        if got == 0 || (got < want && at >= attr.size && attr.size > 0) {
            break;
        }
    }
    if written_to < at {
        let size = SetAttr {
            size: Some(at),
            ..SetAttr::default()
        };
        Settable::set(to, &size).map_err(Broken::Target)?;
    }
    Ok(at)
}

fn write<W: Writer>(
    to: &W,
    bytes: &[u8],
    at: u64,
    sparse: bool,
    written_to: &mut u64,
) -> SideResult<()> {
    if !sparse {
        to.write_at(bytes, at)?;
        *written_to = at + bytes.len() as u64;
        return Ok(());
    }
    let mut rest = bytes;
    let mut at = at;
    while !rest.is_empty() {
        let zeros = leading(rest, true);
        rest = &rest[zeros..];
        at += zeros as u64;
        let data = leading(rest, false);
        if data > 0 {
            to.write_at(&rest[..data], at)?;
            rest = &rest[data..];
            at += data as u64;
            *written_to = at;
        }
    }
    Ok(())
}

/// Bytes at the beginning that are blocks of zeros, or that are not.
fn leading(bytes: &[u8], zeros: bool) -> usize {
    let blocks = bytes.chunks(BLOCK);
    blocks
        .take_while(|block| (**block == ZEROS[..block.len()]) == zeros)
        .map(<[u8]>::len)
        .sum()
}

impl Broken {
    /// The error to show, given where each end is and what it is called there.
    pub fn blame(self, from: (Place, &[u8]), to: (Place, &[u8])) -> CliError {
        match self {
            Broken::Source(fault) => from.0.blame(fault, from.1),
            Broken::Target(fault) => to.0.blame(fault, to.1),
            Broken::Stopped(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_counted_in_blocks() {
        let mut bytes = vec![0; 3 * BLOCK + 10];
        assert_eq!(leading(&bytes, true), bytes.len());
        bytes[BLOCK] = 1;
        assert_eq!(leading(&bytes, true), BLOCK);
        assert_eq!(leading(&bytes[BLOCK..], false), BLOCK);
        assert_eq!(leading(&bytes[2 * BLOCK..], true), BLOCK + 10);
        assert_eq!(leading(&[], true), 0);
    }
}
