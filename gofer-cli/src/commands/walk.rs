//! `walk`: how a path is resolved, step by step.

use clap::Args;
use gofer_vfs::remote::FileKey;
use gofer_vfs::{Follow, StepSource, WalkStep};
use serde_json::{Value, json};

use crate::client::PathArg;
use crate::error::CliResult;
use crate::session::Session;
use crate::ui::table::{self, Align, Cell};
use crate::ui::{format, json};

/// Arguments of `walk`.
#[derive(Args, Debug)]
#[command(after_help = "\
Sources:
  root          where the path begins
  cache         known, nobody was asked
  negative      known to be missing, nobody was asked
  prefetched    came with the answer to an earlier step
  rpc           the server was asked
  revalidated   known, and the server confirmed it
A round trip is a time somebody waited for the server.")]
pub struct WalkArgs {
    /// The path to resolve
    #[arg(value_name = "PATH")]
    pub path: PathArg,
    /// Stop at a link at the end instead of following it
    #[arg(short = 'P', long)]
    pub no_follow: bool,
}

/// Runs `walk`.
pub fn run(session: &mut Session, args: &WalkArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let follow = if args.no_follow {
        Follow::No
    } else {
        Follow::Yes
    };
    let (mut steps, result) = client
        .fs
        .trace_walk(&client.cx(), client.at(&args.path), follow);
    // A relative path begins where we are, whatever that is called.
    if let Some(first) = steps.first_mut()
        && !args.path.starts_with(b"/")
        && first.name == b"/"
    {
        first.name = b".".to_vec();
    }
    let total: u64 = steps.iter().map(|step| step.round_trips).sum();
    if ui.json {
        let steps: Vec<Value> = steps.iter().map(step_json).collect();
        ui.json(&json!({ "path": json::name(&args.path), "steps": steps, "round_trips": total }))?;
        return Ok(result.map(drop)?);
    }
    let mut rows = vec![
        ["STEP", "NAME", "TYPE", "INO", "IDENTITY", "SOURCE", "TRIPS"]
            .map(Cell::new)
            .to_vec(),
    ];
    for (index, step) in steps.iter().enumerate() {
        let mut name = ui.name(&step.name).into_owned();
        if let Some(target) = &step.link_target {
            name.extend_from_slice(b" -> ");
            name.extend_from_slice(&ui.name(target));
        }
        rows.push(vec![
            Cell::new(index.to_string()),
            Cell::new(name),
            Cell::new(step.file_type.map_or("missing", format::type_word)),
            Cell::new(step.ino.map_or("-".to_owned(), |ino| ino.to_string())),
            Cell::new(step.key.map_or("-".to_owned(), identity)),
            Cell::new(source(&step.source)),
            Cell::new(step.round_trips.to_string()),
        ]);
    }
    use Align::{Left, Right};
    ui.write(&table::rows(
        &[Right, Left, Left, Right, Left, Left, Right],
        &rows,
    ))?;
    let noun = if total == 1 { "trip" } else { "trips" };
    ui.line(format!("{total} round {noun}"))?;
    Ok(result.map(drop)?)
}

fn step_json(step: &WalkStep) -> Value {
    json!({
        "name": json::name(&step.name),
        "type": step.file_type.map(format::type_word),
        "ino": step.ino,
        "identity": step.key.map(identity),
        "source": source(&step.source),
        "round_trips": step.round_trips,
        "target": step.link_target.as_deref().map(json::name),
    })
}

/// The server's identity of a file: connection, number, device.
fn identity(key: FileKey) -> String {
    format!("{}:{:x}.{:x}", key.epoch, key.id[0], key.id[1])
}

fn source(source: &StepSource) -> &'static str {
    match source {
        StepSource::Root => "root",
        StepSource::Cache => "cache",
        StepSource::Negative => "negative",
        StepSource::Prefetched => "prefetched",
        StepSource::Remote => "rpc",
        StepSource::Revalidated => "revalidated",
    }
}
