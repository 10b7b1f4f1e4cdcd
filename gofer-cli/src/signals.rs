//! Ctrl-C: cancels what runs; pressed again before that ends, it ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gofer_transport::Cancel;
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

use crate::error::{CliError, CliResult};
use crate::exit::Exit;

/// What Ctrl-C does.
#[derive(Clone)]
pub struct Interrupts {
    /// Set by it.
    pub cancel: Arc<Cancel>,
    /// While a line is being typed, it means nothing.
    pub at_prompt: Arc<AtomicBool>,
}

/// Starts to listen for SIGINT.
pub fn watch() -> CliResult<Interrupts> {
    let failed = |error: std::io::Error| {
        CliError::new(Exit::Failed, format!("cannot listen for signals: {error}"))
    };
    let mut signals = Signals::new([SIGINT]).map_err(failed)?;
    let interrupts = Interrupts {
        cancel: Arc::new(Cancel::new().map_err(failed)?),
        at_prompt: Arc::default(),
    };
    let shared = interrupts.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                if shared.at_prompt.load(Ordering::SeqCst) {
                    continue;
                }
                if shared.cancel.is_set() {
                    // The last one has not been obeyed yet.
                    std::process::exit(Exit::Interrupted.code().into());
                }
                shared.cancel.set();
            }
        })
        .map_err(failed)?;
    Ok(interrupts)
}
