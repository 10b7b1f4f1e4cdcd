//! `xattr`: shows and changes extended attributes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::{Args, Subcommand};
use gofer_vfs::{Follow, XattrFlags};
use serde_json::{Value, json};

use crate::client::{Client, PathArg};
use crate::error::CliResult;
use crate::session::Session;
use crate::ui::{Ui, json};

/// The largest value Linux allows, `XATTR_SIZE_MAX`.
const SIZE_MAX: usize = 64 << 10;

/// Arguments of `xattr`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  xattr list -l notes.txt
  xattr set user.origin camera photo.jpg
  xattr get user.origin photo.jpg")]
pub struct XattrArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Print the names of a file's attributes
    List {
        path: PathArg,
        /// With their values
        #[arg(short)]
        long: bool,
        #[command(flatten)]
        link: Link,
    },
    /// Print one value, as it is
    Get {
        name: OsString,
        path: PathArg,
        #[command(flatten)]
        link: Link,
    },
    /// Set a value
    Set {
        name: OsString,
        #[arg(allow_hyphen_values = true)]
        value: OsString,
        path: PathArg,
        /// Fail when the attribute is there
        #[arg(short, long, conflicts_with = "replace")]
        create: bool,
        /// Fail when it is not
        #[arg(short, long)]
        replace: bool,
        #[command(flatten)]
        link: Link,
    },
    /// Remove an attribute
    Rm {
        name: OsString,
        path: PathArg,
        #[command(flatten)]
        link: Link,
    },
}

#[derive(Args, Debug)]
struct Link {
    /// Of a link itself, not of what it leads to
    #[arg(short = 'P', long)]
    no_dereference: bool,
}

impl Link {
    fn follow(&self) -> Follow {
        if self.no_dereference {
            Follow::No
        } else {
            Follow::Yes
        }
    }
}

/// Runs `xattr`.
pub fn run(session: &mut Session, args: &XattrArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let cx = client.cx();
    match &args.verb {
        Verb::List { path, long, link } => list(client, ui, path, link.follow(), *long),
        Verb::Get { name, path, link } => {
            let at = client.at(path);
            let value = client
                .fs
                .get_xattr(&cx, at, link.follow(), name.as_bytes(), SIZE_MAX)?;
            if ui.json {
                return ui.json(&json::name(&value));
            }
            // On a terminal the prompt should not stick to the value.
            match ui.terminal {
                true => {
                    let shown = ui.name(&value).into_owned();
                    ui.line(shown)
                }
                false => ui.write(&value),
            }
        }
        Verb::Set {
            name,
            value,
            path,
            create,
            replace,
            link,
        } => {
            let mut flags = XattrFlags::empty();
            flags.set(XattrFlags::CREATE, *create);
            flags.set(XattrFlags::REPLACE, *replace);
            let (name, value) = (name.as_bytes(), value.as_bytes());
            let at = client.at(path);
            Ok(client
                .fs
                .set_xattr(&cx, at, link.follow(), name, value, flags)?)
        }
        Verb::Rm { name, path, link } => {
            let at = client.at(path);
            Ok(client
                .fs
                .remove_xattr(&cx, at, link.follow(), name.as_bytes())?)
        }
    }
}

fn list(client: &Client, ui: &mut Ui, path: &[u8], follow: Follow, long: bool) -> CliResult<()> {
    let (cx, at) = (client.cx(), client.at(path));
    let mut names = client.fs.list_xattr(&cx, at, follow)?;
    names.sort();
    let mut rows: Vec<Value> = Vec::new();
    for name in names {
        let value = match long || ui.json {
            true => Some(client.fs.get_xattr(&cx, at, follow, &name, SIZE_MAX)?),
            false => None,
        };
        if ui.json {
            let value = value.as_deref().map(json::name);
            rows.push(json!({ "name": json::name(&name), "value": value }));
            continue;
        }
        let mut line = ui.name(&name).into_owned();
        if let Some(value) = value {
            line.push(b'=');
            line.extend_from_slice(&ui.name(&value));
        }
        ui.line(line)?;
    }
    if ui.json { ui.json(&rows) } else { Ok(()) }
}
