//! Bare messages: a request of each lane in one send, and the next of each when all are answered.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Result, bail, ensure};
use gofer_9p::wire::{
    Data, Fid, GetattrMask, HEADER_SIZE, Header, Message, NO_ID, Names, OpenFlags, RMessage,
    Request, Tag, Tattach, Tclunk, Tgetattr, Tlcreate, Tlopen, Tread, Treaddir, Tremove, Tversion,
    Twalk, Twrite,
};

use super::server::Running;
use super::{DEPTH, MSIZE, PAYLOAD, Sizes};
use crate::DEEP;
use crate::floor::{MANY, NEW};

/// Numbers of fids: one of each for a lane, but for the root.
const ROOT: Fid = Fid(0);
const FILES: u32 = 100;
const DATA: u32 = 200;
const DIRS: u32 = 300;
const LISTS: u32 = 400;
const SCRATCH: u32 = 500;

/// A connection with all lanes.
pub(super) struct Lanes {
    socket: UnixStream,
    out: Vec<u8>,
    /// Room for an answer of each lane.
    incoming: Vec<u8>,
    content: Vec<u8>,
    names: Vec<&'static [u8]>,
    own: Vec<String>,
}

fn fid(first: u32, lane: usize) -> Fid {
    Fid(first + lane as u32)
}

impl Lanes {
    pub(super) fn connect(server: &mut Running) -> Result<Lanes> {
        let mut lanes = Lanes {
            socket: server.socket()?,
            out: Vec::new(),
            incoming: vec![0; DEPTH * MSIZE],
            content: vec![7; PAYLOAD],
            names: DEEP.split('/').map(str::as_bytes).collect(),
            own: (0..DEPTH).map(|lane| format!("made-{lane}")).collect(),
        };
        let version = Tversion {
            msize: MSIZE as u32,
            version: b"9P2000.L",
        };
        lanes.once(Tag::NONE, &version)?;
        let attach = Tattach {
            fid: ROOT,
            afid: Fid::NONE,
            uname: b"root",
            aname: server.aname.as_bytes(),
            n_uname: 0,
        };
        lanes.once(Tag(0), &attach)?;
        for lane in 0..DEPTH {
            let starts: [(u32, &str, Option<OpenFlags>); 4] = [
                (FILES, "data", None),
                (DATA, "data", Some(OpenFlags::RDWR)),
                (DIRS, NEW, None),
                (LISTS, MANY, Some(OpenFlags::RDONLY)),
            ];
            for (first, name, open) in starts {
                let newfid = fid(first, lane);
                let names = [name.as_bytes()];
                let walk = Twalk {
                    fid: ROOT,
                    newfid,
                    wnames: Names::new(&names),
                };
                lanes.once(Tag(0), &walk)?;
                if let Some(flags) = open {
                    lanes.once(Tag(0), &Tlopen { fid: newfid, flags })?;
                }
            }
        }
        Ok(lanes)
    }

    /// One request and its answer, which must be no error.
    fn once<'m, M: Request<'m>>(&mut self, tag: Tag, request: &M) -> Result<()> {
        self.out.clear();
        request.encode(tag, &mut self.out);
        self.socket.write_all(&self.out)?;
        self.receive(1, &mut |_, message| {
            ensure!(message.kind() == M::KIND + 1, "{}: {message:?}", M::NAME);
            Ok(())
        })
    }

    /// Receives `count` answers.
    fn receive(
        &mut self,
        count: usize,
        each: &mut dyn FnMut(Tag, RMessage<'_>) -> Result<()>,
    ) -> Result<()> {
        let (mut filled, mut taken, mut answers) = (0, 0, 0);
        while answers < count {
            let Some(head) = self.incoming[taken..filled].first_chunk::<HEADER_SIZE>() else {
                filled += self.more(filled)?;
                continue;
            };
            let header = Header::decode(head, MSIZE as u32)?;
            let end = taken + header.size as usize;
            while filled < end {
                filled += self.more(filled)?;
            }
            let body = &self.incoming[taken + HEADER_SIZE..end];
            each(header.tag, RMessage::decode(header.kind, body)?)?;
            (taken, answers) = (end, answers + 1);
        }
        Ok(())
    }

    fn more(&mut self, filled: usize) -> Result<usize> {
        match self.socket.read(&mut self.incoming[filled..])? {
            0 => bail!("the server has hung up"),
            count => Ok(count),
        }
    }

    /// A request of each lane, and all answers, none of which may be an error.
    fn round<'m, M: Request<'m>>(&mut self, request: impl Fn(usize) -> M) {
        self.round_with(
            &mut |lane, out| request(lane).encode(Tag(lane as u16), out),
            M::KIND,
        );
    }

    fn round_with(&mut self, encode: &mut dyn FnMut(usize, &mut Vec<u8>), kind: u8) {
        self.out.clear();
        (0..DEPTH).for_each(|lane| encode(lane, &mut self.out));
        self.socket.write_all(&self.out).expect("send");
        let received = self.receive(DEPTH, &mut |_, message| {
            ensure!(message.kind() == kind + 1, "{message:?}");
            Ok(())
        });
        received.expect("answers");
    }

    pub(super) fn nothing(&mut self) {}

    pub(super) fn getattr(&mut self) {
        self.round(|lane| Tgetattr {
            fid: fid(FILES, lane),
            request_mask: GetattrMask::BASIC,
        });
    }

    pub(super) fn walk(&mut self, count: usize) {
        let names = std::mem::take(&mut self.names);
        self.round(|lane| Twalk {
            fid: ROOT,
            newfid: fid(SCRATCH, lane),
            wnames: Names::new(&names[..count]),
        });
        self.names = names;
        self.clunk();
    }

    fn clunk(&mut self) {
        self.round(|lane| Tclunk {
            fid: fid(SCRATCH, lane),
        });
    }

    fn clone_of(&mut self, first: u32) {
        self.round(|lane| Twalk {
            fid: fid(first, lane),
            newfid: fid(SCRATCH, lane),
            wnames: Names::new(&[]),
        });
    }

    pub(super) fn open(&mut self) {
        self.clone_of(FILES);
        self.round(|lane| Tlopen {
            fid: fid(SCRATCH, lane),
            flags: OpenFlags::RDONLY,
        });
        self.clunk();
    }

    pub(super) fn read(&mut self, size: usize) {
        self.round(|lane| Tread {
            fid: fid(DATA, lane),
            offset: 0,
            count: size as u32,
        });
    }

    pub(super) fn write(&mut self, size: usize) {
        let content = std::mem::take(&mut self.content);
        self.round(|lane| Twrite {
            fid: fid(DATA, lane),
            offset: 0,
            data: Data::new(&content[..size]),
        });
        self.content = content;
    }

    /// Every lane lists the directory.
    pub(super) fn readdir(&mut self) {
        let (mut offsets, mut counts) = ([0; DEPTH], [0; DEPTH]);
        let mut left: Vec<usize> = (0..DEPTH).collect();
        while !left.is_empty() {
            self.out.clear();
            for &lane in &left {
                let request = Treaddir {
                    fid: fid(LISTS, lane),
                    offset: offsets[lane],
                    count: PAYLOAD as u32,
                };
                request.encode(Tag(lane as u16), &mut self.out);
            }
            self.socket.write_all(&self.out).expect("send");
            let mut ended = Vec::new();
            let received = self.receive(left.len(), &mut |tag, message| {
                let RMessage::Rreaddir(listed) = message else {
                    bail!("{message:?}");
                };
                let lane = usize::from(tag.0);
                let before = counts[lane];
                for entry in listed.entries.iter() {
                    offsets[lane] = entry?.offset;
                    counts[lane] += 1;
                }
                if counts[lane] == before {
                    ended.push(lane);
                }
                Ok(())
            });
            received.expect("answers");
            left.retain(|lane| !ended.contains(lane));
        }
        assert!(counts.iter().all(|&count| count >= Sizes::ENTRIES));
    }

    /// Removed by its fid: diod has no Tunlinkat.
    pub(super) fn create(&mut self) {
        self.clone_of(DIRS);
        let own = std::mem::take(&mut self.own);
        self.round(|lane| Tlcreate {
            fid: fid(SCRATCH, lane),
            name: own[lane].as_bytes(),
            flags: OpenFlags::RDWR,
            mode: 0o600,
            gid: NO_ID,
        });
        self.own = own;
        self.round(|lane| Tremove {
            fid: fid(SCRATCH, lane),
        });
    }
}
