//! The `gofer-cli` binary.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    gofer_cli::run(std::env::args_os())
}
