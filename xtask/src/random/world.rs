//! One sequence on two trees, compared step by step and at the end.

use std::collections::HashMap;
use std::fmt::Write as _;

use anyhow::{Result, anyhow};
use gofer_vfs::{FileType, OpenFlags, Timestamp};

use super::allowed;
use super::host::HostTree;
use super::op::{Answer, Data, Op, Outcome, SLOTS, Seek, Side, Step, Target, Time, User};
use super::open::Open;
use super::path::Path;
use super::strategy::{Scope, Sequence};
use super::survey::{difference, survey};

/// A mounted tree that is worked on.
pub trait Client: Side {
    /// Closes everything and unmounts. What went wrong, if anything did.
    fn end(self: Box<Self>) -> Result<(), String>;
}

/// Two trees at work on one sequence.
pub struct World<'w> {
    scope: &'w Scope,
    client: Box<dyn Client>,
    served: HostTree,
    twin: HostTree,
    open: Open,
    /// When each file was last changed, by its number at the client.
    changed: HashMap<u64, Timestamp>,
    /// Access times are compared.
    atimes: bool,
    /// There has been a fifo.
    fifos: bool,
    /// Ranges were allocated and not written: whether those are data depends on what of them the
    /// host has in memory.
    unwritten: bool,
}

impl<'w> World<'w> {
    /// A `client` of what is `served`, and the `twin` of that: two directories of one file system,
    /// with the same in them.
    pub fn new(
        scope: &'w Scope,
        sequence: &Sequence,
        client: Box<dyn Client>,
        served: HostTree,
        twin: HostTree,
    ) -> World<'w> {
        World {
            scope,
            client,
            served,
            twin,
            open: Open::default(),
            changed: HashMap::new(),
            // The kernel stamps no access of a mount, a mapping for one.
            atimes: !scope.kernel
                && (sequence.dentry_limit.is_none() || !scope.mode.client_clock()),
            fifos: false,
            unwritten: false,
        }
    }

    /// Runs it. The error tells of the first difference.
    pub fn run(mut self, sequence: &Sequence) -> Result<(), String> {
        for (number, step) in sequence.steps.iter().enumerate() {
            self.step(step)
                .map_err(|why| format!("step {number}: {why}"))?;
        }
        self.finish()
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Client(user, op) => {
                let op = self.open.redirect(op);
                match self.adapt(&op) {
                    Some(op) => self.client_does(*user, &op),
                    None => Ok(()),
                }
            }
            Step::Other(op) => {
                if self.scope.private_pages {
                    for map in 0..SLOTS {
                        self.client_does(User::Root, &Op::Unmap(map))?;
                    }
                }
                // The kernel does not see that a file was cut and grew again meanwhile, and leaves
                // those their pages.
                if self.scope.kernel {
                    for map in self.open.private_maps() {
                        self.client_does(User::Root, &Op::Unmap(map))?;
                    }
                }
                let expected = self.twin.run(User::Root, op);
                let found = self.served.run(User::Root, op);
                self.note(op, &found);
                if found != expected {
                    return Err(format!(
                        "past the client: found {found:?}, expected {expected:?}"
                    ));
                }
                self.look_at_root()?;
                // Set-ID bits are taken away by what is known of them.
                let modes = matches!(op, Op::Chmod(..) | Op::Chown(..));
                if modes || self.scope.kernel {
                    self.look_at_files()?;
                }
                Ok(())
            }
        }
    }

    fn client_does(&mut self, user: User, op: &Op) -> Result<(), String> {
        if self.scope.kernel && matches!(op, Op::Utimes(..)) {
            // The kernel sends pages of mappings when it likes to, and they stamp the file.
            for map in 0..SLOTS {
                self.client_does(User::Root, &Op::MapSync(map))?;
            }
        }
        let found = self.client.run(user, op);
        if allowed::may_refuse(self.scope, op, &found) {
            return Ok(());
        }
        let expected = match self.without_direct(op) {
            Some(op) => self.twin.run(user, &op),
            None => self.twin.run(user, op),
        };
        if let Op::MapWrite(map, ..) = op {
            // The host stamps a file when a page of it is first written to since it was clean; a
            // client does each time.
            let _ = self.twin.run(User::Root, &Op::MapSync(*map));
            if self.scope.kernel {
                // Others do not see what the kernel has not sent.
                let _ = self.client.run(User::Root, &Op::MapSync(*map));
            }
        }
        if self.agrees(&found) == self.agrees(&expected) {
            self.open.note(op, &found);
            self.note(op, &found);
            if let Op::Allocate(slot, ..) = op {
                return self.mend_stamps(*slot);
            }
            return self.check_time(&found);
        }
        let unclear = self.unwritten && matches!(op, Op::Seek(_, Seek::Data | Seek::Hole, _));
        if let (Op::Open(slot, ..), true) = (op, allowed::is_missing(op, &found, &expected)) {
            let _ = self.twin.run(User::Root, &Op::Close(*slot));
            return Ok(());
        }
        let allowed = allowed::is_coarser(self.scope, op, &found, &expected)
            || allowed::is_farther(op, &found, &expected);
        if !unclear && !allowed {
            return Err(format!("found {found:?}, expected {expected:?}"));
        }
        // They stand at different places now.
        match op {
            Op::Seek(slot, ..) => self.client_does(user, &Op::Seek(*slot, Seek::Set, 0)),
            _ => Ok(()),
        }
    }

    /// The host stamps a file and takes set-ID bits away before it looks whether there is anything
    /// to allocate, or that it can. A client does so where something changes (semantics 13.6).
    fn mend_stamps(&mut self, slot: usize) -> Result<(), String> {
        let stat = self.twin.run(User::Root, &Op::Stat(Target::Slot(slot)));
        let Ok(Answer::Facts(facts)) = stat else {
            return Ok(());
        };
        let now = Op::Utimes(Target::Slot(slot), Time::Omit, Time::Now);
        self.client_does(User::Root, &Op::Chmod(Target::Slot(slot), facts.mode))?;
        self.client_does(User::Root, &now)
    }

    /// What of an outcome has to be the same.
    fn agrees(&self, outcome: &Outcome) -> Outcome {
        match outcome {
            Ok(Answer::Facts(facts)) if !self.atimes => {
                Ok(Answer::Facts(facts.clone().without_atime()))
            }
            outcome => outcome.clone(),
        }
    }

    fn note(&mut self, op: &Op, found: &Outcome) {
        self.fifos |= matches!(op, Op::Mkfifo(..)) && found.is_ok();
        self.unwritten |= matches!(op, Op::Allocate(..)) && found.is_ok();
        // A time of access that was not sent goes with the dentry (semantics 13.6).
        let forgets = matches!(op, Op::DropCaches) || allowed::leaves_atime(op, found);
        self.atimes &= !(self.scope.mode.client_clock() && forgets);
        // And what is read from pages that are kept the server hears nothing of.
        self.atimes &= !(self.scope.private_pages && matches!(op, Op::Map(..)));
    }

    /// The time of the last change never goes back.
    fn check_time(&mut self, found: &Outcome) -> Result<(), String> {
        let Ok(Answer::Facts(facts)) = found else {
            return Ok(());
        };
        match self.changed.insert(facts.ino, facts.ctime) {
            // It is the server's once the client has forgotten its own, and stays that.
            Some(before) if before > facts.ctime && !self.scope.mode.client_clock() => {
                Err(format!(
                    "the last change was at {before:?}, and is now at {:?}",
                    facts.ctime
                ))
            }
            _ => Ok(()),
        }
    }

    /// The directory that a path starts in is checked along with the first name if that is cached,
    /// and else not (`RULES.md`, 6.3). So the client has a look at the root whenever somebody else has changed
    /// something: a path that starts there sees no older root than this.
    fn look_at_root(&mut self) -> Result<(), String> {
        let root = Op::Stat(Target::Path("/".into()));
        self.client_does(User::Root, &root)
    }

    /// The kernel keeps to the size of an open file until it is asked for it.
    fn look_at_files(&mut self) -> Result<(), String> {
        for slot in 0..SLOTS {
            self.client_does(User::Root, &Op::Stat(Target::Slot(slot)))?;
        }
        Ok(())
    }

    /// Leaves out what has no meaning that two trees could share.
    fn adapt(&mut self, op: &Op) -> Option<Op> {
        match op {
            Op::MapWrite(map, at, data) => self.within_file(*map, *at, *data),
            // Where the names of a directory end is the file system's own affair.
            Op::Seek(slot, ..) if self.kind(Target::Slot(*slot)) == Some(FileType::Directory) => {
                Some(Op::Seek(*slot, Seek::Set, 0))
            }
            Op::Open(_, path, ..) | Op::Put(path, _) | Op::Content(path)
                if !self.scope.opens_fifos && self.is_fifo(path) =>
            {
                None
            }
            // What reading leaves behind in a position that names of a directory have is its own.
            Op::Read(slot, len) if self.kind(Target::Slot(*slot)) == Some(FileType::Directory) => {
                Some(Op::ReadAt(*slot, 0, *len))
            }
            // What it already has is no new owner (semantics 13.5), and takes nothing away.
            Op::Chown(target, uid, gid) if self.owns(target, *uid, *gid) => None,
            // Linux does nothing then, not even look for the file.
            Op::Utimes(_, Time::Omit, Time::Omit) => None,
            _ => Some(op.clone()),
        }
    }

    /// The host has rules of its own about what can be read past its caches of a regular file.
    fn without_direct(&mut self, op: &Op) -> Option<Op> {
        let Op::Open(slot, path, flags, mode) = op else {
            return None;
        };
        if !flags.contains(OpenFlags::DIRECT) {
            return None;
        }
        // Following a link is an access of it.
        self.atimes = false;
        match self.kind(Target::Path(path.clone())) {
            None | Some(FileType::Regular) => {
                let flags = *flags & !OpenFlags::DIRECT;
                Some(Op::Open(*slot, path.clone(), flags, *mode))
            }
            Some(_) => None,
        }
    }

    fn is_fifo(&mut self, path: &Path) -> bool {
        if !self.fifos {
            return false;
        }
        // Following a link is an access of it.
        self.atimes = false;
        self.kind(Target::Path(path.clone())) == Some(FileType::Fifo)
    }

    /// Whether a file with set-ID bits has this owner.
    fn owns(&mut self, target: &Target, uid: Option<u32>, gid: Option<u32>) -> bool {
        let stat = self.twin.run(User::Root, &Op::Stat(target.clone()));
        let Ok(Answer::Facts(facts)) = stat else {
            return (uid, gid) == (None, None);
        };
        let same = uid.is_none_or(|uid| uid == facts.owner.0)
            && gid.is_none_or(|gid| gid == facts.owner.1);
        same && (facts.mode & 0o6000 != 0 || (uid, gid) == (None, None))
    }

    /// The type of a file, if it is there.
    fn kind(&mut self, target: Target) -> Option<FileType> {
        match self.twin.run(User::Root, &Op::Stat(target)) {
            Ok(Answer::Facts(facts)) => Some(facts.kind),
            _ => None,
        }
    }

    /// What is written to a mapping beyond the end of its file may or may not come back.
    fn within_file(&mut self, map: usize, at: usize, data: Data) -> Option<Op> {
        let Ok(Answer::Number(room)) = self.twin.run(User::Root, &Op::Room(map)) else {
            return None;
        };
        let len = usize::try_from(room).ok()?.checked_sub(at)?.min(data.len);
        (len > 0).then_some(Op::MapWrite(map, at, Data { len, ..data }))
    }

    /// Open files first, since nothing else shows those without a name; then what the client
    /// sees, what the server has, and what it has once the client is gone.
    fn finish(mut self) -> Result<(), String> {
        for slot in 0..SLOTS {
            for op in [
                Op::Stat(Target::Slot(slot)),
                Op::ReadAt(slot, 0, 1 << 21),
                Op::Unmap(slot),
            ] {
                self.step(&Step::Client(User::Root, op.clone()))
                    .map_err(|why| format!("at the end {op:?}: {why}"))?;
            }
        }
        let (xattrs, atimes) = (self.scope.xattrs, self.atimes);
        let client = self.client.as_mut();
        compare(
            "as the client sees it",
            client,
            &mut self.twin,
            xattrs,
            atimes,
        )?;
        let synced = client.run(User::Root, &Op::SyncAll);
        synced.map_err(|errno| format!("sync: {errno:?}"))?;
        self.client.end()?;
        if self.scope.kernel && self.scope.mode.may_defer_writes() {
            // Nothing tells a mount of the kernel's that all is to be sent.
            return Ok(());
        }
        // A time of access alone is not sent (semantics 13.6).
        let atimes = atimes && !self.scope.mode.client_clock();
        let (served, twin) = (&mut self.served, &mut self.twin);
        compare("on the server, unmounted", served, twin, xattrs, atimes)
    }
}

/// Compares all there is in two trees. Looking is an access: both have to have been looked at as
/// often.
fn compare(
    what: &str,
    side: &mut dyn Side,
    twin: &mut dyn Side,
    xattrs: bool,
    atimes: bool,
) -> Result<(), String> {
    let expected = survey(twin, xattrs, atimes)?;
    let found = survey(side, xattrs, atimes).map_err(|why| format!("{what}: {why}"))?;
    let differs = difference(&found, &expected);
    differs.map_or(Ok(()), |why| Err(format!("{what}: {why}")))
}

/// Makes some files of several owners, links and directories.
pub fn population(tree: &mut HostTree) -> Result<()> {
    let path = |text: &str| Path::from(text);
    let data = |first, len| Data { first, len };
    let ops = [
        Op::Mkdir(path("a"), 0o755),
        Op::Put(path("a/b"), data(1, 5000)),
        Op::Symlink(path("../b"), path("a/c")),
        Op::Put(path("b"), data(50, 100)),
        Op::Chown(Target::Path(path("b")), Some(1000), Some(1000)),
        Op::Chmod(Target::Path(path("b")), 0o640),
        Op::Mkdir(path("c"), 0o750),
        Op::Chown(Target::Path(path("c")), Some(1000), Some(1000)),
        Op::Link(Target::Path(path("a/b")), path("c/a")),
        Op::Symlink(path("c"), path("d")),
    ];
    for op in ops {
        let done = tree.run(User::Root, &op);
        done.map_err(|errno| anyhow!("{op:?}: {errno:?}"))?;
    }
    Ok(())
}

/// A sequence as people read it.
pub fn describe(sequence: &Sequence) -> String {
    let mut text = format!(
        "root mode {:o}, {}, dentry limit {:?}, page limit {:?}\n",
        sequence.root_mode,
        if sequence.populated {
            "populated"
        } else {
            "empty"
        },
        sequence.dentry_limit,
        sequence.page_limit,
    );
    for (number, step) in sequence.steps.iter().enumerate() {
        let _ = match step {
            Step::Client(user, op) => writeln!(text, "  {number} as {user:?}: {op:?}"),
            Step::Other(op) => writeln!(text, "  {number} past the client: {op:?}"),
        };
    }
    text
}
