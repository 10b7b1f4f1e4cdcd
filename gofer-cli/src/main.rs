//! The `gofer-cli` binary.

fn main() -> std::process::ExitCode {
    gofer_cli::run(std::env::args_os())
}
