//! `open`, `read`, `write`, `seek`, `fsync`, `close` and `files` of the shell: one system call
//! each, on files that stay open from one command to the next.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::{Args, ValueEnum};
use gofer_vfs::{OpenFlags, Whence};
use serde_json::json;

use crate::client::{PathArg, show};
use crate::error::{CliError, CliResult};
use crate::session::Session;
use crate::ui::json as shapes;
use crate::ui::table::{self, Align, Cell};

/// Files that an image may bring back.
const SLOTS_MAX: usize = 1 << 16;

/// The number of the first file, as if the three standard streams were open.
const FIRST: usize = 3;

/// Most bytes that one `read` asks for.
const READ_MAX: usize = 64 << 20;

/// Arguments of `open`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  open -rc notes          for reading and writing; made if it is missing
  write 3 'some text'     where it stands
  read 3 100 --at 0       100 bytes from the beginning
  close 3")]
pub struct OpenArgs {
    /// The file
    pub path: PathArg,
    /// For writing
    #[arg(short, long)]
    pub write: bool,
    /// For reading (the default), with -w for both
    #[arg(short, long)]
    pub read: bool,
    /// Make it if it is missing; implies -w
    #[arg(short, long)]
    pub create: bool,
    /// With -c: fail if it exists
    #[arg(short = 'x', long, requires = "create")]
    pub exclusive: bool,
    /// Cut it to nothing; implies -w
    #[arg(short, long)]
    pub truncate: bool,
    /// Write at its end, wherever that is; implies -w
    #[arg(short, long)]
    pub append: bool,
    /// Each write reaches stable storage
    #[arg(short, long)]
    pub sync: bool,
    /// Past the caches
    #[arg(short, long)]
    pub direct: bool,
    /// Do not wait, for a fifo's other end or anything else
    #[arg(short, long)]
    pub nonblock: bool,
    /// Do not follow a link
    #[arg(long)]
    pub nofollow: bool,
}

/// The number that `open` gave.
#[derive(Args, Debug)]
pub struct NumberArgs {
    /// The number that open gave
    #[arg(value_name = "FILE")]
    pub file: usize,
}

/// Arguments of `read`.
#[derive(Args, Debug)]
pub struct ReadArgs {
    #[command(flatten)]
    pub number: NumberArgs,
    /// Most bytes to read
    #[arg(default_value_t = 65536)]
    pub count: usize,
    /// From here, without moving; otherwise where the file stands
    #[arg(long, value_name = "OFFSET")]
    pub at: Option<u64>,
}

/// Arguments of `write`.
#[derive(Args, Debug)]
pub struct WriteArgs {
    #[command(flatten)]
    pub number: NumberArgs,
    /// What to write, as it is
    #[arg(allow_hyphen_values = true)]
    pub text: OsString,
    /// Here, without moving; otherwise where the file stands
    #[arg(long, value_name = "OFFSET")]
    pub at: Option<u64>,
}

/// Where `seek` counts from.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// The beginning
    Start,
    /// Where the file stands
    Current,
    /// The end
    End,
    /// The beginning, and on to the next data
    Data,
    /// The beginning, and on to the next hole
    Hole,
}

/// Arguments of `seek`.
#[derive(Args, Debug)]
pub struct SeekArgs {
    #[command(flatten)]
    pub number: NumberArgs,
    /// How far
    #[arg(allow_negative_numbers = true)]
    pub offset: i64,
    /// From where
    #[arg(long, value_name = "WHERE", default_value = "start")]
    pub from: From,
}

/// Arguments of `fsync`.
#[derive(Args, Debug)]
pub struct FsyncArgs {
    #[command(flatten)]
    pub number: NumberArgs,
    /// Only the data, as fdatasync(2)
    #[arg(short, long)]
    pub data: bool,
}

/// A file that stays open.
pub struct OpenFile {
    file: gofer_vfs::File,
    path: Vec<u8>,
}

/// Open files by number; the lowest free one is taken.
#[derive(Default)]
pub struct OpenFiles(Vec<Option<OpenFile>>);

impl OpenFiles {
    fn insert(&mut self, open: OpenFile) -> usize {
        let free = self.0.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.0.push(None);
            self.0.len() - 1
        });
        if let Some(place) = self.0.get_mut(slot) {
            *place = Some(open);
        }
        slot + FIRST
    }

    /// All of them, by their places, for an image.
    pub fn saved(&self) -> Vec<(u64, &gofer_vfs::File)> {
        let open = self.0.iter().zip(0..);
        open.filter_map(|(open, slot)| Some((slot, &open.as_ref()?.file)))
            .collect()
    }

    /// Those of an image, at their places.
    pub fn resume(&mut self, files: Vec<(usize, gofer_vfs::File)>) {
        self.0.clear();
        for (slot, file) in files.into_iter().filter(|(slot, _)| *slot < SLOTS_MAX) {
            if self.0.len() <= slot {
                self.0.resize_with(slot + 1, || None);
            }
            let path = file.node().path();
            if let Some(place) = self.0.get_mut(slot) {
                *place = Some(OpenFile { file, path });
            }
        }
    }

    fn get(&self, number: usize) -> CliResult<&OpenFile> {
        let slot = number.checked_sub(FIRST);
        let open = slot.and_then(|slot| self.0.get(slot)?.as_ref());
        open.ok_or_else(|| no_such(number))
    }

    fn take(&mut self, number: usize) -> CliResult<OpenFile> {
        let slot = number.checked_sub(FIRST);
        let open = slot.and_then(|slot| self.0.get_mut(slot)?.take());
        open.ok_or_else(|| no_such(number))
    }

    /// Drops them all. What cannot be written is reported by the unmount that follows.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

fn no_such(number: usize) -> CliError {
    CliError::usage(format!("no file is open as {number}")).hint("`files` lists those that are")
}

/// Runs `open`.
pub fn open(session: &mut Session, args: &OpenArgs) -> CliResult<()> {
    let Session {
        client, ui, files, ..
    } = session;
    let writes = args.write || args.create || args.truncate || args.append;
    let mut flags = match (writes, args.read) {
        (false, _) => OpenFlags::RDONLY,
        (true, false) => OpenFlags::WRONLY,
        (true, true) => OpenFlags::RDWR,
    };
    for (asked, flag) in [
        (args.create, OpenFlags::CREAT),
        (args.exclusive, OpenFlags::EXCL),
        (args.truncate, OpenFlags::TRUNC),
        (args.append, OpenFlags::APPEND),
        (args.sync, OpenFlags::SYNC),
        (args.direct, OpenFlags::DIRECT),
        (args.nonblock, OpenFlags::NONBLOCK),
        (args.nofollow, OpenFlags::NOFOLLOW),
    ] {
        flags.set(flag, asked);
    }
    let (cx, mode) = (client.cx(), client.masked(0o666));
    let file = client.fs.open(&cx, client.at(&args.path), flags, mode)?;
    let path = args.path.to_vec();
    let number = files.insert(OpenFile { file, path });
    match ui.json {
        true => ui.json(&json!({ "file": number, "path": shapes::name(&args.path) })),
        false => ui.line(number.to_string()),
    }
}

/// Runs `read`.
pub fn read(session: &mut Session, args: &ReadArgs) -> CliResult<()> {
    let Session {
        client, ui, files, ..
    } = session;
    let open = files.get(args.number.file)?;
    let mut buffer = vec![0; args.count.min(READ_MAX)];
    let n = match args.at {
        Some(offset) => open.file.read_at(&client.cx(), &mut buffer, offset)?,
        None => open.file.read(&client.cx(), &mut buffer)?,
    };
    ui.write(buffer.get(..n).unwrap_or_default())
}

/// Runs `write`.
pub fn write(session: &mut Session, args: &WriteArgs) -> CliResult<()> {
    let Session {
        client, ui, files, ..
    } = session;
    let open = files.get(args.number.file)?;
    let text = args.text.clone().into_vec();
    let n = match args.at {
        Some(offset) => open.file.write_at(&client.cx(), &text, offset)?,
        None => open.file.write(&client.cx(), &text)?,
    };
    match ui.json {
        true => ui.json(&json!({ "written": n })),
        false if n < text.len() => {
            ui.note(&format!("only {n} of {} bytes were written", text.len()));
            Ok(())
        }
        false => Ok(()),
    }
}

/// Runs `seek`.
pub fn seek(session: &mut Session, args: &SeekArgs) -> CliResult<()> {
    let Session {
        client, ui, files, ..
    } = session;
    let open = files.get(args.number.file)?;
    let to = match args.from {
        From::Start => Whence::Set(args.offset),
        From::Current => Whence::Cur(args.offset),
        From::End => Whence::End(args.offset),
        From::Data => Whence::Data(args.offset),
        From::Hole => Whence::Hole(args.offset),
    };
    let offset = open.file.seek(&client.cx(), to)?;
    match ui.json {
        true => ui.json(&json!({ "offset": offset })),
        false => ui.line(offset.to_string()),
    }
}

/// Runs `fsync`.
pub fn fsync(session: &mut Session, args: &FsyncArgs) -> CliResult<()> {
    let open = session.files.get(args.number.file)?;
    Ok(open.file.sync(&session.client.cx(), args.data)?)
}

/// Runs `close`.
pub fn close(session: &mut Session, args: &NumberArgs) -> CliResult<()> {
    let open = session.files.take(args.file)?;
    Ok(open.file.close(&session.client.cx())?)
}

/// Runs `files`.
pub fn list(session: &mut Session) -> CliResult<()> {
    let Session {
        client, ui, files, ..
    } = session;
    let mut rows = Vec::new();
    let mut shaped = Vec::new();
    for (slot, open) in files.0.iter().enumerate() {
        let Some(open) = open else { continue };
        let flags = open.file.flags();
        let access = match flags.access_bits() {
            0 => "r",
            1 => "w",
            _ => "rw",
        };
        // Files without a place to stand have none to tell.
        let offset = open.file.seek(&client.cx(), Whence::Cur(0)).ok();
        let number = slot + FIRST;
        shaped.push(json!({
            "file": number,
            "path": shapes::name(&open.path),
            "access": access,
            "offset": offset,
        }));
        rows.push(vec![
            Cell::new(number.to_string()),
            Cell::new(access.to_owned()),
            Cell::new(offset.map_or("-".to_owned(), |offset| offset.to_string())),
            Cell::new(show(&open.path)),
        ]);
    }
    if ui.json {
        return ui.json(&json!(shaped));
    }
    let columns = [Align::Right, Align::Left, Align::Right, Align::Left];
    ui.write(&table::rows(&columns, &rows))
}
