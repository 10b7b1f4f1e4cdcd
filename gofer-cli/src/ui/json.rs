//! The shapes that `--json` promises: stable names in snake_case, RFC 3339 times, every name
//! representable.

use gofer_vfs::{AttrMask, FileType, Stat};
use serde::Serialize;
use serde_json::{Value, json};

use super::format;

/// A name: a string, or `{"bytes": "<hex>"}` when it is not UTF-8.
pub fn name(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "bytes": hex })
        }
    }
}

/// A file, as `ls`, `stat`, `find` and `tree` list it.
#[derive(Serialize)]
pub struct FileJson {
    /// As printed.
    pub name: Value,
    /// As the command would name it in another command.
    pub path: Value,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Permission bits as a number.
    mode: u16,
    /// The same as `ls -l` shows them.
    mode_string: String,
    ino: u64,
    nlink: u64,
    uid: u32,
    gid: u32,
    size: u64,
    /// Units of 512 bytes.
    blocks: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rdev: Option<String>,
    atime: String,
    mtime: String,
    ctime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    btime: Option<String>,
    /// What a symbolic link says.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Value>,
    /// What is in a directory, from `tree`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub children: Option<Vec<FileJson>>,
}

impl FileJson {
    /// Describes the file `stat` is about.
    pub fn new(file_name: &[u8], path: &[u8], stat: &Stat, target: Option<&[u8]>) -> FileJson {
        let attr = &stat.attr;
        let device = matches!(attr.file_type, FileType::CharDevice | FileType::BlockDevice);
        FileJson {
            name: name(file_name),
            path: name(path),
            kind: format::type_word(attr.file_type),
            mode: attr.mode,
            mode_string: format::mode(attr.file_type, attr.mode),
            ino: stat.ino,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            size: attr.size,
            blocks: attr.blocks,
            rdev: device.then(|| format!("{}:{}", attr.rdev.major, attr.rdev.minor)),
            atime: format::rfc3339(attr.atime),
            mtime: format::rfc3339(attr.mtime),
            ctime: format::rfc3339(attr.ctime),
            btime: attr
                .mask
                .contains(AttrMask::BTIME)
                .then(|| format::rfc3339(attr.btime)),
            target: target.map(name),
            children: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_text_is_still_exact() {
        assert_eq!(name("é".as_bytes()), json!("é"));
        assert_eq!(name(b"a\xff\n"), json!({ "bytes": "61ff0a" }));
    }
}
