//! `find`: searches a directory tree.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use gofer_vfs::{At, FileType, Follow, Timestamp};

use crate::client::{Client, PathArg, base_name};
use crate::error::{CliError, CliResult, Tally};
use crate::glob::Pattern;
use crate::session::Session;
use crate::traverse::{Item, Step, Visitor, traverse};
use crate::ui::Ui;
use crate::ui::format::parse_size;
use crate::ui::json::FileJson;

/// Arguments of `find`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  find . --name '*.rs' --size +10K
  find /var --type dir --max-depth 2
  find . --newer stamp --print0")]
pub struct FindArgs {
    /// Where to begin [default: the directory]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathArg>,
    /// The name matches this pattern; quote it
    #[arg(long, value_name = "GLOB", value_parser = OsStringValueParser::new().try_map(glob))]
    pub name: Option<Pattern>,
    /// The same without regard to case
    #[arg(long, value_name = "GLOB",
          value_parser = OsStringValueParser::new().try_map(glob_any_case))]
    pub iname: Option<Pattern>,
    /// The whole path matches this pattern; quote it
    #[arg(long, value_name = "GLOB", value_parser = OsStringValueParser::new().try_map(glob))]
    pub path: Option<Pattern>,
    /// It is of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<Kind>,
    /// Exactly this many bytes; +N: more, -N: fewer
    #[arg(long, value_name = "[+-]SIZE", allow_hyphen_values = true, value_parser = size)]
    pub size: Option<Size>,
    /// Changed after this file was
    #[arg(long, value_name = "FILE")]
    pub newer: Option<PathArg>,
    /// It is empty: no bytes, no entries
    #[arg(long)]
    pub empty: bool,
    /// Levels to go down
    #[arg(long, value_name = "N")]
    pub max_depth: Option<usize>,
    /// Levels not to show
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub min_depth: usize,
    /// End names with a zero byte instead of a line end
    #[arg(short = '0', long)]
    pub print0: bool,
}

/// Types to look for.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Kind {
    #[value(alias = "f")]
    File,
    #[value(alias = "d", alias = "directory")]
    Dir,
    #[value(alias = "l", alias = "link")]
    Symlink,
    #[value(alias = "p")]
    Fifo,
    #[value(alias = "s")]
    Socket,
    #[value(alias = "c")]
    Char,
    #[value(alias = "b")]
    Block,
}

impl Kind {
    fn file_type(self) -> FileType {
        match self {
            Kind::File => FileType::Regular,
            Kind::Dir => FileType::Directory,
            Kind::Symlink => FileType::Symlink,
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
            Kind::Char => FileType::CharDevice,
            Kind::Block => FileType::BlockDevice,
        }
    }
}

/// What `--size` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Size {
    Exactly(u64),
    MoreThan(u64),
    LessThan(u64),
}

fn size(text: &str) -> Result<Size, String> {
    let (number, make): (&str, fn(u64) -> Size) = match text.as_bytes().first() {
        Some(b'+') => (&text[1..], Size::MoreThan),
        Some(b'-') => (&text[1..], Size::LessThan),
        _ => (text, Size::Exactly),
    };
    parse_size(number)
        .map(make)
        .ok_or_else(|| "expected a size such as 512, +64K or -1M".to_owned())
}

fn glob(text: OsString) -> Result<Pattern, Infallible> {
    Ok(Pattern::new(text.as_bytes()))
}

fn glob_any_case(text: OsString) -> Result<Pattern, Infallible> {
    Ok(Pattern::new(text.as_bytes()).any_case())
}

struct Search<'a> {
    client: &'a Client,
    args: &'a FindArgs,
    newer: Option<Timestamp>,
    json: Vec<FileJson>,
}

impl Search<'_> {
    fn matches(&self, item: &Item<'_>) -> CliResult<bool> {
        let (args, attr) = (self.args, &item.stat.attr);
        let name = match item.depth {
            0 => base_name(item.path).unwrap_or(item.path),
            _ => item.name,
        };
        let text = |glob: &Option<Pattern>, bytes: &[u8]| {
            glob.as_ref().is_none_or(|glob| glob.matches(bytes))
        };
        let size = match args.size {
            None => true,
            Some(_) if attr.file_type != FileType::Regular => false,
            Some(Size::Exactly(size)) => attr.size == size,
            Some(Size::MoreThan(size)) => attr.size > size,
            Some(Size::LessThan(size)) => attr.size < size,
        };
        let plain = item.depth >= args.min_depth
            && text(&args.name, name)
            && text(&args.iname, name)
            && text(&args.path, item.path)
            && args
                .kind
                .is_none_or(|kind| kind.file_type() == attr.file_type)
            && self.newer.is_none_or(|newer| attr.mtime > newer)
            && size;
        Ok(plain && (!args.empty || self.is_empty(item)?))
    }

    fn is_empty(&self, item: &Item<'_>) -> CliResult<bool> {
        match item.stat.attr.file_type {
            FileType::Regular => Ok(item.stat.attr.size == 0),
            FileType::Directory => {
                let node = self
                    .client
                    .fs
                    .resolve(&self.client.cx(), item.at(), Follow::No)?;
                Ok(self.client.list(At::new(&node, b""), false)?.is_empty())
            }
            _ => Ok(false),
        }
    }

    fn print(&mut self, ui: &mut Ui, item: &Item<'_>) -> CliResult<()> {
        if ui.json {
            let name = base_name(item.path).unwrap_or(item.path);
            let target = match item.stat.attr.file_type {
                FileType::Symlink => self.client.fs.read_link(&self.client.cx(), item.at()).ok(),
                _ => None,
            };
            let file = FileJson::new(name, item.path, item.stat, target.as_deref());
            self.json.push(file);
            return Ok(());
        }
        if self.args.print0 {
            ui.write(item.path)?;
            return ui.write(b"\0");
        }
        let path = ui.name(item.path).into_owned();
        ui.line(path)
    }
}

impl Visitor for Search<'_> {
    fn visit(&mut self, ui: &mut Ui, item: &Item<'_>) -> CliResult<Step> {
        if self.matches(item)? {
            self.print(ui, item)?;
        }
        Ok(
            match self.args.max_depth.is_some_and(|depth| item.depth >= depth) {
                true => Step::Over,
                false => Step::Into,
            },
        )
    }
}

/// Runs `find`.
pub fn run(session: &mut Session, args: &FindArgs) -> CliResult<()> {
    if args.print0 && session.ui.json {
        return Err(CliError::usage(
            "find: --print0 and --json exclude each other",
        ));
    }
    let Session { client, ui, .. } = session;
    let newer = match &args.newer {
        Some(path) => Some(client.stat(path)?.attr.mtime),
        None => None,
    };
    let here = [PathArg::from(b".".as_slice())];
    let paths = if args.paths.is_empty() {
        here.as_slice()
    } else {
        args.paths.as_slice()
    };
    let mut tally = Tally::default();
    let mut search = Search {
        client,
        args,
        newer,
        json: Vec::new(),
    };
    for path in paths {
        let result = traverse(client, ui, &mut tally, path, Follow::No, &mut search);
        client.note(ui, &mut tally, result)?;
    }
    if ui.json {
        ui.json(&search.json)?;
    }
    tally.finish()
}
