//! One line per message, for `--trace`: direction, name, tag, fields. Data is shown as a length.

use std::fmt;

use gofer_vfs::error::{Errno, printable};

use crate::wire::{AttrBlock, Qid, RMessage, Stat, TMessage, Tag, Value};

/// Shows a request as one line.
pub struct Sent<'a>(pub Tag, pub TMessage<'a>);

/// Shows a reply as one line.
pub struct Received<'a>(pub Tag, pub RMessage<'a>);

impl fmt::Display for Sent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "> {} {}", self.1.name(), ShowTag(self.0))?;
        let mut result = Ok(());
        self.1
            .fields(&mut |name, value| result = result.and_then(|()| field(f, name, value)));
        result
    }
}

impl fmt::Display for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "< {} {}", self.1.name(), ShowTag(self.0))?;
        let mut result = Ok(());
        self.1
            .fields(&mut |name, value| result = result.and_then(|()| field(f, name, value)));
        result
    }
}

struct ShowTag(Tag);

impl fmt::Display for ShowTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Tag::NONE => f.write_str("notag"),
            Tag(number) => write!(f, "tag {number}"),
        }
    }
}

fn field(f: &mut fmt::Formatter<'_>, name: &str, value: Value<'_>) -> fmt::Result {
    // The lists' names say what they hold, not how the specification abbreviates it.
    let name = match name {
        "wnames" => "names",
        "wqids" => "qids",
        name => name,
    };
    match value {
        Value::Absent => Ok(()),
        Value::Number(number) if name == "ecode" => {
            write!(
                f,
                " {:?}",
                Errno::from_raw(i32::try_from(number).unwrap_or(0))
            )
        }
        Value::Number(number) if name == "mode" => write!(f, " mode 0{number:o}"),
        // No fid, no id, no user: all ones mean "none" in every 32-bit field but sizes.
        Value::Number(0xffff_ffff) if name != "count" => write!(f, " {name} none"),
        Value::Number(number) => write!(f, " {name} {number}"),
        Value::Flags(bits) => write!(f, " {name} {bits:#x}"),
        // Values of extended attributes are data, too.
        Value::Text(bytes) if name == "value" => write!(f, " value {} bytes", bytes.len()),
        Value::Text(bytes) => write!(f, " {name} \"{}\"", printable(bytes)),
        Value::Data(data) => write!(f, " {name} {data:?}"),
        Value::Qid(qid) => write!(f, " {name} {}", ShowQid(qid)),
        Value::Attr(attr) => write!(f, " {}", ShowAttr(attr)),
        Value::Names(names) => {
            write!(f, " {name} ")?;
            list(f, names.iter().map(printable))
        }
        Value::Qids(qids) => {
            write!(f, " {name} ")?;
            list(f, qids.iter().map(ShowQid))
        }
        Value::Dirents(entries) => {
            write!(
                f,
                " {name} {}, {} bytes",
                entries.iter().count(),
                entries.as_bytes().len()
            )
        }
        Value::Stats(stats) => {
            write!(f, " {name} ")?;
            list(f, stats.iter().map(ShowStat))
        }
    }
}

fn list<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = T>,
) -> fmt::Result {
    f.write_str("[")?;
    for (index, item) in items.enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{item}")?;
    }
    f.write_str("]")
}

struct ShowQid(Qid);

impl fmt::Display for ShowQid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:02x}.{:x}.{:x}",
            self.0.kind.bits(),
            self.0.version,
            self.0.path
        )
    }
}

struct ShowAttr(AttrBlock);

impl fmt::Display for ShowAttr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AttrBlock {
            mode,
            uid,
            gid,
            nlink,
            size,
            ..
        } = self.0;
        write!(
            f,
            "mode 0{mode:o} uid {uid} gid {gid} nlink {nlink} size {size}"
        )
    }
}

struct ShowStat(Stat);

impl fmt::Display for ShowStat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", ShowQid(self.0.qid), ShowAttr(self.0.attr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Data, Fid, Names, QidType, Qids, Rread, Rwalk, Tversion, Twalk, Twrite};
    use crate::wire::{Rgetattr, Rlerror, Tlcreate};

    #[test]
    fn lines_read_like_the_specification() {
        let qid = Qid {
            kind: QidType::DIR,
            version: 7,
            path: 0x2a,
        };
        let qids = [qid, qid];
        let names: [&[u8]; 2] = [b"usr", b"a\nb"];
        let sent = [
            (
                Tag::NONE,
                Tversion {
                    msize: 4096,
                    version: b"9P2000.L",
                }
                .into(),
            ),
            (
                Tag(3),
                Twalk {
                    fid: Fid(1),
                    newfid: Fid(4),
                    wnames: Names::new(&names),
                }
                .into(),
            ),
            (
                Tag(0),
                Twrite {
                    fid: Fid(1),
                    offset: 9,
                    data: Data::new(b"abc"),
                }
                .into(),
            ),
            (
                Tag(1),
                Tlcreate {
                    fid: Fid(2),
                    name: b"f",
                    flags: crate::wire::OpenFlags::RDWR,
                    mode: 0o644,
                    gid: u32::MAX,
                }
                .into(),
            ),
        ];
        let attr = AttrBlock {
            mode: 0o40755,
            nlink: 2,
            ..AttrBlock::default()
        };
        let received = [
            (
                Tag(3),
                Rwalk {
                    wqids: Qids::new(&qids),
                }
                .into(),
            ),
            (
                Tag(0),
                Rread {
                    data: Data::apart(65536),
                }
                .into(),
            ),
            (Tag(9), Rlerror { ecode: 2 }.into()),
            (
                Tag(9),
                Rgetattr {
                    valid: crate::wire::GetattrMask::BASIC,
                    qid,
                    attr,
                }
                .into(),
            ),
        ];
        let mut lines: Vec<String> = sent
            .into_iter()
            .map(|(tag, message)| Sent(tag, message).to_string())
            .collect();
        lines.extend(
            received
                .into_iter()
                .map(|(tag, message)| Received(tag, message).to_string()),
        );
        insta::assert_snapshot!(lines.join("\n"), @r#"
        > Tversion notag msize 4096 version "9P2000.L"
        > Twalk tag 3 fid 1 newfid 4 names [usr, a\nb]
        > Twrite tag 0 fid 1 offset 9 data 3 bytes
        > Tlcreate tag 1 fid 2 name "f" flags 0x2 mode 0644 gid none
        < Rwalk tag 3 qids [80.7.2a, 80.7.2a]
        < Rread tag 0 data 65536 bytes
        < Rlerror tag 9 ENOENT
        < Rgetattr tag 9 valid 0x7ff qid 80.7.2a mode 040755 uid 0 gid 0 nlink 2 size 0
        "#);
    }
}
