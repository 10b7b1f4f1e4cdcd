//! A server that agrees to everything, and what tests need to look at a connection to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use gofer_transport::Tracer;
use gofer_vfs::remote::{Call, Found, OpenMode, RemoteFile, RemoteHandle, WalkEnd};
use gofer_vfs::{Access, AttrMask, Errno, Name};

use super::peer::{Incoming, Peer, attached_with, attr, block, dir, file};
use crate::client::{Config, Filesystem};
use crate::wire::*;

pub(super) const CALL: Call<'static> = Call {
    deadline: None,
    cancel: None,
};
pub(super) const READ_WRITE: OpenMode = OpenMode {
    access: Access::ReadWrite,
    truncate: false,
};

pub(super) fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

/// A file whose identity is made from its name, and which is a directory unless the name says
/// otherwise.
pub(super) fn qid_of(name: &[u8]) -> Qid {
    let path = name
        .iter()
        .fold(0, |sum, byte| sum * 0x100 + u64::from(*byte));
    match name.first() {
        Some(b'f') => file(path),
        Some(b'l') => Qid {
            kind: QidType::SYMLINK,
            ..file(path)
        },
        _ => dir(path),
    }
}

pub(super) fn mode_of(qid: Qid) -> u32 {
    match qid.kind {
        QidType::DIR => 0o40755,
        QidType::SYMLINK => 0o120777,
        _ => 0o100644,
    }
}

/// A server on which every name exists but those that begin with `x`, and everything succeeds.
#[derive(Default)]
pub(super) struct Agreeable {
    fids: HashMap<Fid, Qid>,
}

impl Agreeable {
    fn answer(&mut self, peer: &Peer, request: &Incoming) {
        let tag = request.tag;
        match request.message() {
            TMessage::Twalk(Twalk {
                fid,
                newfid,
                wnames,
            }) => {
                let good = wnames.iter().take_while(|name| !name.starts_with(b"x"));
                let qids: Vec<Qid> = good.map(qid_of).collect();
                if qids.is_empty() && !wnames.is_empty() {
                    return peer.error(tag, 2);
                }
                let start = self.fids.get(&fid).copied().unwrap_or(dir(1));
                self.fids.insert(newfid, *qids.last().unwrap_or(&start));
                peer.reply(
                    tag,
                    Rwalk {
                        wqids: Qids::new(&qids),
                    },
                );
            }
            TMessage::Twalkgetattr(Twalkgetattr { newfid, wnames, .. }) => {
                let qids: Vec<Qid> = wnames.iter().map(qid_of).collect();
                let Some(last) = qids.last().filter(|_| !wnames.iter().any(|n| n[0] == b'x'))
                else {
                    return peer.error(tag, 2);
                };
                self.fids.insert(newfid, *last);
                let (valid, attr) = (GetattrMask::BASIC, block(mode_of(*last)));
                peer.reply(
                    tag,
                    Rwalkgetattr {
                        valid,
                        attr,
                        wqids: Qids::new(&qids),
                    },
                );
            }
            TMessage::Tgetattr(Tgetattr { fid, .. }) => {
                let qid = self.fids.get(&fid).copied().unwrap_or(dir(1));
                peer.reply(tag, attr(qid, mode_of(qid)));
            }
            TMessage::Tmultigetattr(Tmultigetattr { names, .. }) => {
                let good = names.iter().take_while(|name| !name.starts_with(b"x"));
                let stats: Vec<Stat> = good
                    .map(|name| {
                        if name.is_empty() {
                            dir(1)
                        } else {
                            qid_of(name)
                        }
                    })
                    .map(|qid| Stat {
                        qid,
                        valid: GetattrMask::BASIC,
                        attr: block(mode_of(qid)),
                    })
                    .collect();
                peer.reply(
                    tag,
                    Rmultigetattr {
                        stats: Stats::new(&stats),
                    },
                );
            }
            TMessage::Tlopen(_) => peer.reply(
                tag,
                Rlopen {
                    qid: dir(1),
                    iounit: 0,
                },
            ),
            TMessage::Tlcreate(Tlcreate { fid, name, .. }) => {
                self.fids.insert(fid, qid_of(name));
                peer.reply(
                    tag,
                    Rlcreate {
                        qid: qid_of(name),
                        iounit: 0,
                    },
                );
            }
            TMessage::Tucreate(Tucreate { name, .. }) => {
                peer.reply(
                    tag,
                    Rucreate {
                        qid: qid_of(name),
                        iounit: 0,
                    },
                );
            }
            TMessage::Tclunk(_) => peer.reply(tag, Rclunk {}),
            TMessage::Tremove(_) => peer.reply(tag, Rremove {}),
            TMessage::Tunlinkat(_) => peer.reply(tag, Runlinkat {}),
            TMessage::Trenameat(_) => peer.reply(tag, Rrenameat {}),
            TMessage::Trename(_) => peer.reply(tag, Rrename {}),
            TMessage::Tlink(_) => peer.reply(tag, Rlink {}),
            TMessage::Tmkdir(_) => peer.reply(tag, Rmkdir { qid: dir(5) }),
            TMessage::Tumkdir(_) => peer.reply(tag, Rumkdir { qid: dir(5) }),
            TMessage::Tmknod(_) => peer.reply(tag, Rmknod { qid: file(5) }),
            TMessage::Tumknod(_) => peer.reply(tag, Rumknod { qid: file(5) }),
            TMessage::Tsymlink(_) => peer.reply(tag, Rsymlink { qid: file(5) }),
            TMessage::Tusymlink(_) => peer.reply(tag, Rusymlink { qid: file(5) }),
            TMessage::Tsetattr(_) => peer.reply(tag, Rsetattr {}),
            TMessage::Txattrwalk(_) => peer.reply(tag, Rxattrwalk { size: 6 }),
            TMessage::Txattrcreate(_) => peer.reply(tag, Rxattrcreate {}),
            TMessage::Tgetxattr(_) => peer.reply(tag, Rgetxattr { value: b"value" }),
            TMessage::Tsetxattr(_) => peer.reply(tag, Rsetxattr {}),
            TMessage::Tremovexattr(_) => peer.reply(tag, Rremovexattr {}),
            TMessage::Tlistxattr(_) => {
                peer.reply(
                    tag,
                    Rlistxattr {
                        names: Names::new(&[b"user.a", b"user.b"]),
                    },
                );
            }
            TMessage::Tread(Tread { offset, .. }) => {
                let data = b"ab\0cd\0".get(offset as usize..).unwrap_or_default();
                peer.reply(
                    tag,
                    Rread {
                        data: Data::new(&data[..data.len().min(4)]),
                    },
                );
            }
            TMessage::Twrite(Twrite { data, .. }) => {
                peer.reply(
                    tag,
                    Rwrite {
                        count: data.len().min(4) as u32,
                    },
                );
            }
            TMessage::Tfsync(_) => peer.reply(tag, Rfsync {}),
            TMessage::Tflushf(_) => peer.reply(tag, Rflushf {}),
            TMessage::Tallocate(_) => peer.reply(tag, Rallocate {}),
            TMessage::Treadlink(_) => peer.reply(tag, Rreadlink { target: b"to" }),
            TMessage::Tlock(Tlock { proc_id, .. }) => {
                peer.reply(
                    tag,
                    Rlock {
                        status: LockStatus(proc_id as u8),
                    },
                );
            }
            TMessage::Tgetlock(Tgetlock {
                start,
                length,
                proc_id,
                client_id,
                ..
            }) => {
                let r#type = LockType(proc_id as u8);
                peer.reply(
                    tag,
                    Rgetlock {
                        r#type,
                        start,
                        length,
                        proc_id: 9,
                        client_id,
                    },
                );
            }
            _ => peer.error(tag, 95),
        }
    }
}

/// A connection to an agreeable server. `except` answers first, and says whether it did.
pub(super) struct Session {
    pub(super) filesystem: Filesystem,
    root: Found,
    lines: Arc<Mutex<Vec<String>>>,
}

pub(super) fn session(version: Version) -> Session {
    session_but(version, |_, _| false)
}

pub(super) fn session_but(
    version: Version,
    mut except: impl FnMut(&Peer, &Incoming) -> bool + Send + 'static,
) -> Session {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let tracer = Tracer::new(move |line| sink.lock().unwrap().push(line.to_owned()));
    let config = Config {
        tracer,
        ..Config::default()
    };
    let (filesystem, root, _) = attached_with(config, version, move |peer| {
        let mut server = Agreeable::default();
        while let Some(request) = peer.next() {
            if !except(&peer, &request) {
                server.answer(&peer, &request);
            }
        }
    });
    lines.lock().unwrap().clear();
    Session {
        filesystem,
        root,
        lines,
    }
}

impl Session {
    pub(super) fn file(&self) -> &dyn RemoteFile {
        self.root.file.as_ref()
    }

    /// The lines since the last time, and how many round trips there were in all.
    pub(super) fn lines(&self) -> String {
        std::mem::take(&mut *self.lines.lock().unwrap()).join("\n")
    }

    /// Waits until what was dropped is gone on the server, too, so that its fids are free.
    pub(super) fn settle(&self) {
        while !self.filesystem.line.session().lock().table.no_clunks() {
            self.file().attr(&CALL, AttrMask::BASIC).unwrap();
        }
        self.lines();
    }

    pub(super) fn walk(&self, names: &[&str]) -> (Result<WalkEnd, Errno>, Vec<Found>) {
        let names: Vec<_> = names.iter().map(|text| name(text)).collect();
        let mut found = Vec::new();
        let end = self
            .file()
            .walk(&CALL, &names, &mut |file| found.push(file));
        (end.map_err(|error| error.errno), found)
    }

    pub(super) fn open(&self) -> Arc<dyn RemoteHandle> {
        let handle = self.file().open(&CALL, READ_WRITE).unwrap();
        self.lines();
        handle
    }
}
