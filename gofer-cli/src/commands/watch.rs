//! `watch`: prints what happens to files.

use std::time::{Duration, Instant};

use clap::Args;
use gofer_vfs::{Context, Errno, Event, EventMask, Notifier};
use serde_json::json;

use crate::client::{Client, PathArg};
use crate::error::CliResult;
use crate::session::Session;
use crate::ui::{Ui, json as shapes};

/// How often the server is asked about the watched files where others may change them: nobody
/// tells.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Events taken from the queue at a time.
const BATCH: usize = 256;

/// Arguments of `watch`.
#[derive(Args, Debug)]
#[command(after_help = "\
Events, as inotify(7) has them: access, modify, attrib, close_write, close_nowrite, open,
moved_from, moved_to, create, delete, delete_self, move_self.

What this client does is told at once. With cache=remote_revalidating or none this command looks
once a second for what others did: names that came or went in a watched directory, and changes of
watched files. In other modes nobody else is taken to change anything.

Examples:
  watch -e create,moved_to inbox    names that appear in a directory
  watch --count 1 flag && echo seen
  watch --json src                  one object for each event")]
pub struct WatchArgs {
    /// Files and directories
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathArg>,
    /// End after this many events [default: at Ctrl-C]
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// Only these
    #[arg(short, long, value_name = "EVENT,...", value_delimiter = ',', value_parser = event)]
    pub events: Vec<EventMask>,
    /// Of a link itself, not of what it leads to
    #[arg(short = 'P', long)]
    pub no_dereference: bool,
}

fn event(word: &str) -> Result<EventMask, String> {
    let known = EventMask::from_name(&word.to_uppercase());
    known
        .filter(|mask| EventMask::ALL.contains(*mask))
        .ok_or_else(|| "no such event".to_owned())
}

/// Runs `watch`.
pub fn run(session: &mut Session, args: &WatchArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let notifier = client.fs.notifier()?;
    let mut watched: Vec<(i32, &PathArg)> = Vec::new();
    for path in &args.paths {
        let mut mask = match args.events.as_slice() {
            [] => EventMask::ALL,
            some => some.iter().copied().collect(),
        };
        if args.no_dereference {
            mask |= EventMask::DONT_FOLLOW;
        }
        let number = notifier.add(&client.cx(), client.at(path), mask)?;
        if !watched.iter().any(|(other, _)| *other == number) {
            watched.push((number, path));
        }
    }
    notifier.look(&client.cx())?;
    ui.did(|| format!("watching {} files", watched.len()));
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut alive = watched.len();
    while left > 0 && alive > 0 {
        let most = left.min(BATCH as u64) as usize;
        let Some(events) = next(client, &notifier, most)? else {
            client.cancel.reset();
            break;
        };
        for event in &events {
            alive -= usize::from(event.mask.contains(EventMask::IGNORED));
            print(ui, &watched, event)?;
            left -= 1;
        }
        ui.flush()?;
    }
    Ok(())
}

/// The next events; `None` at Ctrl-C. Looks for changes by others meanwhile, and whether the
/// server is still there.
fn next(client: &Client, notifier: &Notifier, most: usize) -> CliResult<Option<Vec<Event>>> {
    let shared = client.fs.options().cache.must_revalidate();
    loop {
        let cx = Context {
            deadline: Some(Instant::now() + LOOK_AGAIN),
            ..client.cx()
        };
        match notifier.read(&cx, most) {
            Ok(events) => return Ok(Some(events)),
            Err(error) if error.errno() == Errno::EINTR => return Ok(None),
            Err(error) if error.errno() == Errno::ETIMEDOUT && shared => {
                notifier.look(&client.cx())?;
            }
            Err(error) if error.errno() == Errno::ETIMEDOUT => client.check_connection("watch")?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// One line: the watched path, the event, the name.
fn print(ui: &mut Ui, watched: &[(i32, &PathArg)], event: &Event) -> CliResult<()> {
    let path = watched.iter().find(|(number, _)| *number == event.watch);
    let path: &[u8] = path.map_or(b"", |(_, path)| path);
    let words: Vec<String> = event
        .mask
        .iter_names()
        .map(|(name, _)| name.to_lowercase())
        .collect();
    if ui.json {
        return ui.json(&json!({
            "path": shapes::name(path),
            "events": words,
            "name": (!event.name.is_empty()).then(|| shapes::name(&event.name)),
            "cookie": (event.cookie != 0).then_some(event.cookie),
        }));
    }
    let mut line = ui.name(path).into_owned();
    line.push(b' ');
    line.extend_from_slice(words.join(",").as_bytes());
    if !event.name.is_empty() {
        line.push(b' ');
        line.extend_from_slice(&ui.name(&event.name));
    }
    ui.line(line)
}
