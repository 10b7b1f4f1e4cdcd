//! What is fuzzed: one function per target, which takes any bytes and panics when something that
//! must always hold does not.
//!
//! - [`lisafs`], [`p9`]: the decoders; [`options`]: the text of mount options; [`image`]: saved
//!   file systems.
//! - [`server`]: servers that get whatever bytes as requests; [`client`]: clients that get
//!   whatever bytes as answers.
//! - [`window`]: windows of shared memory in the hands of a peer that means harm, and a lisafs
//!   server with such a client; [`channel`]: a lisafs client with such a server.
//!
//! `fuzz_targets/` hands them to libFuzzer, `tests/replay.rs` runs them over `corpus/` with any
//! compiler. The README says how to run both.

#![forbid(unsafe_code)]

pub mod channel;
pub mod client;
pub mod image;
pub mod input;
pub mod lisafs;
pub mod options;
pub mod p9;
pub mod server;
pub mod session;
pub mod window;

use std::path::PathBuf;

/// A target: its name, which is that of its file and of its corpus, and what runs.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("lisafs_request", lisafs::request),
    ("lisafs_response", lisafs::response),
    ("lisafs_server", server::lisafs),
    ("lisafs_client", client::lisafs),
    ("lisafs_channel_server", window::lisafs_server),
    ("lisafs_channel_client", channel::lisafs_client),
    ("p9_message", p9::message),
    ("p9_server", server::p9),
    ("p9_client", client::p9),
    ("flipcall_server", window::server_side),
    ("flipcall_client", window::client_side),
    ("mount_options", options::mount_options),
    ("restore_image", image::restore),
];

/// The directory of this package.
pub fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a target over the files named on the command line: a finding is looked into with any
/// compiler and debugger.
pub fn replay_arguments(target: fn(&[u8])) {
    for path in std::env::args_os().skip(1) {
        match std::fs::read(&path) {
            Ok(input) => target(&input),
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
}

/// The root of a target: libFuzzer's under cargo-fuzz, a program that replays files otherwise.
#[macro_export]
macro_rules! target {
    ($run:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|input: &[u8]| $run(input));

        #[cfg(not(fuzzing))]
        fn main() {
            $crate::replay_arguments($run);
        }
    };
}
