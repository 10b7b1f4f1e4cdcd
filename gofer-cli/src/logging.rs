//! Where trace lines and log events go: standard error, or a file for the trace.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;

use gofer_transport::Tracer;
use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;

use crate::error::{CliError, CliResult};

/// The tracer that `--trace[=FILE]` asks for.
pub fn tracer(file: Option<&Path>) -> CliResult<Tracer> {
    let Some(path) = file else {
        return Ok(Tracer::default());
    };
    if path.as_os_str() == "-" {
        return Ok(Tracer::new(|line| write_line(&mut std::io::stderr(), line)));
    }
    let file = File::create(path).map_err(|error| CliError::local("create", path, &error))?;
    let file = Mutex::new(file);
    Ok(Tracer::new(move |line| write_line(&mut *file.lock(), line)))
}

/// One write a line, so that lines of several threads stay whole. A full disk must not stop what
/// is traced.
fn write_line(to: &mut dyn Write, line: &str) {
    let _ = to.write_all(format!("{line}\n").as_bytes());
}

/// Starts to log to standard error: what `GOFER_LOG` says, or more with each `-v`.
pub fn start(verbose: u8) {
    let level = match verbose {
        // A reply to a caller who was killed meanwhile is an error to fuser, and to nobody else.
        0 => "error,fuser=off",
        1 => "warn,fuser=off",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("GOFER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .try_init();
    // Somebody who calls us as a library may have one already.
    drop(started);
}
