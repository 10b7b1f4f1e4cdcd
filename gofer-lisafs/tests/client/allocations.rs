//! What calls take from the heap.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use allocation_counter::measure;
use gofer_lisafs::wire::{
    AnyRequest, CloseResp, FStatResp, Fdid, Inode, Message, Mid, OpenAtResp, PReadResp, PWriteResp,
    ReadData, WalkResp, WalkStatus,
};
use gofer_vfs::remote::{Call, OpenMode, RemoteFile, RemoteHandle, WalkEnd};
use gofer_vfs::{Access, AttrMask, Name};

use crate::common::channel::with_channels;
use crate::common::peer::{Session, call, inode, session, stat};

const PAGE: usize = 4096;
const ROUNDS: u64 = 250;

/// Answers any request with what it asks for.
fn answer(mid: Mid, payload: &[u8]) -> Vec<u8> {
    static NEXT: AtomicU64 = AtomicU64::new(100);
    let mut out = Vec::new();
    match AnyRequest::decode(mid, payload).unwrap() {
        AnyRequest::FStat(_) => FStatResp {
            stat: stat(5, 0o100644),
        }
        .encode(&mut out),
        AnyRequest::OpenAt(_) => OpenAtResp {
            open_fd: Fdid::new(9),
        }
        .encode(&mut out),
        AnyRequest::PRead(_) => PReadResp {
            data: ReadData(&[7; PAGE]),
        }
        .encode(&mut out),
        AnyRequest::PWrite(_) => PWriteResp { count: PAGE as u64 }.encode(&mut out),
        AnyRequest::Close(_) => CloseResp {}.encode(&mut out),
        AnyRequest::Walk(request) => {
            let fd = || NEXT.fetch_add(1, Ordering::Relaxed);
            let inodes: Vec<Inode> = request.path.iter().map(|_| inode(fd(), 0o040755)).collect();
            let status = WalkStatus::SUCCESS;
            let inodes = &inodes;
            WalkResp { status, inodes }.encode(&mut out);
        }
        other => panic!("unexpected {}", other.mid()),
    }
    out
}

/// Both kinds of transport, each by itself.
fn sessions() -> [Session<()>; 2] {
    let on_channel = with_channels(1, |peer, mut channels| {
        while let Some((mid, payload)) = channels[0].next() {
            channels[0].answer(mid, 0, &answer(mid, &payload)[8..]);
        }
        assert_eq!(peer.rest(), []);
    });
    let on_socket = session(|peer| {
        while let Some((mid, payload)) = peer.next() {
            peer.send(&answer(mid, &payload), &[]);
        }
    });
    [on_channel, on_socket]
}

/// Allocations of `ROUNDS` calls, after some that make what is kept.
fn allocations(what: &mut dyn FnMut()) -> u64 {
    (0..ROUNDS).for_each(|_| what());
    measure(|| (0..ROUNDS).for_each(|_| what())).count_total
}

fn read(handle: &Arc<dyn RemoteHandle>, call: &Call<'_>) {
    let mut buffer = [0; PAGE];
    let moved = handle.read_at(call, &mut [IoSliceMut::new(&mut buffer)], 0);
    assert_eq!((moved.n, moved.error, buffer[PAGE - 1]), (PAGE, None, 7));
}

fn write(handle: &Arc<dyn RemoteHandle>, call: &Call<'_>) {
    let (one, two) = ([1; 96], [2; PAGE - 96]);
    let parts = [IoSlice::new(&one), IoSlice::new(&two)];
    let moved = handle.write_at(call, &parts, 0);
    assert_eq!((moved.n, moved.error), (PAGE, None));
}

fn walk(root: &Arc<dyn RemoteFile>, names: &[Name<'_>], call: &Call<'_>) {
    let mut count = 0;
    let end = root.walk(call, names, &mut |_found| count += 1);
    assert_eq!((end, count), (Ok(WalkEnd::Complete), names.len()));
}

#[test]
fn stat_read_and_write_take_nothing_and_a_walk_one_object_per_file() {
    for session in sessions() {
        let root = &session.root.file;
        let call = call();
        let mode = OpenMode {
            access: Access::ReadWrite,
            truncate: false,
        };
        let handle = root.open(&call, mode).unwrap();
        let stat = || assert_eq!(root.attr(&call, AttrMask::BASIC).unwrap().size, 5);
        assert_eq!(allocations(&mut || stat()), 0);
        assert_eq!(allocations(&mut || read(&handle, &call)), 0);
        assert_eq!(allocations(&mut || write(&handle, &call)), 0);
        let names = [b"name"; 8].map(|name| Name::new(name).unwrap());
        let files = ROUNDS * names.len() as u64;
        assert_eq!(allocations(&mut || walk(root, &names, &call)), files);
        drop(handle);
        session.finish();
    }
}
