//! One file under random operations through several descriptions and a mapping, held against a
//! plain vector of bytes; with donated descriptors, without, and with both in turn.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::interop::InteropMode;
use crate::testing::Outside;
use crate::testing::behaviour::Client;
use crate::testing::mem_remote::{MemConfig, MemOutside, MemRemote, MemServer};
use crate::{
    AllocMode, Credentials, Errno, File, Filesystem, Mapping, MountFlags, MountOptions, OpenFlags,
    Protection, SetAttr, Sharing, Trans, Whence,
};

const SLOTS: usize = 3;
const SPAN: usize = 40_000;
const PAGE: usize = 4096;

#[derive(Clone, Debug)]
enum Op {
    Open(usize, OpenFlags),
    Close(usize),
    Read(usize, usize, usize),
    Write(usize, usize, usize, u8),
    Truncate(usize, usize),
    Allocate(usize, AllocMode, usize, usize),
    Seek(usize, usize, bool),
    Copy(usize, usize, usize, usize, usize),
    Sync(usize),
    SyncAll,
    DropCaches,
    Donate(bool),
    Map(usize, usize, usize),
    MapRead(usize, usize),
    MapWrite(usize, usize, u8),
    MapSync,
    Unmap,
}

fn op() -> impl Strategy<Value = Op> {
    let slot = || 0..SLOTS;
    let at = || 0..SPAN;
    let len = || prop_oneof![1..20usize, 1..9000usize];
    let flags = prop_oneof![
        3 => Just(OpenFlags::RDWR),
        1 => Just(OpenFlags::RDONLY),
        1 => Just(OpenFlags::WRONLY),
        1 => Just(OpenFlags::RDWR | OpenFlags::APPEND),
        1 => Just(OpenFlags::RDWR | OpenFlags::DIRECT),
        1 => Just(OpenFlags::RDWR | OpenFlags::SYNC),
        1 => Just(OpenFlags::RDWR | OpenFlags::TRUNC),
    ];
    let mode = prop_oneof![
        Just(AllocMode::empty()),
        Just(AllocMode::KEEP_SIZE),
        Just(AllocMode::PUNCH_HOLE | AllocMode::KEEP_SIZE),
        Just(AllocMode::ZERO_RANGE),
        Just(AllocMode::ZERO_RANGE | AllocMode::KEEP_SIZE),
    ];
    prop_oneof![
        4 => (slot(), flags).prop_map(|(slot, flags)| Op::Open(slot, flags)),
        1 => slot().prop_map(Op::Close),
        8 => (slot(), at(), len()).prop_map(|(slot, at, len)| Op::Read(slot, at, len)),
        8 => (slot(), at(), len(), 1..255u8).prop_map(|(s, at, len, b)| Op::Write(s, at, len, b)),
        3 => (slot(), at()).prop_map(|(slot, size)| Op::Truncate(slot, size)),
        3 => (slot(), mode, at(), len()).prop_map(|(s, mode, at, len)| Op::Allocate(s, mode, at, len)),
        2 => (slot(), at(), any::<bool>()).prop_map(|(slot, at, hole)| Op::Seek(slot, at, hole)),
        2 => (slot(), slot(), at(), at(), len()).prop_map(|(a, b, at, to, n)| Op::Copy(a, b, at, to, n)),
        2 => slot().prop_map(Op::Sync),
        1 => Just(Op::SyncAll),
        1 => Just(Op::DropCaches),
        1 => any::<bool>().prop_map(Op::Donate),
        3 => (slot(), 0..8usize, 1..5usize).prop_map(|(slot, page, pages)| Op::Map(slot, page, pages)),
        3 => (0..4 * PAGE, len()).prop_map(|(at, len)| Op::MapRead(at, len)),
        4 => (0..4 * PAGE, len(), 1..255u8).prop_map(|(at, len, byte)| Op::MapWrite(at, len, byte)),
        1 => Just(Op::MapSync),
        1 => Just(Op::Unmap),
    ]
}

struct World {
    client: Client,
    outside: MemOutside,
    remote: MemRemote,
    model: Vec<u8>,
    open: Vec<Option<File>>,
    /// A shared mapping and where it begins.
    map: Option<(Mapping, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct Kind {
    mode: InteropMode,
    on_host: bool,
    force: bool,
    limit: u64,
}

fn kind() -> impl Strategy<Value = Kind> {
    let limit = prop_oneof![3 => Just(256u64 << 20), 1 => Just(16 << 10), 1 => Just(0)];
    let mode = prop_oneof![3 => Just(0usize), 2 => Just(1), 1 => 2..4usize];
    (mode, any::<bool>(), any::<bool>(), limit).prop_map(|(mode, on_host, force, limit)| Kind {
        mode: InteropMode::ALL[mode],
        on_host,
        force,
        limit,
    })
}

impl World {
    fn new(kind: Kind) -> World {
        let server = match kind.on_host {
            true => MemServer::on_host(),
            false => MemServer::new(),
        };
        let mut config = MemConfig::like_lisafs();
        // Small, so that one file takes several requests.
        config.capabilities.read_size_max = 8192;
        config.capabilities.write_size_max = 8192;
        let remote = server.connect(config);
        let options = MountOptions {
            cache: kind.mode,
            force_page_cache: kind.force,
            page_cache_limit: kind.limit,
            ..MountOptions::new(Trans::Fd { rfd: 0, wfd: 0 })
        };
        let fs = Filesystem::mount(
            std::sync::Arc::new(remote.clone()),
            options,
            MountFlags::default(),
        )
        .expect("a mount");
        let client = Client::new(&fs, Credentials::root());
        client.create("f", "").expect("create");
        World {
            client,
            outside: server.outside(),
            remote,
            model: Vec::new(),
            open: (0..SLOTS).map(|_| None).collect(),
            map: None,
        }
    }

    fn readable(&self, slot: usize) -> Option<&File> {
        let file = self.open[slot].as_ref()?;
        (file.flags().access_bits() != 1).then_some(file)
    }

    fn writable(&self, slot: usize) -> Option<&File> {
        let file = self.open[slot].as_ref()?;
        (file.flags().access_bits() != 0).then_some(file)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.model.len() < end {
            self.model.resize(end, 0);
        }
        self.model[at..end].copy_from_slice(bytes);
    }

    fn part(&self, at: usize, len: usize) -> &[u8] {
        let end = (at + len).min(self.model.len());
        self.model.get(at..end).unwrap_or_default()
    }

    fn run(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let client = self.client.clone();
        let cx = client.cx();
        match *op {
            Op::Open(slot, flags) => {
                self.open[slot] = None;
                if flags.contains(OpenFlags::TRUNC) {
                    self.model.clear();
                }
                self.open[slot] = Some(client.open("f", flags).expect("open"));
            }
            Op::Close(slot) => {
                if let Some(file) = self.open[slot].take() {
                    file.close(&cx).expect("close");
                }
            }
            Op::Read(slot, at, len) => {
                if let Some(file) = self.readable(slot) {
                    let found = client.read_at(file, len, at as u64).expect("read");
                    prop_assert!(found == self.part(at, len), "read of {len} at {at}");
                }
            }
            Op::Write(slot, at, len, byte) => {
                if let Some(file) = self.writable(slot) {
                    let bytes: Vec<u8> = (0..len).map(|n| byte ^ n as u8).collect();
                    let n = file.write_at(&cx, &bytes, at as u64).expect("write");
                    prop_assert_eq!(n, len);
                    let appends = file.flags().contains(OpenFlags::APPEND);
                    let at = if appends { self.model.len() } else { at };
                    self.put(at, &bytes);
                }
            }
            Op::Truncate(slot, size) => {
                let set = SetAttr {
                    size: Some(size as u64),
                    ..SetAttr::default()
                };
                if let Some(file) = self.writable(slot) {
                    file.set_attr(&cx, &set).expect("truncate");
                    self.model.resize(size, 0);
                }
            }
            Op::Allocate(slot, mode, at, len) => {
                if let Some(file) = self.writable(slot) {
                    file.allocate(&cx, mode, at as u64, len as u64)
                        .expect("allocate");
                    if !mode.contains(AllocMode::KEEP_SIZE) && self.model.len() < at + len {
                        self.model.resize(at + len, 0);
                    }
                    if mode.intersects(AllocMode::PUNCH_HOLE | AllocMode::ZERO_RANGE) {
                        let end = (at + len).min(self.model.len());
                        if let Some(part) = self.model.get_mut(at..end) {
                            part.fill(0);
                        }
                    }
                }
            }
            Op::Seek(slot, at, hole) => self.seek(slot, at, hole)?,
            Op::Copy(from, to, at, to_at, len) => {
                let (Some(source), Some(target)) = (self.readable(from), self.writable(to)) else {
                    return Ok(());
                };
                let (a, b) = (at as u64, to_at as u64);
                let copied = source.copy_range(&cx, a, target, b, len as u64);
                let part = self.part(at, len).to_vec();
                let overlaps = at < to_at + part.len() && to_at < at + part.len();
                match copied {
                    Ok(n) => {
                        prop_assert_eq!(n as usize, part.len());
                        if n > 0 {
                            self.put(to_at, &part);
                        }
                    }
                    Err(error) if target.flags().contains(OpenFlags::APPEND) => {
                        prop_assert_eq!(error.errno(), Errno::EBADF);
                    }
                    Err(error) => {
                        prop_assert_eq!((error.errno(), overlaps), (Errno::EINVAL, true));
                    }
                }
            }
            Op::Sync(slot) => {
                if let Some(file) = &self.open[slot] {
                    file.sync(&cx, slot == 0).expect("fsync");
                    if self.map.is_none() {
                        self.compare_with_server()?;
                    }
                }
            }
            Op::SyncAll => {
                client.fs.sync(&cx).expect("sync");
                self.compare_with_server()?;
            }
            Op::DropCaches => client.fs.drop_caches(),
            Op::Donate(donates) => self.remote.donate(donates),
            Op::Map(slot, page, pages) => self.map(slot, page, pages)?,
            Op::MapRead(at, len) => {
                if let Some((map, start)) = &self.map {
                    let len = len.min(map.length().saturating_sub(at));
                    let expected = self.part(start + at, len);
                    let mut found = vec![0; expected.len()];
                    if !found.is_empty() {
                        let n = map.read(at, &mut found).expect("read mapping");
                        prop_assert_eq!(n, found.len());
                        prop_assert!(found == expected, "mapping at {} + {}", start, at);
                    }
                }
            }
            Op::MapWrite(at, len, byte) => {
                if let Some((map, start)) = &self.map {
                    let start = *start;
                    let len = len.min(map.length().saturating_sub(at));
                    let len = self.part(start + at, len).len();
                    let bytes = vec![byte; len];
                    if len > 0 {
                        match map.write(at, &bytes) {
                            Ok(n) => {
                                prop_assert_eq!(n, len);
                                self.put(start + at, &bytes);
                            }
                            Err(error) => prop_assert_eq!(error.errno(), Errno::EACCES),
                        }
                    }
                }
            }
            Op::MapSync => {
                if let Some((map, _)) = &self.map {
                    map.sync(&cx, 0, map.length()).expect("msync");
                }
            }
            Op::Unmap => self.map = None,
        }
        let size = client.attr("f").expect("stat").size;
        prop_assert_eq!(size, self.model.len() as u64);
        Ok(())
    }

    fn seek(&self, slot: usize, at: usize, hole: bool) -> Result<(), TestCaseError> {
        let Some(file) = &self.open[slot] else {
            return Ok(());
        };
        let whence = match hole {
            true => Whence::Hole(at as i64),
            false => Whence::Data(at as i64),
        };
        let rest = self.model.get(at..).unwrap_or_default();
        match file.seek(&self.client.cx(), whence) {
            Ok(to) => {
                let to = to as usize;
                prop_assert!(at <= to && to <= self.model.len());
                if !hole {
                    prop_assert!(rest[..to - at].iter().all(|byte| *byte == 0));
                } else if to < self.model.len() {
                    prop_assert_eq!(self.model[to], 0);
                }
            }
            Err(error) => {
                prop_assert_eq!(error.errno(), Errno::ENXIO);
                let nothing = rest.iter().all(|byte| *byte == 0);
                prop_assert!(rest.is_empty() || (!hole && nothing));
            }
        }
        Ok(())
    }

    fn map(&mut self, slot: usize, page: usize, pages: usize) -> Result<(), TestCaseError> {
        let Some(file) = self.readable(slot) else {
            return Ok(());
        };
        let protection = match self.writable(slot) {
            Some(_) => Protection::WRITE,
            None => Protection::empty(),
        };
        let (start, length) = (page * PAGE, pages * PAGE);
        let mapped = file.map(
            &self.client.cx(),
            start as u64,
            length,
            protection,
            Sharing::Shared,
        );
        match mapped {
            Ok(map) => self.map = Some((map, start)),
            // No descriptor where one is needed; or no memory.
            Err(error) => prop_assert!(matches!(error.errno(), Errno::ENODEV | Errno::ENOMEM)),
        }
        Ok(())
    }

    fn compare_with_server(&self) -> Result<(), TestCaseError> {
        let served = self.outside.read(b"f").expect("a file");
        prop_assert!(served == self.model, "what the server has");
        Ok(())
    }

    fn finish(mut self) -> Result<(), TestCaseError> {
        let whole = self.client.read("f").expect("read");
        prop_assert!(whole == self.model, "the whole");
        self.map = None;
        self.open.clear();
        self.client.fs.sync(&self.client.cx()).expect("sync");
        self.compare_with_server()?;
        let remote = self.remote.clone();
        drop(self);
        let left = (remote.live_files(), remote.live_handles(), remote.misuses());
        prop_assert_eq!(left, (0, 0, 0));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(256)
    })]

    #[test]
    fn a_file_is_a_row_of_bytes(
        kind in kind(),
        ops in proptest::collection::vec(op(), 1..80),
    ) {
        let mut world = World::new(kind);
        for op in &ops {
            world.run(op)?;
        }
        world.finish()?;
    }
}
