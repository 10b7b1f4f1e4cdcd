//! The `gofer-server-mock` program.

fn main() -> std::process::ExitCode {
    gofer_server_mock::run(std::env::args_os())
}
