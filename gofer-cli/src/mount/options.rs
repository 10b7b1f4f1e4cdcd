//! `-o` of `mount`: what concerns the mount, and what is left for the connection.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use gofer_fuse::FuseOptions;
use gofer_vfs::error::printable;
use gofer_vfs::options::nearest;

use super::MountArgs;
use crate::args::ConnectionArgs;
use crate::error::{CliError, CliResult};
use crate::settings::{NOISE, escaped, split_commas};

/// What `-o` takes beside the keys of the connection, for the help.
pub const KEYS_HELP: &str = "\
Keys of -o, beside those of `help options`:
  ro, rw, nosuid, suid, nodev, dev, noexec, exec, noatime, atime, sync, dirsync
                            as in mount(8); nosuid and nodev unless asked otherwise
  allow_other               everybody may use it, not just who mounts it
  allow_root                root may use it as well
  default_permissions       always on: the kernel checks permissions
  fsname=NAME, subtype=TYPE what mount(8) shows as source and as type
  entry_timeout=SECONDS, attr_timeout=SECONDS, negative_timeout=SECONDS
                            how long the kernel trusts names, attributes, missing names, instead
                            of what cache= allows: for ever, or as long as revalidate_after says
  locks=server              locks are the server's, for all its clients; else the kernel's own
Words of fstab such as auto, noauto, user, _netdev, nofail and x-... are ignored.";

/// Keys that concern the file system below as well.
const BOTH: [&[u8]; 4] = [b"ro", b"rw", b"atime", b"noatime"];

/// Keys of the connection that have no place in its option string.
const MORE: [&[u8]; 3] = [b"uname", b"comment", b""];

/// What to mount how.
#[derive(Debug)]
pub struct Plan {
    /// Options of the mount.
    pub fuse: FuseOptions,
    /// The connection's arguments, without those.
    pub connection: ConnectionArgs,
}

impl Plan {
    /// Sorts the options. Unknown ones are errors that name the nearest known.
    pub fn new(_: &MountArgs, connection: &ConnectionArgs) -> CliResult<Plan> {
        let mut fuse = FuseOptions {
            readonly: connection.readonly,
            ..FuseOptions::default()
        };
        let mut rest = connection.clone();
        rest.options.clear();
        let mut named = false;
        for text in &connection.options {
            for item in split_commas(text.as_bytes()) {
                let (key, value) = match item.iter().position(|byte| *byte == b'=') {
                    Some(at) => (&item[..at], Some(&item[at + 1..])),
                    None => (item.as_slice(), None),
                };
                named |= key == b"fsname";
                let taken = fuse
                    .take(key, value)
                    .map_err(|why| CliError::usage(format!("mount option {why}")))?;
                if !taken {
                    check_known(key)?;
                }
                if !taken || BOTH.contains(&key) {
                    rest.options.push(again(key, value));
                }
            }
        }
        if !named && let Some(source) = source_of(connection) {
            fuse.fsname = source;
        }
        Ok(Plan {
            fuse,
            connection: rest,
        })
    }
}

/// An item as it stood in the option string.
fn again(key: &[u8], value: Option<&[u8]>) -> OsString {
    let mut item = escaped(key);
    if let Some(value) = value {
        item.push(b'=');
        item.extend_from_slice(&escaped(value));
    }
    OsString::from_vec(item)
}

fn check_known(key: &[u8]) -> CliResult<()> {
    let text = printable(key);
    let known = NOISE.contains(&key)
        || MORE.contains(&key)
        || key.starts_with(b"x-")
        || gofer_vfs::options::keys().any(|known| known.as_bytes() == key);
    if known {
        return Ok(());
    }
    let all = gofer_vfs::options::keys().chain(gofer_fuse::KEYS.iter().copied());
    let error = CliError::usage(format!("mount option `{text}`: unknown"));
    Err(match nearest(&text, all) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("`gofer-cli help mount` and `help options` list the keys"),
    })
}

/// What to show as the source: the address or the directory, if the kernel can be told of it.
fn source_of(connection: &ConnectionArgs) -> Option<String> {
    let source = match (&connection.address, &connection.root) {
        (Some(address), _) => address.as_os_str(),
        (None, Some(root)) => root.as_os_str(),
        _ => OsStr::new("gofer"),
    };
    let mut probe = FuseOptions::default();
    let fits = probe.take(b"fsname", Some(source.as_bytes()));
    fits.is_ok().then_some(probe.fsname)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use clap::Parser;

    fn plan(options: &str) -> CliResult<Plan> {
        let cli = crate::args::Cli::try_parse_from(["gofer-cli", "mount", "-o", options, "/mnt"])
            .expect("parses");
        let Some(crate::args::TopCommand::Mount(args)) = cli.command else {
            panic!("not mount");
        };
        Plan::new(&args, &cli.connection)
    }

    #[test]
    fn each_side_gets_its_options() {
        let plan = plan(
            "ro,cache=none,allow_other,noauto,_netdev,x-systemd.requires=a,fsname=me,aname=/a\\,b",
        )
        .unwrap();
        assert!(plan.fuse.readonly);
        assert_eq!(plan.fuse.fsname, "me");
        assert_eq!(plan.fuse.share, gofer_fuse::Share::Everybody);
        let rest: Vec<_> = plan
            .connection
            .options
            .iter()
            .map(|o| o.to_string_lossy())
            .collect();
        assert_eq!(
            rest,
            [
                "ro",
                "cache=none",
                "noauto",
                "_netdev",
                "x-systemd.requires=a",
                "aname=/a\\,b"
            ]
        );
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        for (given, near) in [
            ("atr_timeout=1", "`attr_timeout`"),
            ("cahce=none", "`cache`"),
            ("alow_other", "`allow_other`"),
        ] {
            let error = plan(given).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            let shown = format!("{error:?}");
            assert!(shown.contains(near), "{shown}");
        }
        assert!(plan("fsname=a\\,b").is_err());
        assert!(plan("ro=1").is_err());
    }
}
