//! The parts of the file system that can be reached: the roots, each with the rights of its mode.
//!
//! This is a second wall behind the confinement of `host`, which never resolves a path: what it
//! holds descriptors of it can open again, and only below a root. A file that somebody moves out
//! of its root cannot be opened any more. The socket files of listeners are removed at the end,
//! and landlock knows no smaller right for that than removing files below their directory.

use std::fs::File;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::Needs;

/// The newest version whose rights are known here. Later ones restrict what is not needed either.
const KNOWN: ABI = ABI::V6;

/// Restricts this thread and those it starts.
pub(super) fn restrict(needs: &Needs<'_>) -> Result<String, String> {
    let status = ruleset(needs)
        .and_then(RulesetCreated::restrict_self)
        .map_err(|error| explain(&error))?;
    let roots = match needs.roots.len() {
        1 => "1 root".to_owned(),
        count => format!("{count} roots"),
    };
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(roots),
        RulesetStatus::PartiallyEnforced => Err(format!(
            "this kernel's is too old for all of it; what it has is applied, {roots}"
        )),
        RulesetStatus::NotEnforced => Err("this kernel has none, or it is switched off".to_owned()),
    }
}

fn ruleset(needs: &Needs<'_>) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        // Without this right, renaming between directories is forbidden altogether.
        .set_compatibility(CompatLevel::SoftRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    for root in &needs.roots {
        let rights = rights(root.readonly, root.is_dir);
        ruleset = ruleset.add_rule(PathBeneath::new(root.fd, rights))?;
    }
    for file in &needs.socket_files {
        // One that cannot be opened is not there to be cleaned up either.
        if let Ok(dir) = File::open(directory(file)) {
            ruleset = ruleset.add_rule(PathBeneath::new(dir, AccessFs::RemoveFile))?;
        }
    }
    Ok(ruleset)
}

/// What an export needs of its root. Nothing is ever executed, nor are devices controlled.
fn rights(readonly: bool, is_dir: bool) -> BitFlags<AccessFs> {
    let mut rights = AccessFs::ReadFile | AccessFs::ReadDir;
    if !readonly {
        rights |= AccessFs::from_write(KNOWN) & !BitFlags::from(AccessFs::IoctlDev);
    }
    if is_dir {
        rights
    } else {
        rights & AccessFs::from_file(KNOWN)
    }
}

/// The directory that `file` is in.
fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

/// The whole chain of what went wrong.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Root;
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;

    #[test]
    fn rights_are_those_of_the_mode() {
        let writes = AccessFs::from_write(KNOWN);
        assert!(!rights(true, true).intersects(writes));
        assert!(!rights(true, false).intersects(writes | AccessFs::ReadDir));
        assert!(rights(false, true).contains(AccessFs::Refer | AccessFs::Truncate));
        assert_eq!(
            rights(false, false),
            AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate
        );
        for rights in [rights(false, true), rights(true, true)] {
            assert!(!rights.intersects(AccessFs::Execute | AccessFs::IoctlDev));
        }
    }

    #[test]
    fn a_restricted_thread_reaches_the_roots_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        for dir in ["rw", "rw/a", "rw/b", "ro", "run", "else"] {
            fs::create_dir(path(dir)).unwrap();
        }
        for file in ["rw/a/file", "ro/file", "run/socket", "else/file", "single"] {
            fs::write(path(file), "content").unwrap();
        }
        let open = |name| File::open(path(name)).unwrap();
        let files = [
            ("rw", true, false),
            ("ro", true, true),
            ("single", false, true),
        ]
        .map(|(name, is_dir, readonly)| (open(name), is_dir, readonly));
        let socket = path("run/socket");
        let restrict_here = || {
            let roots = files.iter().map(|(file, is_dir, readonly)| Root {
                fd: file.as_fd(),
                is_dir: *is_dir,
                readonly: *readonly,
            });
            let needs = Needs {
                roots: roots.collect(),
                socket_files: vec![&socket],
                ..Needs::default()
            };
            if let Err(reason) = restrict(&needs) {
                eprintln!("not run: {reason}");
                return;
            }
            assert_eq!(fs::read(path("ro/file")).unwrap(), b"content");
            assert_eq!(fs::read(path("single")).unwrap(), b"content");
            fs::rename(path("rw/a/file"), path("rw/b/file")).unwrap();
            fs::write(path("rw/b/file"), "shorter").unwrap();
            let refused = |result: std::io::Result<()>| {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
            };
            refused(fs::write(path("ro/file"), ""));
            refused(fs::write(path("ro/new"), ""));
            refused(fs::remove_file(path("ro/file")));
            refused(fs::write(path("single"), ""));
            refused(fs::read(path("else/file")).map(drop));
            refused(fs::read_dir(path("else")).map(drop));
            refused(fs::write(path("run/new"), ""));
            fs::remove_file(&socket).unwrap();
            let abroad = fs::rename(path("rw/b/file"), path("else/new")).unwrap_err();
            assert!(abroad.raw_os_error().is_some());
            assert!(path("rw/b/file").exists());
        };
        // Of this thread alone: the process goes on testing.
        std::thread::scope(|scope| scope.spawn(restrict_here).join().unwrap());
    }

    #[test]
    fn a_socket_file_is_in_a_directory() {
        assert_eq!(
            directory(Path::new("/run/gofer/socket")),
            Path::new("/run/gofer")
        );
        assert_eq!(directory(Path::new("/socket")), Path::new("/"));
        assert_eq!(directory(Path::new("socket")), Path::new("."));
    }
}
