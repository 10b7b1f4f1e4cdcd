//! Which sequences there are.

use std::sync::LazyLock;

use gofer_vfs::{AccessMask, AllocMode, InteropMode, OpenFlags, RenameFlags, XattrFlags};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

mod paths;

use super::op::{Data, MapKind, Op, PAGE, SLOTS, Seek, Step, Target, Time, User};
use super::path::Path;
use paths::{circle, file_path, link_text, name_path, path};

/// What the mount can do, so that no sequence is about something else.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Its mode.
    pub mode: InteropMode,
    /// It is one of the kernel's.
    pub kernel: bool,
    /// New files have the owner asked for; if not, only root makes files.
    pub owners: bool,
    /// The server makes fifos.
    pub fifos: bool,
    /// It opens them.
    pub opens_fifos: bool,
    /// The protocol carries fallocate.
    pub allocate: bool,
    /// Flags of rename that the server knows.
    pub rename_flags: RenameFlags,
    /// The server tells where data and holes are.
    pub finds_holes: bool,
    /// Messages about attributes name a file, rather than an open one.
    pub by_name: bool,
    /// Pages are cached although others work on the files: mappings do not show what they do.
    pub private_pages: bool,
    /// There are extended attributes.
    pub xattrs: bool,
    /// A directory has bits for its owner or its group.
    pub old_modes: bool,
    /// An attribute may be empty.
    pub empty_xattrs: bool,
}

/// A sequence, and what it begins with.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// The mode of the root.
    pub root_mode: u32,
    /// There are some files before it is mounted.
    pub populated: bool,
    /// Unused dentries that are kept; `None` is the default.
    pub dentry_limit: Option<u64>,
    /// Bytes of memory for contents; `None` is the default.
    pub page_limit: Option<u64>,
    /// What is done.
    pub steps: Vec<Step>,
}

/// Sequences of at most `longest` steps.
pub fn sequence(scope: Scope, longest: usize) -> impl Strategy<Value = Sequence> {
    (
        select(vec![0o777, 0o1777, 0o755, 0o2777]),
        proptest::bool::weighted(0.9),
        select(vec![None, Some(0), Some(2)]),
        select(vec![None, None, Some(0), Some(16 << 10)]),
        vec(opening(), 0..=4),
        vec(step(scope), 1..=longest),
    )
        .prop_map(
            |(root_mode, populated, dentry_limit, page_limit, first, then)| Sequence {
                root_mode,
                populated,
                dentry_limit,
                page_limit,
                steps: [first, then].concat(),
            },
        )
}

/// Opens or maps something, for the steps that follow.
fn opening() -> BoxedStrategy<Step> {
    let path = select(vec!["a/b", "b", "e", "a", "a/c"]).prop_map(Path::from);
    let open = (slot(), path, any::<bool>()).prop_map(|(slot, path, make)| {
        let make = if make {
            OpenFlags::CREAT
        } else {
            OpenFlags::empty()
        };
        let flags = match path.as_bytes() {
            b"a" => OpenFlags::RDONLY,
            _ => OpenFlags::RDWR | make,
        };
        Op::Open(slot, path, flags | OpenFlags::NONBLOCK, 0o644)
    });
    let map = (slot(), slot(), map_kind()).prop_map(|(slot, map, kind)| Op::Map(slot, map, kind));
    prop_oneof![4 => open, 1 => map]
        .prop_map(|op| Step::Client(User::Root, op))
        .boxed()
}

fn step(scope: Scope) -> BoxedStrategy<Step> {
    let user = prop_oneof![6 => Just(User::Root), 3 => Just(User::One), 1 => Just(User::Two)];
    let client = (user, any_op(scope)).prop_map(move |(user, op)| {
        let user = if makes_files(&op) && !scope.owners {
            User::Root
        } else {
            user
        };
        Step::Client(user, op)
    });
    // What a whiteout leaves behind is a device.
    let other = by_name(scope).prop_map(|op| {
        Step::Other(match op {
            Op::Rename(old, new, flags) => Op::Rename(old, new, flags - WHITEOUT),
            op => op,
        })
    });
    match scope.mode.must_revalidate() {
        true => prop_oneof![5 => client, 1 => other].boxed(),
        false => client.boxed(),
    }
}

fn makes_files(op: &Op) -> bool {
    match op {
        Op::Open(_, _, flags, _) => flags.contains(OpenFlags::CREAT),
        Op::Mkdir(..) | Op::Mkfifo(..) | Op::Symlink(..) | Op::Put(..) => true,
        _ => false,
    }
}

fn any_op(scope: Scope) -> BoxedStrategy<Op> {
    prop_oneof![5 => by_name(scope), 6 => by_slot(scope), 2 => maps()].boxed()
}

/// Some of `ops`, or `otherwise` where they make no sense.
fn only_if(
    sense: bool,
    ops: impl Strategy<Value = Op> + 'static,
    otherwise: impl Strategy<Value = Op> + 'static,
) -> BoxedStrategy<Op> {
    match sense {
        true => ops.boxed(),
        false => otherwise.boxed(),
    }
}

fn slot() -> impl Strategy<Value = usize> {
    0..SLOTS
}

fn named() -> impl Strategy<Value = Target> {
    prop_oneof![3 => path().prop_map(Target::Path), 1 => path().prop_map(Target::Link)]
}

fn opened() -> impl Strategy<Value = Target> {
    slot().prop_map(Target::Slot)
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..200u64,
        3 => 4080..4110u64,
        3 => 0..20_000u64,
        1 => select(vec![4096, 8192, 12_288, 65_536]),
        1 => 65_500..66_000u64,
        1 => 1_000_000..1_050_000u64,
    ]
}

/// As [`offset`], or as far as numbers go: the last place of a file, and what is below nothing for
/// those who count with a sign.
fn any_offset() -> impl Strategy<Value = u64> {
    let end = i64::MAX as u64;
    prop_oneof![40 => offset(), 1 => select(vec![end - PAGE + 1, end, end + 1, u64::MAX])]
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        1 => Just(0usize),
        5 => 1..100usize,
        3 => 1..6000usize,
        1 => 1..70_000usize,
    ]
}

fn data() -> impl Strategy<Value = Data> {
    (any::<u8>(), length()).prop_map(|(first, len)| Data { first, len })
}

fn mode(scope: Scope) -> impl Strategy<Value = u16> {
    let any = prop_oneof![
        4 => select(vec![0o644, 0o600, 0o755, 0o777, 0o666, 0]),
        2 => 0..0o1000u16,
        1 => 0..0o10000u16,
    ];
    // Of a directory with bits for others only the client of an old version thinks that the
    // server has told of no more (9P 9.14).
    let at_least = if scope.old_modes { 0o100 } else { 0 };
    // Without group-execute set-group-ID stays on a file that is written to (semantics 15.5);
    // Linux has come to take it from strangers to the group.
    let executable = |mode: u16| if mode & 0o2000 != 0 { 0o10 } else { 0 };
    any.prop_map(move |mode| mode | at_least | executable(mode))
}

fn flags(scope: Scope) -> impl Strategy<Value = OpenFlags> {
    let access = prop_oneof![
        4 => Just(OpenFlags::RDONLY),
        2 => Just(OpenFlags::WRONLY),
        8 => Just(OpenFlags::RDWR),
        1 => Just(OpenFlags::WRONLY | OpenFlags::RDWR),
    ];
    // Where the server's clock stamps files, the server would have to be told, and is not.
    let unstamped = if scope.mode.client_clock() {
        OpenFlags::NOATIME
    } else {
        OpenFlags::empty()
    };
    let more = |flag: OpenFlags, weight: f64| {
        proptest::bool::weighted(weight)
            .prop_map(move |on| if on { flag } else { OpenFlags::empty() })
    };
    (
        access,
        more(OpenFlags::CREAT, 0.4),
        more(OpenFlags::EXCL, 0.08),
        more(OpenFlags::TRUNC, 0.1),
        more(OpenFlags::APPEND, 0.15),
        more(OpenFlags::DSYNC, 0.01),
        more(OpenFlags::SYNC, 0.01),
        more(OpenFlags::DIRECTORY, 0.04),
        more(OpenFlags::NOFOLLOW, 0.06),
        more(unstamped, 0.05),
        more(OpenFlags::PATH, 0.03),
        together(),
    )
        .prop_map(|(a, b, c, d, e, f, g, h, i, j, k, l)| {
            // A fifo must not keep a sequence waiting.
            a | b | c | d | e | f | g | h | i | j | k | l | OpenFlags::NONBLOCK
        })
}

/// Flags that mean something else together, or are rare.
fn together() -> impl Strategy<Value = OpenFlags> {
    let nothing = Just(OpenFlags::empty());
    let rare = select(vec![
        OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW,
        OpenFlags::DIRECTORY | OpenFlags::CREAT,
        OpenFlags::PATH | OpenFlags::NOFOLLOW,
        OpenFlags::PATH | OpenFlags::DIRECTORY,
        OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::NOFOLLOW,
        OpenFlags::CREAT | OpenFlags::EXCL,
        OpenFlags::TMPFILE_BIT | OpenFlags::DIRECTORY,
        OpenFlags::TMPFILE_BIT,
        OpenFlags::DIRECT,
        OpenFlags::DIRECT,
    ]);
    prop_oneof![9 => nothing, 1 => rare]
}

fn allocate_mode() -> impl Strategy<Value = AllocMode> {
    let keep = AllocMode::KEEP_SIZE;
    prop_oneof![
        3 => Just(AllocMode::empty()),
        2 => Just(keep),
        4 => Just(AllocMode::PUNCH_HOLE | keep),
        2 => Just(AllocMode::ZERO_RANGE),
        2 => Just(AllocMode::ZERO_RANGE | keep),
        2 => Just(AllocMode::COLLAPSE_RANGE),
        2 => Just(AllocMode::INSERT_RANGE),
        1 => select(vec![
            AllocMode::PUNCH_HOLE,
            AllocMode::COLLAPSE_RANGE | keep,
            AllocMode::ZERO_RANGE | AllocMode::INSERT_RANGE,
            AllocMode::UNSHARE_RANGE,
            AllocMode::NO_HIDE_STALE,
        ]),
    ]
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        1 => Just(Time::Omit),
        1 => Just(Time::Now),
        2 => select(vec![
            Time::At(0, 0),
            Time::At(1_000_000_000, 500_000_000),
            Time::At(-5, 250_000_000),
            Time::At(1_234_567_890, 123_456_789),
        ]),
    ]
}

fn owner() -> impl Strategy<Value = Option<u32>> {
    select(vec![None, Some(0), Some(1000), Some(1001)])
}

/// What overlays leave behind; see `rename(2)`.
pub const WHITEOUT: RenameFlags = RenameFlags::from_bits_retain(4);

fn rename_flags(scope: Scope) -> impl Strategy<Value = RenameFlags> {
    let plain = RenameFlags::empty();
    let known = |flag| {
        if scope.rename_flags.contains(flag) {
            flag
        } else {
            plain
        }
    };
    prop_oneof![
        8 => Just(plain),
        2 => Just(known(RenameFlags::NOREPLACE)),
        2 => Just(known(RenameFlags::EXCHANGE)),
        1 => select(vec![WHITEOUT, RenameFlags::NOREPLACE | RenameFlags::EXCHANGE]),
    ]
}

fn attribute_name() -> impl Strategy<Value = &'static str> {
    static LONG: LazyLock<[String; 2]> =
        LazyLock::new(|| [255, 256].map(|length| format!("user.{}", "x".repeat(length - 5))));
    let odd = vec!["user.", "nothing.a", "", "a", &LONG[0], &LONG[1]];
    prop_oneof![6 => select(vec!["user.a", "user.a", "user.b"]), 4 => select(odd)]
}

fn xattr_flags() -> impl Strategy<Value = XattrFlags> {
    prop_oneof![
        3 => Just(XattrFlags::empty()),
        1 => Just(XattrFlags::CREATE),
        1 => Just(XattrFlags::REPLACE),
    ]
}

/// For what Linux cannot do to a symbolic link.
fn followed(target: Target) -> Target {
    match target {
        Target::Link(path) => Target::Path(path),
        target => target,
    }
}

/// What is asked of or done to a file, however it is known.
fn about(target: BoxedStrategy<Target>, scope: Scope) -> BoxedStrategy<Op> {
    let least = usize::from(!scope.empty_xattrs);
    // Beyond what a block of the host's holds, and beyond what Linux lets pass.
    let size = prop_oneof![20 => least..300usize, 1 => select(vec![5000, 65_537])];
    let value = (any::<u8>(), size).prop_map(|(first, len)| Data { first, len });
    let target = || target.clone();
    let xattrs = prop_oneof![
        (target(), attribute_name(), value, xattr_flags())
            .prop_map(|(target, name, data, flags)| Op::SetXattr(target, name, data, flags)),
        (
            target(),
            attribute_name(),
            select(vec![0usize, 1, 100, 1000])
        )
            .prop_map(|(target, name, size)| Op::GetXattr(target, name, size)),
        target().prop_map(Op::ListXattr),
        (target(), attribute_name()).prop_map(|(target, name)| Op::RemoveXattr(target, name)),
    ];
    let stat = || target().prop_map(Op::Stat);
    prop_oneof![
        6 => stat(),
        2 => (target(), mode(scope)).prop_map(|(target, mode)| Op::Chmod(followed(target), mode)),
        2 => (target(), owner(), owner()).prop_map(|(target, uid, gid)| Op::Chown(target, uid, gid)),
        2 => (target(), time(), time()).prop_map(|(target, a, m)| Op::Utimes(target, a, m)),
        3 => (target(), any_offset())
            .prop_map(|(target, size)| Op::Truncate(followed(target), size)),
        4 => only_if(scope.xattrs, xattrs, stat()),
    ]
    .boxed()
}

fn by_name(scope: Scope) -> BoxedStrategy<Op> {
    let fifo = (name_path(), mode(scope)).prop_map(|(path, mode)| Op::Mkfifo(path, mode));
    prop_oneof![
        12 => about(named().boxed(), scope),
        2 => (path(), 0..8u16)
            .prop_map(|(path, want)| Op::Access(path, AccessMask::from_bits_truncate(want))),
        2 => path().prop_map(Op::ReadLink),
        3 => path().prop_map(Op::List),
        4 => (name_path(), mode(scope)).prop_map(|(path, mode)| Op::Mkdir(path, mode)),
        1 => only_if(scope.fifos, fifo, path().prop_map(Op::Unlink)),
        3 => (link_text(), name_path()).prop_map(|(text, path)| Op::Symlink(text, path)),
        1 => circle().prop_map(|(text, path)| Op::Symlink(text, path)),
        3 => (named(), name_path()).prop_map(|(old, new)| Op::Link(old, new)),
        3 => name_path().prop_map(Op::Unlink),
        2 => name_path().prop_map(Op::Rmdir),
        6 => (name_path(), name_path(), rename_flags(scope))
            .prop_map(|(old, new, flags)| Op::Rename(old, new, flags)),
        5 => (file_path(), data()).prop_map(|(path, data)| Op::Put(path, data)),
        4 => file_path().prop_map(Op::Content),
    ]
    .boxed()
}

fn by_slot(scope: Scope) -> BoxedStrategy<Op> {
    let allocate = (slot(), allocate_mode(), range())
        .prop_map(|(slot, mode, (at, len))| Op::Allocate(slot, mode, at, len));
    let truncate =
        (slot(), any_offset()).prop_map(|(slot, size)| Op::Truncate(Target::Slot(slot), size));
    prop_oneof![
        10 => (slot(), file_path(), flags(scope), mode(scope))
            .prop_map(|(slot, path, flags, mode)| Op::Open(slot, path, flags, mode)),
        2 => slot().prop_map(Op::Close),
        4 => (slot(), length()).prop_map(|(slot, len)| Op::Read(slot, len)),
        6 => (slot(), any_offset(), length()).prop_map(|(slot, at, len)| Op::ReadAt(slot, at, len)),
        5 => (slot(), data()).prop_map(|(slot, data)| Op::Write(slot, data)),
        7 => (slot(), any_offset(), data()).prop_map(|(slot, at, data)| Op::WriteAt(slot, at, data)),
        3 => (slot(), seek(), to()).prop_map(|(slot, seek, to)| Op::Seek(slot, seek, to)),
        1 => (slot(), any::<bool>()).prop_map(|(slot, only)| Op::Sync(slot, only)),
        4 => only_if(scope.allocate, allocate, truncate),
        2 => (slot(), any_offset(), slot(), any_offset(), any_offset())
            .prop_map(|(from, at, to, to_at, len)| Op::Copy(from, at, to, to_at, len)),
        1 => (slot(), 0..6usize).prop_map(|(slot, first)| Op::Pieces(slot, first)),
        10 => about(opened().boxed(), scope),
        1 => Just(Op::DropCaches),
        1 => Just(Op::SyncAll),
    ]
    .boxed()
}

fn seek() -> impl Strategy<Value = Seek> {
    select(vec![
        Seek::Set,
        Seek::Cur,
        Seek::End,
        Seek::Data,
        Seek::Hole,
    ])
}

fn to() -> impl Strategy<Value = i64> {
    prop_oneof![6 => any_offset().prop_map(|to| to as i64), 1 => -5000..0i64]
}

/// Half of them of whole blocks.
fn range() -> impl Strategy<Value = (u64, u64)> {
    let whole = (0..20u64, 1..10u64).prop_map(|(at, len)| (at * PAGE, len * PAGE));
    prop_oneof![whole, (any_offset(), any_offset())]
}

fn map_kind() -> impl Strategy<Value = MapKind> {
    let page = prop_oneof![3 => Just(0u64), 1 => 1..4u64];
    (page, 1..4usize, any::<bool>(), any::<bool>()).prop_map(|(page, pages, write, shared)| {
        MapKind {
            page,
            pages,
            write,
            shared,
        }
    })
}

fn maps() -> BoxedStrategy<Op> {
    let within = || prop_oneof![3 => 0..200usize, 2 => 4000..5000usize, 1 => 0..3 * PAGE as usize];
    prop_oneof![
        4 => (slot(), slot(), map_kind())
            .prop_map(|(slot, map, kind)| Op::Map(slot, map, kind)),
        4 => (slot(), within(), length()).prop_map(|(map, at, len)| Op::MapRead(map, at, len)),
        4 => (slot(), within(), data()).prop_map(|(map, at, data)| Op::MapWrite(map, at, data)),
        1 => slot().prop_map(Op::MapSync),
        1 => slot().prop_map(Op::Unmap),
    ]
    .boxed()
}
