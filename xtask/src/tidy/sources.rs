//! What the text of each file must look like.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Finding;

const LINES_WARN: usize = 600;
const LINES_FAIL: usize = 900;

/// Files that may be longer than [`LINES_FAIL`], and why.
const LONG_FILES: &[(&str, &str)] = &[
    ("gofer-server-mock/tests/lisafs/behaviour.rs", ONE_TEST_EACH),
    ("gofer-server-mock/tests/p9/behaviour.rs", ONE_TEST_EACH),
];

const ONE_TEST_EACH: &str =
    "one short test for each thing a request does, in the order of the spec";

/// One text file of the workspace.
pub(super) struct SourceFile {
    /// Relative to the workspace, with `/`.
    path: String,
    text: String,
}

impl SourceFile {
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Reads every Rust, TOML, Markdown and shell file of the workspace. Build directories carry a
/// `CACHEDIR.TAG` and are left out.
pub(super) fn load(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(dir) = left.pop() {
        let entries = fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                if !path.ends_with(".git") && !path.join("CACHEDIR.TAG").exists() {
                    left.push(path);
                }
            } else if is_source(&path) {
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("read {}", path.display()))?;
                let path = path.strip_prefix(root).unwrap_or(&path);
                files.push(SourceFile {
                    path: path.to_string_lossy().into_owned(),
                    text,
                });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn is_source(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("rs" | "toml" | "md")) || path.ends_with(".ci/run")
}

/// All findings about `files`.
pub(super) fn check(root: &Path, files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let machine = machine_paths(root);
    for file in files {
        check_blanks(file, &mut findings);
        check_machine_paths(file, &machine, &mut findings);
        if file.is_rust() {
            check_head(file, &mut findings);
            check_length(file, &mut findings);
            check_unsafe(file, &mut findings);
            check_ignored_tests(file, &mut findings);
            check_protocol_names(file, &mut findings);
            check_server_side(file, &mut findings);
        }
    }
    check_every_file_is_compiled(files, &mut findings);
    findings
}

fn check_head(file: &SourceFile, findings: &mut Vec<Finding>) {
    let mut lines = file.text.lines().map(str::trim);
    let head = lines.find(|line| !line.is_empty() && !line.starts_with("#!["));
    if !head.is_some_and(|line| line.starts_with("//!")) {
        findings.push(Finding::error(
            &file.path,
            "starts without `//!`: say what lives here",
        ));
    }
}

fn check_length(file: &SourceFile, findings: &mut Vec<Finding>) {
    let lines = file.text.lines().count();
    let allowed = LONG_FILES.iter().any(|(path, _)| *path == file.path);
    if lines > LINES_FAIL && !allowed {
        let text = format!("{lines} lines, more than {LINES_FAIL}: split it");
        findings.push(Finding::error(&file.path, text));
    } else if lines > LINES_WARN && !allowed {
        let text = format!("{lines} lines, more than {LINES_WARN}");
        findings.push(Finding::warning(&file.path, text));
    }
}

fn check_unsafe(file: &SourceFile, findings: &mut Vec<Finding>) {
    if file.path.starts_with("gofer-transport/") {
        return;
    }
    let is_crate_root = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
    if is_crate_root && !file.text.contains("#![forbid(unsafe_code)]") {
        findings.push(Finding::error(
            &file.path,
            "a crate root without #![forbid(unsafe_code)]",
        ));
    }
    for (number, line) in code_lines(file) {
        let in_code = |word: &str| {
            // An odd number of quotes before it: the word stands in a text.
            let before = line.find(word).map(|at| line[..at].matches('"').count());
            before.is_some_and(|quotes| quotes % 2 == 0)
        };
        if ["unsafe {", "unsafe fn", "unsafe impl"]
            .into_iter()
            .any(in_code)
        {
            findings.push(Finding::error(
                at(file, number),
                "unsafe code outside gofer-transport",
            ));
        }
    }
}

fn check_ignored_tests(file: &SourceFile, findings: &mut Vec<Finding>) {
    for (number, line) in code_lines(file) {
        if line.trim_start().starts_with("#[ignore") {
            findings.push(Finding::error(
                at(file, number),
                "an ignored test tests nothing",
            ));
        }
    }
}

/// gofer-vfs knows no protocol. Mount options name them, because users do.
fn check_protocol_names(file: &SourceFile, findings: &mut Vec<Finding>) {
    // Cases of the suite may ask what a server speaks.
    let exempt = ["options.rs", "options/", "testing/"].map(|file| format!("gofer-vfs/src/{file}"));
    if !file.path.starts_with("gofer-vfs/src/")
        || exempt
            .iter()
            .any(|start| file.path.starts_with(start.as_str()))
    {
        return;
    }
    for (number, line) in code_lines(file) {
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named = words.find(|word| {
            ["lisafs", "9p", "fid"]
                .iter()
                .any(|name| word.eq_ignore_ascii_case(name))
        });
        if let Some(word) = named {
            let text =
                format!("names a protocol (`{word}`): the difference belongs in its own crate");
            findings.push(Finding::error(at(file, number), text));
        }
    }
}

/// The server shares the wire formats with the clients and nothing more.
fn check_server_side(file: &SourceFile, findings: &mut Vec<Finding>) {
    if !file.path.starts_with("gofer-server-mock/src/") {
        return;
    }
    for (number, line) in code_lines(file) {
        if line.contains("gofer_9p::client") || line.contains("gofer_lisafs::client") {
            findings.push(Finding::error(at(file, number), "the server uses a client"));
        }
    }
}

fn check_blanks(file: &SourceFile, findings: &mut Vec<Finding>) {
    for (index, line) in file.text.lines().enumerate() {
        if line.ends_with([' ', '\t']) {
            findings.push(Finding::error(at(file, index + 1), "trailing blank"));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.push(Finding::error(&file.path, "no line end at the end"));
    }
}

/// Paths that mean something on one machine only.
fn machine_paths(root: &Path) -> Vec<String> {
    let mut paths: Vec<String> = ["home", "Users"]
        .iter()
        .map(|dir| format!("/{dir}/"))
        .collect();
    // A tree at `/gofer` must not forbid the word.
    if root.components().count() > 2 {
        paths.push(root.to_string_lossy().into_owned());
    }
    paths
}

fn check_machine_paths(file: &SourceFile, machine: &[String], findings: &mut Vec<Finding>) {
    for (index, line) in file.text.lines().enumerate() {
        if let Some(path) = machine.iter().find(|path| line.contains(path.as_str())) {
            let text = format!("a path of one machine: {path}");
            findings.push(Finding::error(at(file, index + 1), text));
        }
    }
}

/// A file no `mod` names is never compiled, and its tests never run.
fn check_every_file_is_compiled(files: &[SourceFile], findings: &mut Vec<Finding>) {
    let mut named: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let rust = || files.iter().filter(|file| file.is_rust());
    for file in rust() {
        let names = named.entry(crate_of(&file.path)).or_default();
        names.extend(code_lines(file).filter_map(|(_, line)| module_name(line)));
    }
    for file in rust() {
        let Some(module) = module_of(&file.path) else {
            continue;
        };
        if !named[crate_of(&file.path)].contains(&module) {
            let text = format!("no `mod {module};` names this file: it is never compiled");
            findings.push(Finding::error(&file.path, text));
        }
    }
}

fn crate_of(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// The module a file must be named as; `None` for the root of a target.
fn module_of(path: &str) -> Option<String> {
    let path = PathBuf::from(path);
    let stem = path.file_stem()?.to_str()?;
    let dir = path.parent()?.file_name()?.to_str()?;
    match stem {
        _ if is_target_root(&path) => None,
        "mod" => Some(dir.to_owned()),
        _ => Some(stem.to_owned()),
    }
}

/// `crate/src/{lib,main}.rs`, `crate/src/bin/x.rs`,
/// `crate/{tests,benches,examples,fuzz_targets}/x.rs`, and `main.rs` of a directory in one of
/// these.
fn is_target_root(path: &Path) -> bool {
    let parts: Vec<_> = path
        .components()
        .filter_map(|part| part.as_os_str().to_str())
        .collect();
    matches!(
        parts.as_slice(),
        [_, "src", "lib.rs" | "main.rs"]
            | [_, "src", "bin", _]
            | [_, "tests" | "benches" | "examples" | "fuzz_targets", _]
            | [_, "tests" | "benches" | "examples", _, "main.rs"]
    )
}

fn module_name(line: &str) -> Option<String> {
    let mut line = line.trim();
    if let Some(rest) = line.strip_prefix("pub") {
        line = rest.trim_start();
        if line.starts_with('(') {
            line = line.split_once(')')?.1.trim_start();
        }
    }
    let name = line.strip_prefix("mod ")?.strip_suffix(';')?;
    Some(name.trim_start_matches("r#").to_owned())
}

/// Numbered lines that are not comments as a whole.
fn code_lines(file: &SourceFile) -> impl Iterator<Item = (usize, &str)> {
    let lines = file.text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line))
}

fn at(file: &SourceFile, line: usize) -> String {
    format!("{}:{line}", file.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let found = check(Path::new("/one/tree"), &[file]);
        found.iter().map(|finding| finding.text.clone()).collect()
    }

    #[test]
    fn a_tidy_file_has_no_findings() {
        let text = "//! Head.\n\nmod other;\n";
        assert_eq!(
            findings("x/src/main.rs", &format!("#![forbid(unsafe_code)]\n{text}")),
            [""; 0]
        );
        assert_eq!(findings("x/tests/main.rs", text), [""; 0]);
    }

    #[test]
    fn each_rule_finds_its_breach() {
        let cases = [
            ("x/tests/a.rs", "fn main() {}\n", "starts without"),
            ("x/tests/a.rs", "//! H.\nlet a; \n", "trailing blank"),
            ("x/tests/a.rs", "//! H.", "no line end"),
            ("x/tests/a.rs", "//! H.\n#[ignore]\n", "ignored test"),
            (
                "x/tests/a.rs",
                "//! H.\n    unsafe { f() }\n",
                "unsafe code",
            ),
            ("x/src/lib.rs", "//! H.\n", "without #![forbid"),
            ("x/src/lost.rs", "//! H.\n", "no `mod lost;`"),
            ("x/README.md", "see /one/tree/x\n", "path of one machine"),
            (
                "gofer-vfs/src/lib.rs",
                "//! H.\n#![forbid(unsafe_code)]\nlet fid = 1;\n",
                "names a protocol",
            ),
            (
                "gofer-server-mock/src/lib.rs",
                "//! H.\n#![forbid(unsafe_code)]\nuse gofer_9p::client;\n",
                "uses a client",
            ),
        ];
        for (path, text, expected) in cases {
            let found = findings(path, text);
            assert!(
                found.len() == 1 && found[0].contains(expected),
                "{path}: {found:?} instead of {expected}"
            );
        }
        let long = format!("//! H.\n{}", "\n".repeat(LINES_FAIL));
        assert!(findings("x/tests/a.rs", &long)[0].contains("split it"));
    }

    #[test]
    fn protocol_names_are_words_and_comments_do_not_count() {
        let text = "//! On lisafs.\n#![forbid(unsafe_code)]\n// A fid.\nlet confide = 1;\n";
        assert_eq!(findings("gofer-vfs/src/lib.rs", text), [""; 0]);
    }

    #[test]
    fn modules_are_found_in_every_spelling() {
        for line in ["mod a;", "    pub mod a;", "pub(crate) mod a;", "mod r#a;"] {
            assert_eq!(module_name(line).as_deref(), Some("a"));
        }
        assert_eq!(module_name("mod a {"), None);
        assert_eq!(module_of("x/src/b/mod.rs").as_deref(), Some("b"));
        assert_eq!(module_of("x/src/b/c/d.rs").as_deref(), Some("d"));
        assert_eq!(module_of("x/tests/it/main.rs"), None);
    }
}
