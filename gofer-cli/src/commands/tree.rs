//! `tree`: a directory as a drawing.

use clap::Args;
use gofer_vfs::{At, FileType, Follow, Node, Stat};

use crate::client::{Client, PathArg, join};
use crate::error::{CliResult, Tally};
use crate::session::Session;
use crate::traverse::named;
use crate::ui::Ui;
use crate::ui::format;
use crate::ui::json::FileJson;

/// Nobody reads a tree deeper than this, and drawing one takes room on the stack.
const LEVEL_LIMIT: u16 = 1000;

/// Arguments of `tree`.
#[derive(Args, Debug)]
pub struct TreeArgs {
    /// Where to begin [default: the directory]
    #[arg(value_name = "PATH", default_value = ".", hide_default_value = true)]
    pub path: PathArg,
    /// Levels to show
    #[arg(short = 'L', long, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub level: Option<u16>,
    /// Names that begin with a dot, too
    #[arg(short)]
    pub all: bool,
    /// Directories only
    #[arg(short)]
    pub directories: bool,
    /// Mark directories with `/`, programs with `*`, links with `@`, ...
    #[arg(short = 'F')]
    pub classify: bool,
}

struct Drawer<'a> {
    client: &'a Client,
    ui: &'a mut Ui,
    args: &'a TreeArgs,
    tally: Tally,
    directories: u64,
    files: u64,
}

/// Runs `tree`.
pub fn run(session: &mut Session, args: &TreeArgs) -> CliResult<()> {
    let client = &session.client;
    let stat = client.stat(&args.path)?;
    let node = client
        .fs
        .resolve(&client.cx(), client.at(&args.path), Follow::Yes)?;
    let mut drawer = Drawer {
        client,
        ui: &mut session.ui,
        args,
        tally: Tally::default(),
        directories: 0,
        files: 0,
    };
    let mut top = FileJson::new(&args.path, &args.path, &stat, None);
    if !drawer.ui.json {
        let name = drawer.paint(&args.path, &stat);
        drawer.ui.line(name)?;
    }
    if stat.attr.file_type == FileType::Directory {
        top.children = Some(drawer.draw(&node, &args.path, &mut String::new(), 1)?);
    }
    let (directories, files) = (drawer.directories, drawer.files);
    let tally = drawer.tally;
    if session.ui.json {
        session.ui.json(&[top])?;
    } else {
        let files = if args.directories {
            String::new()
        } else {
            format!(", {files} files")
        };
        session
            .ui
            .line(format!("\n{directories} directories{files}"))?;
    }
    tally.finish()
}

impl Drawer<'_> {
    fn draw(
        &mut self,
        node: &Node,
        path: &[u8],
        margin: &mut String,
        level: u16,
    ) -> CliResult<Vec<FileJson>> {
        let rows = match self.read(node, path) {
            Ok(rows) => rows,
            Err(error) => {
                self.client.note(self.ui, &mut self.tally, Err(error))?;
                return Ok(Vec::new());
            }
        };
        self.client.note(self.ui, &mut self.tally, Ok(()))?;
        let mut list = Vec::new();
        let count = rows.len();
        for (index, (name, stat)) in rows.into_iter().enumerate() {
            let last = index + 1 == count;
            let path = join(path, &name);
            let target = match stat.attr.file_type {
                FileType::Symlink => self
                    .client
                    .fs
                    .read_link(&self.client.cx(), At::new(node, &name))
                    .ok(),
                _ => None,
            };
            if self.ui.json {
                list.push(FileJson::new(&name, &path, &stat, target.as_deref()));
            } else {
                let mut line = margin.clone().into_bytes();
                line.extend_from_slice(if last { "└── " } else { "├── " }.as_bytes());
                line.extend(self.paint(&name, &stat));
                if let Some(target) = target {
                    line.extend_from_slice(b" -> ");
                    line.extend_from_slice(&self.ui.name(&target));
                }
                self.ui.line(line)?;
            }
            if stat.attr.file_type != FileType::Directory {
                self.files += 1;
                continue;
            }
            self.directories += 1;
            if level >= self.args.level.unwrap_or(LEVEL_LIMIT) {
                if self.args.level.is_none() {
                    let path = crate::client::show(&path);
                    self.ui.note(&format!(
                        "{path}: deeper than {LEVEL_LIMIT} levels, not shown"
                    ));
                }
                continue;
            }
            let child = self
                .client
                .fs
                .resolve(&self.client.cx(), At::new(node, &name), Follow::No);
            let child = match child {
                Ok(child) => child,
                Err(error) => {
                    self.client
                        .note(self.ui, &mut self.tally, Err(named(error, &path)))?;
                    continue;
                }
            };
            let width = margin.len();
            margin.push_str(if last { "    " } else { "│   " });
            let children = self.draw(&child, &path, margin, level + 1)?;
            margin.truncate(width);
            if let Some(entry) = list.last_mut() {
                entry.children = Some(children);
            }
        }
        Ok(list)
    }

    fn read(&mut self, node: &Node, path: &[u8]) -> CliResult<Vec<(Vec<u8>, Stat)>> {
        let listed = self.client.list(At::new(node, b""), false);
        let mut rows = Vec::new();
        for entry in listed.map_err(|error| named(error, path))? {
            if entry.name.starts_with(b".") && !self.args.all {
                continue;
            }
            let at = At::new(node, &entry.name);
            match self.client.fs.stat(&self.client.cx(), at, Follow::No) {
                Ok(stat) => {
                    let dir = stat.attr.file_type == FileType::Directory;
                    if dir || !self.args.directories {
                        rows.push((entry.name, stat));
                    }
                }
                Err(error) => {
                    let error = named(error, &join(path, &entry.name));
                    self.client.note(self.ui, &mut self.tally, Err(error))?;
                }
            }
        }
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(rows)
    }

    fn paint(&self, name: &[u8], stat: &Stat) -> Vec<u8> {
        let shown = self.ui.name(name);
        let mut painted = match &self.ui.colors {
            Some(colors) => colors.paint(&shown, name, &stat.attr),
            None => shown.into_owned(),
        };
        if self.args.classify {
            let mark = format::type_mark(stat.attr.file_type, stat.attr.mode);
            painted.extend_from_slice(mark.as_bytes());
        }
        painted
    }
}
