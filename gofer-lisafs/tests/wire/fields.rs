//! Messages as the vectors write them: JSON objects of their fields.

use gofer_lisafs::wire::{
    AnyRequest, AnyResponse, CreateCommon, DecodeError, Inode, Mid, Statx, StatxTimestamp, Value,
};
use serde_json::{Map, Value as Json, json};

use crate::common::to_hex;

/// A message of either direction.
pub enum Any<'a> {
    Request(AnyRequest<'a>),
    Response(AnyResponse<'a>),
}

impl<'a> Any<'a> {
    pub fn decode(request: bool, mid: Mid, payload: &'a [u8]) -> Result<Any<'a>, DecodeError> {
        if request {
            AnyRequest::decode(mid, payload).map(Any::Request)
        } else {
            AnyResponse::decode(mid, payload).map(Any::Response)
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Any::Request(message) => message.encode(&mut out),
            Any::Response(message) => message.encode(&mut out),
        }
        out
    }

    /// The fields as the vectors have them.
    pub fn to_json(&self) -> Json {
        let mut object = Map::new();
        let mut each = |name: &'static str, value: Value<'_>| insert(&mut object, name, value);
        match self {
            Any::Request(message) => message.fields(&mut each),
            Any::Response(message) => message.fields(&mut each),
        }
        // The vectors have the release's name for what the specification calls `open_fd`.
        if let Any::Response(AnyResponse::OpenCreateAt(_)) = self
            && let Some(fd) = object.remove("open_fd")
        {
            object.insert("new_fd".to_string(), fd);
        }
        Json::Object(object)
    }
}

fn insert(object: &mut Map<String, Json>, name: &str, value: Value<'_>) {
    // The vectors keep some names of the release they come from.
    let name = match name {
        "failure_errno" => "failure_err_no",
        "statfs" => "",
        "stat" => "",
        name => name,
    };
    let json = match value {
        Value::Number(number) => json!(number),
        Value::Signed(number) => json!(number),
        Value::Fdid(fd) => json!(fd.get()),
        Value::Fdids(fds) => fds.iter().map(|fd| json!(fd.get())).collect(),
        Value::Mids(mids) => mids.iter().map(|mid| json!(mid.get())).collect(),
        Value::Text(bytes) => string(bytes),
        Value::Texts(strings) => strings.iter().map(string).collect(),
        Value::Stat(stat) => stat_json(stat),
        Value::Stats(stats) => stats.iter().map(stat_json).collect(),
        Value::Inode(inode) => inode_json(inode),
        Value::Inodes(inodes) => inodes.iter().map(inode_json).collect(),
        Value::Time(time) => json!({"sec": time.sec.get(), "nsec": time.nsec.get()}),
        Value::StatFs(fs) => json!({
            "type": fs.fs_type.get(), "block_size": fs.block_size.get(),
            "blocks": fs.blocks.get(), "blocks_free": fs.blocks_free.get(),
            "blocks_available": fs.blocks_available.get(), "files": fs.files.get(),
            "files_free": fs.files_free.get(), "name_length": fs.name_length.get(),
        }),
        Value::Dirents(entries) => entries
            .iter()
            .map(|entry| {
                json!({
                    "ino": entry.ino, "dev_minor": entry.dev_minor, "dev_major": entry.dev_major,
                    "off": entry.off, "type": entry.dtype, "name": string(entry.name),
                })
            })
            .collect(),
        Value::Create(common) => create_json(common),
        Value::Data(bytes) => json!({"num_bytes": bytes.len(), "buf_hex": to_hex(bytes)}),
    };
    match (value, json) {
        // These are not nested in the vectors.
        (
            Value::Data(_) | Value::Create(_) | Value::Stat(_) | Value::StatFs(_),
            Json::Object(fields),
        ) => object.extend(fields),
        (_, json) => {
            object.insert(name.to_string(), json);
        }
    }
}

fn string(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"hex": to_hex(bytes)}),
    }
}

fn create_json(common: &CreateCommon) -> Json {
    json!({
        "dir_fd": common.dir_fd.get(), "uid": common.uid.get(), "gid": common.gid.get(),
        "mode": common.mode.get(),
    })
}

fn inode_json(inode: &Inode) -> Json {
    json!({"control_fd": inode.control_fd.get(), "stat": stat_json(&inode.stat)})
}

fn stat_json(stat: &Statx) -> Json {
    let time = |time: &StatxTimestamp| json!({"sec": time.sec.get(), "nsec": time.nsec.get()});
    json!({
        "mask": stat.mask.get(), "blksize": stat.blksize.get(),
        "attributes": stat.attributes.get(), "nlink": stat.nlink.get(), "uid": stat.uid.get(),
        "gid": stat.gid.get(), "mode": stat.mode.get(), "ino": stat.ino.get(),
        "size": stat.size.get(), "blocks": stat.blocks.get(),
        "attributes_mask": stat.attributes_mask.get(), "atime": time(&stat.atime),
        "btime": time(&stat.btime), "ctime": time(&stat.ctime), "mtime": time(&stat.mtime),
        "rdev_major": stat.rdev_major.get(), "rdev_minor": stat.rdev_minor.get(),
        "dev_major": stat.dev_major.get(), "dev_minor": stat.dev_minor.get(),
    })
}
