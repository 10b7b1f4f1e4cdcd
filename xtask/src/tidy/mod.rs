//! `cargo xtask tidy`: rules of the house that no compiler checks.
//!
//! `sources` looks at the text of each file, `dependencies` at the graph cargo resolved, `rules`
//! at the table of rules and tests. A finding fails the run, a warning does not.

mod dependencies;
mod rules;
mod sources;

use std::fmt;

use anyhow::{Result, bail};

use crate::workspace;

/// A rule that is broken somewhere.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    severity: Severity,
    /// File and perhaps line, relative to the workspace, or a package.
    place: String,
    /// What is wrong.
    text: String,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Error,
    Warning,
}

impl Finding {
    fn error(place: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding {
            severity: Severity::Error,
            place: place.into(),
            text: text.into(),
        }
    }

    fn warning(place: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding {
            severity: Severity::Warning,
            ..Finding::error(place, text)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{kind}: {}: {}", self.place, self.text)
    }
}

/// Checks the whole workspace and prints what it finds.
pub fn run() -> Result<()> {
    let root = workspace::root();
    let files = sources::load(&root)?;
    let mut findings = sources::check(&root, &files);
    findings.extend(dependencies::check(&root)?);
    findings.extend(rules::check(&files));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    println!(
        "tidy: {} files, {errors} errors, {} warnings",
        files.len(),
        findings.len() - errors
    );
    if errors > 0 {
        bail!("the tree is not tidy");
    }
    Ok(())
}
