//! lisafs over the host layer.

use std::io;
use std::sync::Arc;

use gofer_transport::Stream;

use crate::host::Export;
use crate::limits::Limits;

/// Serves one lisafs connection until it ends.
pub fn serve(_stream: &Stream, _export: Arc<Export>, _limits: &Limits) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
