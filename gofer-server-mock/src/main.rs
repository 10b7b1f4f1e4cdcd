//! The `gofer-server-mock` program.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    gofer_server_mock::run(std::env::args_os())
}
