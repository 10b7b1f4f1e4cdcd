//! Messages as lines for people: `> Walk dir_fd 1 path [usr, share]`, `< Error ENOENT`.
//!
//! Bulk data is shown as its length, and no name can forge a line: see [`printable`].

use std::fmt::{self, Display, Formatter};

use gofer_vfs::error::printable;
use gofer_vfs::{Errno, FileType};

use crate::wire::{AnyRequest, AnyResponse, ErrorResp, Inode, Message, Mid, Statx, Value};

/// Shows a request.
pub fn request<'a>(request: &'a AnyRequest<'a>) -> impl Display + 'a {
    fmt::from_fn(|f| {
        write!(f, "> {}", request.mid())?;
        fields(f, |each| request.fields(each))
    })
}

/// Shows one request whose type is known.
pub(crate) fn message<'a, 'q, M: Message<'q>>(message: &'a M) -> impl Display + use<'a, 'q, M> {
    fmt::from_fn(|f| {
        write!(f, "> {}", M::MID)?;
        fields(f, |each| message.fields(each))
    })
}

/// Shows a response and how many descriptors came with it.
pub fn response<'a>(response: &'a AnyResponse<'a>, descriptors: usize) -> impl Display + 'a {
    fmt::from_fn(move |f| {
        if let AnyResponse::Error(error) = response {
            return write!(f, "< Error {}", errno(error));
        }
        write!(f, "< {}", response.mid())?;
        fields(f, |each| response.fields(each))?;
        match descriptors {
            0 => Ok(()),
            1 => f.write_str(" and 1 descriptor"),
            more => write!(f, " and {more} descriptors"),
        }
    })
}

/// Shows a response that does not decode, or of a type without a name.
pub(crate) fn malformed(mid: Mid, payload_len: usize) -> impl Display {
    fmt::from_fn(move |f| write!(f, "< {mid} malformed, {payload_len} bytes"))
}

/// Shows data that went from the socket straight into the reader's buffer.
pub(crate) fn data_read(count: usize) -> impl Display {
    fmt::from_fn(move |f| write!(f, "< {} data {count} bytes", Mid::PREAD))
}

fn errno(error: &ErrorResp) -> impl Display {
    let raw = i32::try_from(error.errno).unwrap_or(0);
    fmt::from_fn(move |f| match Errno::from_raw(raw) {
        errno if errno.raw() == raw => write!(f, "{errno:?}"),
        _ => write!(f, "without a number"),
    })
}

fn fields(
    f: &mut Formatter<'_>,
    visit: impl FnOnce(&mut dyn FnMut(&'static str, Value<'_>)),
) -> fmt::Result {
    let mut result = Ok(());
    visit(&mut |name, shown| {
        if result.is_ok() {
            result = write!(f, " {name} ").and_then(|()| value(f, &shown));
        }
    });
    result
}

fn value(f: &mut Formatter<'_>, shown: &Value<'_>) -> fmt::Result {
    match *shown {
        Value::Number(number) => write!(f, "{number}"),
        Value::Signed(number) => write!(f, "{number}"),
        Value::Fdid(fd) => write!(f, "{fd}"),
        Value::Fdids(fds) => list(f, fds.iter(), |f, fd| write!(f, "{fd}")),
        Value::Mids(mids) => list(f, mids.iter(), |f, mid| write!(f, "{}", mid.get())),
        Value::Text(bytes) => write!(f, "{}", printable(bytes)),
        Value::Texts(texts) => list(f, texts.iter(), |f, bytes| {
            write!(f, "{}", printable(bytes))
        }),
        Value::Data(bytes) => write!(f, "{} bytes", bytes.len()),
        Value::Stat(one) => stat(f, one),
        Value::Stats(stats) => list(f, stats.iter(), stat),
        Value::Inode(one) => inode(f, one),
        Value::Inodes(inodes) => list(f, inodes.iter(), inode),
        Value::StatFs(fs) => {
            let (free, all) = (fs.blocks_free.get(), fs.blocks.get());
            write!(
                f,
                "type {:#x}, {free} of {all} blocks free",
                fs.fs_type.get()
            )
        }
        Value::Time(time) => write!(f, "{}s {}ns", time.sec.get(), time.nsec.get()),
        Value::Create(common) => {
            let (uid, gid) = (common.uid.get() as i32, common.gid.get() as i32);
            write!(
                f,
                "dir_fd {} owner {uid}:{gid} mode {:o}",
                common.dir_fd,
                common.mode.get()
            )
        }
        Value::Dirents(entries) => write!(f, "{} entries", entries.len()),
    }
}

fn list<T>(
    f: &mut Formatter<'_>,
    items: impl Iterator<Item = T>,
    mut show: impl FnMut(&mut Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    f.write_str("[")?;
    for (index, item) in items.enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        show(f, item)?;
    }
    f.write_str("]")
}

fn inode(f: &mut Formatter<'_>, inode: &Inode) -> fmt::Result {
    write!(f, "{} ", inode.control_fd)?;
    stat(f, &inode.stat)
}

fn stat(f: &mut Formatter<'_>, stat: &Statx) -> fmt::Result {
    let mode = u32::from(stat.mode.get());
    let kind = match FileType::from_mode(mode) {
        Some(FileType::Regular) => "file",
        Some(FileType::Directory) => "dir",
        Some(FileType::Symlink) => "link",
        Some(FileType::Fifo) => "fifo",
        Some(FileType::Socket) => "socket",
        Some(FileType::CharDevice) => "char",
        Some(FileType::BlockDevice) => "block",
        None => "?",
    };
    let (ino, size) = (stat.ino.get(), stat.size.get());
    write!(f, "({kind} {:o} ino {ino} size {size})", mode & 0o7777)
}
