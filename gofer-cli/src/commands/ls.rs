//! `ls`: lists directories the way users of ls know it.

use std::cmp::Ordering;
use std::time::SystemTime;

use clap::Args;
use gofer_vfs::{At, Attr, FileType, Follow, Node, Stat, Timestamp};
use jiff::tz::TimeZone;

use crate::client::{Client, PathArg, join};
use crate::error::{CliResult, Tally};
use crate::ids::Names;
use crate::session::Session;
use crate::traverse::{DEPTH_LIMIT, named};
use crate::ui::Ui;
use crate::ui::format;
use crate::ui::json::FileJson;
use crate::ui::table::{self, Align, Cell};

/// Arguments of `ls`.
#[derive(Args, Debug, Default)]
#[command(
    disable_help_flag = true,
    after_help = "\
Examples:
  ls -lh            long lines, sizes with units
  ls -ltr log       oldest first
  ls -R --json src  everything below src, as one array"
)]
pub struct LsArgs {
    /// What to list [default: the directory]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathArg>,
    /// Type, mode, owner, size and time of each
    #[arg(short)]
    pub long: bool,
    /// Names that begin with a dot, too
    #[arg(short)]
    pub all: bool,
    /// The same without `.` and `..`
    #[arg(short = 'A')]
    pub almost_all: bool,
    /// Directories below, too
    #[arg(short = 'R')]
    pub recursive: bool,
    /// One name a line
    #[arg(short = '1')]
    pub one: bool,
    /// Sizes with units
    #[arg(short = 'h')]
    pub human: bool,
    /// Largest first
    #[arg(short = 'S', overrides_with = "by_time")]
    pub by_size: bool,
    /// Newest first
    #[arg(short = 't', overrides_with = "by_size")]
    pub by_time: bool,
    /// The other way round
    #[arg(short)]
    pub reverse: bool,
    /// In the server's order, with names that begin with a dot
    #[arg(short = 'f')]
    pub unsorted: bool,
    /// Directories themselves, not what is in them
    #[arg(short)]
    pub directory: bool,
    /// Mark directories with `/`, programs with `*`, links with `@`, ...
    #[arg(short = 'F')]
    pub classify: bool,
    /// Owners as numbers
    #[arg(short)]
    pub numeric: bool,
    /// Inode numbers
    #[arg(short)]
    pub inode: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
}

/// A file to show.
struct Row {
    name: Vec<u8>,
    path: Vec<u8>,
    stat: Stat,
    target: Option<Vec<u8>>,
}

struct Lister<'a> {
    client: &'a Client,
    ui: &'a mut Ui,
    args: &'a LsArgs,
    tally: Tally,
    names: Names,
    zone: TimeZone,
    now: Timestamp,
    /// Whether more than names is wanted.
    attributes: bool,
    json: Vec<FileJson>,
    /// Whether anything was printed, and so a blank line is due.
    printed: bool,
}

/// Runs `ls`.
pub fn run(session: &mut Session, args: &LsArgs) -> CliResult<()> {
    let ui = &mut session.ui;
    let attributes = args.long
        || args.by_size
        || args.by_time
        || args.classify
        || ui.json
        || ui.colors.is_some();
    let mut lister = Lister {
        client: &session.client,
        names: Names::new(args.numeric),
        zone: TimeZone::system(),
        now: SystemTime::now().into(),
        tally: Tally::default(),
        json: Vec::new(),
        printed: false,
        attributes,
        args,
        ui,
    };
    lister.all()?;
    if lister.ui.json {
        lister.ui.json(&lister.json)?;
    }
    lister.tally.finish()
}

impl Lister<'_> {
    fn all(&mut self) -> CliResult<()> {
        let here = [PathArg::from(b".".as_slice())];
        let paths = match self.args.paths.as_slice() {
            [] => here.as_slice(),
            paths => paths,
        };
        let mut files = Vec::new();
        let mut dirs: Vec<Vec<u8>> = Vec::new();
        for path in paths {
            match self.operand(path) {
                Ok(row)
                    if row.stat.attr.file_type == FileType::Directory && !self.args.directory =>
                {
                    dirs.push(row.path);
                }
                Ok(row) => {
                    files.push(row);
                    self.tally.note(Ok(()), |_| {})?;
                }
                Err(error) => self.client.note(self.ui, &mut self.tally, Err(error))?,
            }
        }
        self.sort(&mut files);
        if !files.is_empty() {
            self.print(files, false)?;
        }
        if !self.args.unsorted {
            dirs.sort();
        }
        let headed = paths.len() > 1 || self.args.recursive;
        for dir in dirs {
            let node = self
                .client
                .fs
                .resolve(&self.client.cx(), self.client.at(&dir), Follow::Yes);
            match node {
                Ok(node) => self.directory(&node, &dir, headed, 0)?,
                Err(error) => {
                    self.client
                        .note(self.ui, &mut self.tally, Err(error.into()))?;
                }
            }
        }
        Ok(())
    }

    /// A path of the command line. With `-l` and `-d` a link stands for itself, as in ls.
    fn operand(&self, path: &[u8]) -> CliResult<Row> {
        let itself = self.args.long || self.args.directory || self.args.classify;
        let stat = match itself {
            true => self.client.lstat(path)?,
            // A link that leads nowhere is still there.
            false => self
                .client
                .stat(path)
                .or_else(|_| self.client.lstat(path))?,
        };
        self.row(path.to_vec(), path.to_vec(), stat, self.client.at(path))
    }

    fn row(&self, name: Vec<u8>, path: Vec<u8>, stat: Stat, at: At<'_>) -> CliResult<Row> {
        let wanted = self.args.long || self.ui.json;
        let target = if wanted && stat.attr.file_type == FileType::Symlink {
            let link = self.client.fs.read_link(&self.client.cx(), at);
            Some(link.map_err(|error| named(error, &path))?)
        } else {
            None
        };
        Ok(Row {
            name,
            path,
            stat,
            target,
        })
    }

    fn directory(&mut self, node: &Node, path: &[u8], headed: bool, depth: usize) -> CliResult<()> {
        let rows = match self.read(node, path) {
            Ok(rows) => rows,
            Err(error) => return self.client.note(self.ui, &mut self.tally, Err(error)),
        };
        if headed && !self.ui.json {
            let name = self.ui.name(path).into_owned();
            let lead: &[u8] = if self.printed { b"\n" } else { b"" };
            self.ui.line([lead, &name, b":"].concat())?;
        }
        let below: Vec<Vec<u8>> = match self.args.recursive {
            true => rows
                .iter()
                .filter(|row| row.stat.attr.file_type == FileType::Directory)
                .filter(|row| !matches!(row.name.as_slice(), b"." | b".."))
                .map(|row| row.name.clone())
                .collect(),
            false => Vec::new(),
        };
        self.printed = true;
        self.print(rows, true)?;
        self.tally.note(Ok(()), |_| {})?;
        for name in below {
            let path = join(path, &name);
            let child = self
                .client
                .fs
                .resolve(&self.client.cx(), At::new(node, &name), Follow::No);
            match child {
                Ok(child) if depth < DEPTH_LIMIT / 10 => {
                    self.directory(&child, &path, headed, depth + 1)?;
                }
                Ok(_) => self
                    .ui
                    .note(&format!("{}: too deep", crate::client::show(&path))),
                Err(error) => {
                    let error = named(error, &path);
                    self.client.note(self.ui, &mut self.tally, Err(error))?;
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, node: &Node, path: &[u8]) -> CliResult<Vec<Row>> {
        let args = self.args;
        let hidden = args.all || args.almost_all || args.unsorted;
        let dots = args.all || args.unsorted;
        let entries = self
            .client
            .list(At::new(node, b""), dots)
            .map_err(|error| named(error, path))?;
        let mut rows = Vec::new();
        for entry in entries {
            if entry.name.starts_with(b".") && !hidden {
                continue;
            }
            let at = At::new(node, &entry.name);
            let file_path = join(path, &entry.name);
            // Recursion needs types, which many servers list.
            let known = entry.file_type.filter(|_| !self.attributes);
            let row = match known {
                Some(file_type) => Ok(Row {
                    name: entry.name.clone(),
                    path: file_path,
                    stat: Stat {
                        ino: entry.ino,
                        attr: Attr::of_type(file_type),
                    },
                    target: None,
                }),
                None => self
                    .client
                    .fs
                    .stat(&self.client.cx(), at, Follow::No)
                    .map_err(|error| named(error, &file_path))
                    .and_then(|stat| self.row(entry.name.clone(), file_path, stat, at)),
            };
            match row {
                Ok(row) => rows.push(row),
                Err(error) => self.client.note(self.ui, &mut self.tally, Err(error))?,
            }
        }
        self.sort(&mut rows);
        Ok(rows)
    }

    fn sort(&self, rows: &mut [Row]) {
        let args = self.args;
        if args.unsorted {
            return;
        }
        let order = |a: &Row, b: &Row| -> Ordering {
            let (x, y) = (&a.stat.attr, &b.stat.attr);
            let first = match (args.by_size, args.by_time) {
                (true, _) => y.size.cmp(&x.size),
                (_, true) => y.mtime.cmp(&x.mtime),
                _ => Ordering::Equal,
            };
            first.then_with(|| a.name.cmp(&b.name))
        };
        rows.sort_by(|a, b| match args.reverse {
            true => order(b, a),
            false => order(a, b),
        });
    }

    fn print(&mut self, rows: Vec<Row>, total: bool) -> CliResult<()> {
        if self.ui.json {
            let files = rows
                .iter()
                .map(|row| FileJson::new(&row.name, &row.path, &row.stat, row.target.as_deref()));
            self.json.extend(files);
            return Ok(());
        }
        self.printed = true;
        if self.args.long {
            if total {
                let blocks: u64 = rows.iter().map(|row| row.stat.attr.blocks).sum();
                let shown = match self.args.human {
                    true => format::human_size(blocks.saturating_mul(512)),
                    false => blocks.div_ceil(2).to_string(),
                };
                self.ui.line(format!("total {shown}"))?;
            }
            return self.print_long(&rows);
        }
        let cells: Vec<Cell> = rows.iter().map(|row| self.name_cell(row)).collect();
        let width = match self.ui.terminal && !self.args.one {
            true => self.ui.width,
            false => 0,
        };
        self.ui.write(&table::columns(&cells, width))
    }

    fn print_long(&mut self, rows: &[Row]) -> CliResult<()> {
        use Align::{Left, Right};
        let mut lines = Vec::with_capacity(rows.len());
        for row in rows {
            let attr = &row.stat.attr;
            let size = match attr.file_type {
                FileType::CharDevice | FileType::BlockDevice => {
                    format!("{}, {}", attr.rdev.major, attr.rdev.minor)
                }
                _ if self.args.human => format::human_size(attr.size),
                _ => attr.size.to_string(),
            };
            let mut line = Vec::with_capacity(8);
            if self.args.inode {
                line.push(Cell::new(row.stat.ino.to_string()));
            }
            line.extend([
                Cell::new(format::mode(attr.file_type, attr.mode)),
                Cell::new(attr.nlink.to_string()),
                Cell::new(self.names.user(attr.uid)),
                Cell::new(self.names.group(attr.gid)),
                Cell::new(size),
                Cell::new(format::short_time(attr.mtime, self.now, &self.zone)),
                self.name_cell(row),
            ]);
            lines.push(line);
        }
        let all = [Right, Left, Right, Left, Left, Right, Right, Left];
        let align = if self.args.inode { &all[..] } else { &all[1..] };
        self.ui.write(&table::rows(align, &lines))
    }

    fn name_cell(&self, row: &Row) -> Cell {
        let attr = &row.stat.attr;
        let mut plain = Vec::new();
        if self.args.inode && !self.args.long {
            plain.extend_from_slice(format!("{} ", row.stat.ino).as_bytes());
        }
        let shown = self.ui.name(&row.name);
        let mut painted = plain.clone();
        plain.extend_from_slice(&shown);
        match &self.ui.colors {
            Some(colors) => painted.extend(colors.paint(&shown, &row.name, attr)),
            None => painted.extend_from_slice(&shown),
        }
        let mut tail = Vec::new();
        if let Some(target) = row.target.as_ref().filter(|_| self.args.long) {
            tail.extend_from_slice(b" -> ");
            tail.extend_from_slice(&self.ui.name(target));
        } else if self.args.classify {
            tail.extend_from_slice(format::type_mark(attr.file_type, attr.mode).as_bytes());
        }
        plain.extend_from_slice(&tail);
        painted.extend_from_slice(&tail);
        Cell::painted(painted, &plain)
    }
}
