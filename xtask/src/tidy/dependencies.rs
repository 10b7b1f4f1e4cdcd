//! Who may depend on whom, and under which licences.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::Finding;
use crate::workspace;

/// The members each member may use, tests and benchmarks aside. The order is that of the
/// layers, lowest first.
const LAYERS: &[(&str, &[&str])] = &[
    ("gofer-transport", &[]),
    ("gofer-vfs", &["gofer-transport"]),
    ("gofer-9p", &["gofer-transport", "gofer-vfs"]),
    ("gofer-lisafs", &["gofer-transport", "gofer-vfs"]),
    (
        "gofer-server-mock",
        &["gofer-transport", "gofer-9p", "gofer-lisafs"],
    ),
    ("gofer-fuse", &["gofer-vfs"]),
    (
        "gofer-cli",
        &[
            "gofer-transport",
            "gofer-vfs",
            "gofer-9p",
            "gofer-lisafs",
            "gofer-server-mock",
            "gofer-fuse",
        ],
    ),
    (
        "xtask",
        &[
            "gofer-transport",
            "gofer-vfs",
            "gofer-9p",
            "gofer-lisafs",
            "gofer-server-mock",
            "gofer-cli",
        ],
    ),
    (
        "gofer-fuzz",
        &[
            "gofer-transport",
            "gofer-vfs",
            "gofer-9p",
            "gofer-lisafs",
            "gofer-server-mock",
        ],
    ),
];

/// Licences a dependency may be used under.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    // That of libFuzzer, which is in no program of ours.
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    /// `None`: a member of the workspace.
    source: Option<String>,
    license: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// The version asked for.
    req: String,
    /// `None`: an ordinary dependency, neither for tests nor for a build script.
    kind: Option<String>,
    /// `None`: inside the workspace.
    source: Option<String>,
}

/// All findings about the dependencies of the workspace at `root`.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let output = workspace::cargo()
        .args(["metadata", "--format-version=1", "--all-features"])
        .current_dir(root)
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let mut findings = Vec::new();
    for package in &metadata.packages {
        if package.source.is_none() {
            check_member(package, &mut findings);
        } else {
            check_licence(package, &mut findings);
        }
    }
    Ok(findings)
}

fn check_member(package: &Package, findings: &mut Vec<Finding>) {
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == package.name) else {
        let text = "a new member: give it a place among the layers of xtask's tidy";
        findings.push(Finding::error(&package.name, text));
        return;
    };
    for dependency in &package.dependencies {
        if dependency.req == "*" && dependency.source.is_some() {
            let text = format!("asks for any version of {}", dependency.name);
            findings.push(Finding::error(&package.name, text));
        }
        let is_member = dependency.source.is_none();
        let name = dependency.name.as_str();
        if is_member && dependency.kind.is_none() && !allowed.contains(&name) {
            let text = format!("must not depend on {name}");
            findings.push(Finding::error(&package.name, text));
        }
    }
}

fn check_licence(package: &Package, findings: &mut Vec<Finding>) {
    let place = format!("{} {}", package.name, package.version);
    match &package.license {
        None => findings.push(Finding::error(place, "names no licence")),
        Some(licence) if !is_allowed(licence) => {
            findings.push(Finding::error(place, format!("licence {licence}")));
        }
        Some(_) => {}
    }
}

/// Whether a licence expression can be met with [`LICENCES`] alone. `OR` binds looser than `AND`;
/// the old spelling `MIT/Apache-2.0` is an `OR`. Parentheses are taken where they enclose an `OR`
/// inside an `AND`, the only place they matter.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    split_outside_parentheses(&expression, " OR ")
        .iter()
        .any(|choice| {
            split_outside_parentheses(choice, " AND ")
                .iter()
                .all(|part| {
                    let part = part.trim();
                    match part
                        .strip_prefix('(')
                        .and_then(|part| part.strip_suffix(')'))
                    {
                        Some(inner) => is_allowed(inner),
                        None => LICENCES.contains(&part),
                    }
                })
        })
}

fn split_outside_parentheses<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && index >= start && text[index..].starts_with(separator) => {
                parts.push(&text[start..index]);
                start = index + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions_are_understood() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in [
            "GPL-3.0",
            "MIT AND GPL-2.0",
            "(GPL-2.0 OR LGPL-2.1) AND MIT",
            "",
        ] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }

    #[test]
    fn a_member_may_only_look_down() {
        let package = Package {
            name: "gofer-9p".to_owned(),
            version: String::new(),
            source: None,
            license: None,
            dependencies: vec![Dependency {
                name: "gofer-lisafs".to_owned(),
                req: "*".to_owned(),
                kind: None,
                source: None,
            }],
        };
        let mut findings = Vec::new();
        check_member(&package, &mut findings);
        assert_eq!(findings[0].text, "must not depend on gofer-lisafs");
    }
}
