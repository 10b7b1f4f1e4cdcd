//! Being called by mount(8), as `mount.fuse.gofer SOURCE DIRECTORY [-sfnv] [-o OPTIONS]`, and by
//! umount(8), as `umount.fuse.gofer DIRECTORY [-nlfvr]`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{CliError, CliResult};

/// Set in the environment of the copy in the background.
pub const COPY: &str = "GOFER_MOUNT_COPY";

/// The command line that does what a call by mount(8) or umount(8) asks for; `None` for any other
/// call.
///
/// The source is where to connect: `unix:PATH`, `tcp:HOST:PORT` or a directory to start a server
/// on, with `lisafs+` or `9p+` before it to choose the protocol, or `@PROFILE`. Any other word
/// leaves that to the options.
pub fn translate(args: &[OsString]) -> CliResult<Option<Vec<OsString>>> {
    let Some(name) = args.first().map(Path::new).and_then(Path::file_name) else {
        return Ok(None);
    };
    if name.as_bytes().starts_with(b"umount.") {
        return translate_umount(args).map(Some);
    }
    if !name.as_bytes().starts_with(b"mount.") {
        return Ok(None);
    }
    let mut places = Vec::new();
    let mut options = Vec::new();
    let mut fake = false;
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        match arg.as_bytes() {
            b"-o" | b"--options" => {
                let text = rest
                    .next()
                    .ok_or_else(|| CliError::usage("-o needs a value"))?;
                options.push(text.clone());
            }
            b"-t" | b"-N" => drop(rest.next()),
            [b'-', letters @ ..] if letters.iter().all(|letter| b"sfnvrw".contains(letter)) => {
                fake |= letters.contains(&b'f');
                if letters.contains(&b'r') {
                    options.push("ro".into());
                }
            }
            [b'-', ..] => {
                let arg = arg.to_string_lossy();
                return Err(CliError::usage(format!("unknown flag {arg}")));
            }
            _ => places.push(arg.as_os_str()),
        }
    }
    let &[source, directory] = places.as_slice() else {
        return Err(CliError::usage("expected a source and a directory"));
    };
    let mut line: Vec<OsString> = vec!["gofer-cli".into(), "mount".into()];
    if fake {
        line.push("--check".into());
    }
    line.extend(source_flags(source));
    for text in options {
        line.extend(["-o".into(), text]);
    }
    line.extend(["--".into(), directory.to_owned()]);
    Ok(Some(line))
}

fn translate_umount(args: &[OsString]) -> CliResult<Vec<OsString>> {
    let mut line: Vec<OsString> = vec!["gofer-cli".into(), "umount".into()];
    let mut places = Vec::new();
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        match arg.as_bytes() {
            b"-t" | b"-N" | b"-o" => drop(rest.next()),
            [b'-', letters @ ..] if letters.iter().all(|letter| b"nlfvr".contains(letter)) => {
                if letters.contains(&b'l') {
                    line.push("--lazy".into());
                }
            }
            [b'-', ..] => {
                let arg = arg.to_string_lossy();
                return Err(CliError::usage(format!("unknown flag {arg}")));
            }
            _ => places.push(arg.clone()),
        }
    }
    line.push("--".into());
    line.append(&mut places);
    Ok(line)
}

fn source_flags(source: &OsStr) -> Vec<OsString> {
    let bytes = source.as_bytes();
    let word = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let (mut flags, bytes): (Vec<OsString>, &[u8]) = match bytes {
        [b'l', b'i', b's', b'a', b'f', b's', b'+', rest @ ..] => (vec!["--lisafs".into()], rest),
        [b'9', b'p', b'+', rest @ ..] => (Vec::new(), rest),
        _ => (Vec::new(), bytes),
    };
    if let Some(path) = bytes.strip_prefix(b"unix:") {
        flags.extend([
            "--trans".into(),
            "unix".into(),
            "--address".into(),
            word(path),
        ]);
    } else if let Some(address) = bytes.strip_prefix(b"tcp:") {
        flags.extend([
            "--trans".into(),
            "tcp".into(),
            "--address".into(),
            word(address),
        ]);
    } else if let Some(profile) = bytes.strip_prefix(b"@") {
        flags.extend(["--profile".into(), word(profile)]);
    } else if bytes.starts_with(b"/") {
        flags.extend(["--root".into(), word(bytes)]);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(args: &[&str]) -> Option<String> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let line = translate(&args).unwrap()?;
        let words: Vec<_> = line.iter().map(|word| word.to_string_lossy()).collect();
        Some(words.join(" "))
    }

    #[test]
    fn calls_by_mount_become_command_lines() {
        let name = "/sbin/mount.fuse.gofer";
        let table = [
            (
                vec![name, "unix:/run/g.sock", "/mnt", "-o", "rw,cache=none"],
                "gofer-cli mount --trans unix --address /run/g.sock -o rw,cache=none -- /mnt",
            ),
            (
                vec![name, "lisafs+/srv", "/mnt", "-n", "-sv"],
                "gofer-cli mount --lisafs --root /srv -- /mnt",
            ),
            (
                vec![name, "9p+tcp:h:564", "/mnt", "-r"],
                "gofer-cli mount --trans tcp --address h:564 -o ro -- /mnt",
            ),
            (
                vec![name, "@home", "-t", "fuse.gofer", "/mnt"],
                "gofer-cli mount --profile home -- /mnt",
            ),
            (
                vec!["/sbin/umount.fuse.gofer", "/mnt", "-nl", "-t", "fuse.gofer"],
                "gofer-cli umount --lazy -- /mnt",
            ),
            (
                vec![name, "gofer", "/mnt", "-o", "trans=unix,address=/s"],
                "gofer-cli mount -o trans=unix,address=/s -- /mnt",
            ),
        ];
        for (args, expected) in table {
            assert_eq!(line(&args).as_deref(), Some(expected));
        }
        assert_eq!(line(&["gofer-cli", "mount", "/mnt"]), None);
        let bad: Vec<OsString> = vec![name.into(), "/srv".into()];
        assert!(translate(&bad).is_err());
    }
}
