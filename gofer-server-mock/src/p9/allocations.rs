//! How often the thread that reads a connection asks for memory: for a request of the usual kinds
//! not at all, and once for a file that no fid stands for yet.

use std::io::IoSlice;
use std::path::Path;

use gofer_9p::wire::{
    Data, Fid, GetattrMask, HEADER_SIZE, Header, Message, Names, OpenFlags, Tag, Tattach, Tclunk,
    Tgetattr, Tlopen, Tread, Tversion, Twalk, Twrite,
};
use gofer_transport::{Stream, Wait};

use super::connection;
use crate::host::{Export, Policy};
use crate::limits::Limits;

/// Requests that are sent at once.
const DEPTH: u16 = 16;

const ROOT: Fid = Fid(0);
const FILE: Fid = Fid(1);

struct Client(Stream);

impl Client {
    /// Sends these bytes and takes so many replies, none of which is an error.
    fn exchange(&self, requests: &[u8], replies: usize) {
        let wait = Wait::default();
        self.0.send(&[IoSlice::new(requests)], &[], &wait).unwrap();
        let mut body = Vec::new();
        for _ in 0..replies {
            let mut head = [0; HEADER_SIZE];
            assert!(self.0.receive_exact(&mut head, None, &wait).unwrap());
            let header = Header::decode(&head, u32::MAX).unwrap();
            assert_ne!(header.kind, 7, "a request fails");
            body.resize(header.body_size(), 0);
            self.0.receive_exact(&mut body, None, &wait).unwrap();
        }
    }

    fn ask<'m>(&self, request: &impl Message<'m>) {
        let mut bytes = Vec::new();
        request.encode(Tag(1), &mut bytes);
        self.exchange(&bytes, 1);
    }

    /// The same request many times at once.
    fn ask_often<'m>(&self, request: &impl Message<'m>) {
        let mut bytes = Vec::new();
        (0..DEPTH).for_each(|tag| request.encode(Tag(tag), &mut bytes));
        self.exchange(&bytes, usize::from(DEPTH));
    }

    fn walk(&self, newfid: Fid, names: &[&[u8]]) {
        let wnames = Names::new(names);
        let fid = ROOT;
        self.ask(&Twalk {
            fid,
            newfid,
            wnames,
        });
    }

    /// Has [`ROOT`], and [`FILE`] open.
    fn begin(&self) {
        self.ask(&Tversion {
            msize: 1 << 20,
            version: b"9P2000.L",
        });
        self.ask(&Tattach {
            fid: ROOT,
            afid: Fid::NONE,
            uname: b"",
            aname: b"",
            n_uname: 0,
        });
        self.walk(FILE, &[b"file"]);
        let flags = OpenFlags::RDWR;
        self.ask(&Tlopen { fid: FILE, flags });
    }
}

/// How often the reading thread of one connection to `root` asks for memory.
fn count(root: &Path, client: &dyn Fn(&Client)) -> u64 {
    let export = Export::open(root, Policy::default()).unwrap();
    let (ours, theirs) = Stream::pair().unwrap();
    let serving = std::thread::spawn(move || {
        let run = || connection::run(&theirs, &export, &Limits::default()).unwrap();
        allocation_counter::measure(run)
    });
    let ours = Client(ours);
    ours.begin();
    client(&ours);
    drop(ours);
    serving.join().unwrap().count_total
}

/// How often one more `turn` makes it ask for memory.
fn of_one(turn: &dyn Fn(&Client)) -> f64 {
    const TURNS: u64 = 100;
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join("file"), [7; 8192]).unwrap();
    std::fs::write(tree.path().join("other"), "").unwrap();
    let of = |turns| {
        count(tree.path(), &|client| {
            (0..turns).for_each(|_| turn(client));
        })
    };
    // What the process keeps for good is there after the first, and what a connection keeps after
    // a few turns.
    of(1);
    let few = of(TURNS);
    (of(2 * TURNS) as f64 - few as f64) / TURNS as f64
}

#[test]
fn the_usual_requests_take_no_memory() {
    let getattr = Tgetattr {
        fid: FILE,
        request_mask: GetattrMask::BASIC,
    };
    let (fid, offset, count) = (FILE, 0, 4096);
    let read = Tread { fid, offset, count };
    let data = Data::new(&[9; 2048]);
    let write = Twrite { fid, offset, data };
    assert_eq!(of_one(&|client| client.ask(&getattr)), 0.0);
    assert_eq!(of_one(&|client| client.ask(&read)), 0.0);
    assert_eq!(of_one(&|client| client.ask(&write)), 0.0);
    assert_eq!(of_one(&|client| client.ask_often(&getattr)), 0.0);
    assert_eq!(of_one(&|client| client.ask_often(&read)), 0.0);
    assert_eq!(of_one(&|client| client.ask_often(&write)), 0.0);
}

#[test]
fn a_walk_takes_memory_for_a_file_that_no_fid_stands_for() {
    let walk = |names: &'static [&'static [u8]]| {
        move |client: &Client| {
            client.walk(Fid(9), names);
            client.ask(&Tclunk { fid: Fid(9) });
        }
    };
    assert_eq!(of_one(&walk(&[])), 0.0);
    assert_eq!(of_one(&walk(&[b"file"])), 0.0);
    assert_eq!(of_one(&walk(&[b"other"])), 1.0);
}
