//! `readlink`: prints what symbolic links say.

use clap::Args;
use gofer_vfs::Follow;
use serde_json::{Value, json};

use crate::client::PathArg;
use crate::error::{CliResult, Tally};
use crate::session::Session;
use crate::ui::json;

/// Arguments of `readlink`.
#[derive(Args, Debug)]
pub struct ReadlinkArgs {
    /// Links to read
    #[arg(required = true, value_name = "LINK")]
    pub paths: Vec<PathArg>,
    /// Print the path that all links on the way lead to
    #[arg(short = 'f', long)]
    pub canonicalize: bool,
}

/// Runs `readlink`.
pub fn run(session: &mut Session, args: &ReadlinkArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let mut tally = Tally::default();
    let mut list: Vec<Value> = Vec::new();
    for path in &args.paths {
        let (cx, at) = (client.cx(), client.at(path));
        let target = match args.canonicalize {
            true => client
                .fs
                .resolve(&cx, at, Follow::Yes)
                .map(|node| node.path()),
            false => client.fs.read_link(&cx, at),
        };
        let shown = target.map_err(Into::into).and_then(|target| {
            if ui.json {
                list.push(json!({ "path": json::name(path), "target": json::name(&target) }));
                return Ok(());
            }
            let target = ui.name(&target).into_owned();
            ui.line(target)
        });
        client.note(ui, &mut tally, shown)?;
    }
    if ui.json {
        ui.json(&list)?;
    }
    tally.finish()
}
