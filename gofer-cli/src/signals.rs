//! Ctrl-C: cancels what runs; pressed again before that ends, it ends the process.

use std::sync::Arc;

use gofer_transport::Cancel;
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

use crate::error::{CliError, CliResult};
use crate::exit::Exit;

/// Starts to listen for SIGINT and returns the flag it sets.
pub fn watch() -> CliResult<Arc<Cancel>> {
    let failed = |error: std::io::Error| {
        CliError::new(Exit::Failed, format!("cannot listen for signals: {error}"))
    };
    let cancel = Arc::new(Cancel::new().map_err(failed)?);
    let mut signals = Signals::new([SIGINT]).map_err(failed)?;
    let flag = cancel.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                // Set means that the last one has not been obeyed yet.
                if flag.is_set() {
                    std::process::exit(Exit::Interrupted.code().into());
                }
                flag.set();
            }
        })
        .map_err(failed)?;
    Ok(cancel)
}
