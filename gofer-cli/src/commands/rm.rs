//! `rm`: removes files and, with `-r`, whole trees.

use clap::Args;
use gofer_vfs::{At, Errno, FileType, Follow, Node};

use crate::client::{Client, PathArg, base_name, join, show};
use crate::error::{CliError, CliResult, Tally};
use crate::session::Session;
use crate::traverse::{DEPTH_LIMIT, named};
use crate::ui::Ui;

/// Arguments of `rm`.
#[derive(Args, Debug)]
pub struct RmArgs {
    /// What to remove
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathArg>,
    /// Directories with all that is in them
    #[arg(short, long, short_alias = 'R')]
    pub recursive: bool,
    /// Do not mind what is missing
    #[arg(short, long)]
    pub force: bool,
}

/// Runs `rm`.
pub fn run(session: &mut Session, args: &RmArgs) -> CliResult<()> {
    let Session { client, ui, .. } = session;
    let mut tally = Tally::default();
    for path in &args.paths {
        let result = remove(client, ui, args, path);
        client.note(ui, &mut tally, result)?;
    }
    tally.finish()
}

fn remove(client: &Client, ui: &Ui, args: &RmArgs, path: &[u8]) -> CliResult<()> {
    if args.recursive && base_name(path).is_none() {
        return Err(CliError::usage(format!(
            "rm: refuses to remove `{}`; name what is in it",
            show(path)
        )));
    }
    let cx = client.cx();
    let removed = match client.fs.unlink(&cx, client.at(path)) {
        Err(error) if error.errno() == Errno::EISDIR && args.recursive => {
            let mut tally = Tally::default();
            let node = client.fs.resolve(&cx, client.at(path), Follow::No)?;
            empty(client, ui, &mut tally, &node, path)?;
            // With something left in it, the reason was shown.
            tally.finish()?;
            client.fs.rmdir(&cx, client.at(path))
        }
        Err(error) if error.errno() == Errno::EISDIR => {
            return Err(CliError::from(error).hint("rm -r removes directories"));
        }
        removed => removed,
    };
    match removed {
        Err(error) if args.force && error.errno() == Errno::ENOENT => return Ok(()),
        removed => removed?,
    }
    ui.did(|| format!("removed {}", show(path)));
    Ok(())
}

struct Frame {
    node: Node,
    name: Vec<u8>,
    path: Vec<u8>,
    entries: Vec<(Vec<u8>, Option<FileType>)>,
}

/// Removes everything in `top`, deepest first, each name relative to its directory: a link that
/// somebody puts there meanwhile is removed, not followed.
fn empty(client: &Client, ui: &Ui, tally: &mut Tally, top: &Node, path: &[u8]) -> CliResult<()> {
    let mut stack = vec![open(client, top.clone(), b"", path)?];
    loop {
        let depth = stack.len();
        let Some(frame) = stack.last_mut() else { break };
        client.check_cancel()?;
        if let Some((name, file_type)) = frame.entries.pop() {
            let path = join(&frame.path, &name);
            let at = At::new(&frame.node, &name);
            let removed = match file_type {
                Some(FileType::Directory) => {
                    Err(gofer_vfs::Error::at("unlink", path.clone(), Errno::EISDIR))
                }
                _ => client.fs.unlink(&client.cx(), at),
            };
            match removed {
                Ok(()) => ui.did(|| format!("removed {}", show(&path))),
                Err(error) if error.errno() == Errno::EISDIR && depth < DEPTH_LIMIT => {
                    let below = client
                        .fs
                        .resolve(&client.cx(), at, Follow::No)
                        .map_err(|error| named(error, &path))
                        .and_then(|node| open(client, node, &name, &path));
                    match below {
                        Ok(below) => stack.push(below),
                        Err(error) => client.note(ui, tally, Err(error))?,
                    }
                }
                Err(error) if error.errno() == Errno::ENOENT => {}
                Err(error) => client.note(ui, tally, Err(named(error, &path)))?,
            }
            continue;
        }
        let Some(done) = stack.pop() else { break };
        if let Some(parent) = stack.last() {
            let at = At::new(&parent.node, &done.name);
            let removed = client.fs.rmdir(&client.cx(), at);
            if removed.is_ok() {
                ui.did(|| format!("removed {}", show(&done.path)));
            }
            let removed = removed.map_err(|error| named(error, &done.path));
            client.note(ui, tally, removed)?;
        }
    }
    Ok(())
}

fn open(client: &Client, node: Node, name: &[u8], path: &[u8]) -> CliResult<Frame> {
    let entries = client
        .list(At::new(&node, b""), false)
        .map_err(|error| named(error, path))?;
    Ok(Frame {
        node,
        name: name.to_vec(),
        path: path.to_vec(),
        entries: entries
            .into_iter()
            .map(|entry| (entry.name, entry.file_type))
            .collect(),
    })
}
