//! fsx: random operations on one file, mappings among them, compared with what they should do.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use super::{Bench, tools};
use crate::matrix::Protocol;

/// Operations of the long form, and of the short one.
const OPERATIONS: (u32, u32) = (100_000, 3_000);

/// How often each operation is done. All that fsx has.
const WEIGHTS: [(&str, f64); 14] = [
    ("close_open", 1.0),
    ("invalidate", 1.0),
    ("mapread", 10.0),
    ("mapwrite", 10.0),
    ("read", 10.0),
    ("write", 10.0),
    ("truncate", 5.0),
    ("fsync", 0.5),
    ("fdatasync", 0.5),
    ("posix_fallocate", 2.0),
    ("punch_hole", 2.0),
    ("sendfile", 2.0),
    ("posix_fadvise", 1.0),
    ("copy_file_range", 2.0),
];

/// Runs it with a fixed seed, so that a failure can be repeated.
pub(super) fn run(bench: &Bench<'_>) -> Result<()> {
    let configuration = bench.scratch.join("fsx.toml");
    std::fs::write(&configuration, configuration_for(bench.protocol))?;
    let count = match bench.short {
        true => OPERATIONS.1,
        false => OPERATIONS.0,
    };
    let mut command = Command::new(bench.tools.program("fsx"));
    command
        .args(["-q", "-S", "7", "-N", &count.to_string()])
        .arg("-f")
        .arg(&configuration)
        .arg("-P")
        .arg(bench.scratch)
        .arg(bench.dir.join("file"));
    tools::run(&mut command, super::PATIENCE)
}

/// Plain 9P2000.L cannot free a range.
fn configuration_for(protocol: Protocol) -> String {
    let mut text = "[weights]\n".to_owned();
    for (operation, weight) in WEIGHTS {
        let left_out = protocol == Protocol::Plain && operation == "punch_hole";
        let weight = if left_out { 0.0 } else { weight };
        let _ = writeln!(text, "{operation} = {weight:?}");
    }
    text
}
