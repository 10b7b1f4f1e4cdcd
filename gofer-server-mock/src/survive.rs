//! What a defect of this server costs: one request.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::io::Errno;

use crate::host::Result;

/// Turns a panic, a defect of this server, into `EREMOTEIO` (lisafs 5.1): one request fails, its
/// connection and all others go on. Locks are released on the way, and a reply is begun anew.
pub(crate) fn survive(work: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Errno::REMOTEIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_one_request() {
        assert_eq!(survive(|| Ok(())), Ok(()));
        assert_eq!(survive(|| Err(Errno::PERM)), Err(Errno::PERM));
        assert_eq!(survive(|| panic!("a defect")), Err(Errno::REMOTEIO));
    }
}
