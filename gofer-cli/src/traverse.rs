//! Walks a remote directory tree depth first, for `find`, `du`, `chmod -R` and their like.

use gofer_vfs::{At, Errno, FileType, Follow, Node, Stat};

use crate::client::{Client, join};
use crate::error::{CliError, CliResult, Tally};
use crate::exit::Exit;
use crate::ui::Ui;

/// Deeper than any honest tree; a server that makes up directories without end stops here.
pub const DEPTH_LIMIT: usize = 10_000;

/// A file that was come across.
pub struct Item<'a> {
    /// The directory it is in; for the start, the one its path is relative to.
    pub parent: &'a Node,
    /// Its name in `parent`; for the start, the path that was given.
    pub name: &'a [u8],
    /// Its path, beginning as the start was given.
    pub path: &'a [u8],
    /// Its attributes.
    pub stat: &'a Stat,
    /// Levels below the start.
    pub depth: usize,
}

impl Item<'_> {
    /// How to name it in an operation.
    pub fn at(&self) -> At<'_> {
        At::new(self.parent, self.name)
    }

    /// Whether there is something below it.
    pub fn is_dir(&self) -> bool {
        self.stat.attr.file_type == FileType::Directory
    }
}

/// Where to go from a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Into it.
    Into,
    /// Past it.
    Over,
}

/// What is done at each file.
pub trait Visitor {
    /// Called for every file, for directories before what is in them.
    fn visit(&mut self, ui: &mut Ui, item: &Item<'_>) -> CliResult<Step>;

    /// Called for directories after what is in them, also when not gone into.
    fn leave(&mut self, _ui: &mut Ui, _item: &Item<'_>) -> CliResult<()> {
        Ok(())
    }
}

struct Frame {
    /// Of the directory itself, to leave it by.
    parent: Node,
    name: Vec<u8>,
    path: Vec<u8>,
    stat: Stat,
    node: Node,
    /// What is left, in reverse.
    names: Vec<Vec<u8>>,
}

/// Visits `start` and everything below it, in the order of names. Links are not followed, but
/// for `start` itself on request. What cannot be read is shown and counted in `tally`.
pub fn traverse(
    client: &Client,
    ui: &mut Ui,
    tally: &mut Tally,
    start: &[u8],
    follow: Follow,
    visitor: &mut dyn Visitor,
) -> CliResult<()> {
    let stat = client.fs.stat(&client.cx(), client.at(start), follow)?;
    let mut stack = Vec::new();
    let top = Item {
        parent: &client.cwd,
        name: start,
        path: start,
        stat: &stat,
        depth: 0,
    };
    enter(client, ui, tally, &mut stack, &top, follow, visitor)?;
    while let Some(frame) = stack.last_mut() {
        client.check_cancel()?;
        let Some(name) = frame.names.pop() else {
            if let Some(done) = stack.pop() {
                let item = Item {
                    parent: &done.parent,
                    name: &done.name,
                    path: &done.path,
                    stat: &done.stat,
                    depth: stack.len(),
                };
                let left = visitor.leave(ui, &item);
                client.note(ui, tally, left)?;
            }
            continue;
        };
        let (parent, path) = (frame.node.clone(), join(&frame.path, &name));
        let stat = match client
            .fs
            .stat(&client.cx(), At::new(&parent, &name), Follow::No)
        {
            Ok(stat) => stat,
            // Gone since it was listed: nobody needs to know.
            Err(error) if error.errno() == Errno::ENOENT => continue,
            Err(error) => {
                client.note(ui, tally, Err(named(error, &path)))?;
                continue;
            }
        };
        let depth = stack.len();
        let item = Item {
            parent: &parent,
            name: &name,
            path: &path,
            stat: &stat,
            depth,
        };
        enter(client, ui, tally, &mut stack, &item, Follow::No, visitor)?;
    }
    Ok(())
}

fn enter(
    client: &Client,
    ui: &mut Ui,
    tally: &mut Tally,
    stack: &mut Vec<Frame>,
    item: &Item<'_>,
    follow: Follow,
    visitor: &mut dyn Visitor,
) -> CliResult<()> {
    let step = match visitor.visit(ui, item) {
        Ok(step) => step,
        Err(error) => return client.note(ui, tally, Err(error)),
    };
    client.note(ui, tally, Ok(()))?;
    if !item.is_dir() {
        return Ok(());
    }
    if step == Step::Over {
        let left = visitor.leave(ui, item);
        return client.note(ui, tally, left);
    }
    if stack.len() >= DEPTH_LIMIT {
        let error = CliError::new(
            Exit::Failed,
            format!("directory at depth {DEPTH_LIMIT}: not entered, this is the limit"),
        );
        return client.note(ui, tally, Err(error.with_errno("open", Errno::ELOOP)));
    }
    let opened = client.fs.resolve(&client.cx(), item.at(), follow);
    let listed = opened.and_then(|node| {
        let entries = client.list(At::new(&node, b""), false)?;
        Ok((node, entries))
    });
    match listed {
        Ok((node, entries)) => {
            let mut names: Vec<Vec<u8>> = entries.into_iter().map(|entry| entry.name).collect();
            names.sort_unstable_by(|a, b| b.cmp(a));
            stack.push(Frame {
                parent: item.parent.clone(),
                name: item.name.to_vec(),
                path: item.path.to_vec(),
                stat: *item.stat,
                node,
                names,
            });
            Ok(())
        }
        Err(error) => client.note(ui, tally, Err(named(error, item.path))),
    }
}

/// An error of a name relative to some directory, under the path the user knows.
pub fn named(error: gofer_vfs::Error, path: &[u8]) -> CliError {
    gofer_vfs::Error::at(error.op(), path, error.errno()).into()
}
