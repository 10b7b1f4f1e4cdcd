//! rename (semantics 9).

use std::sync::Arc;

use crate::context::{At, Context};
use crate::dentry::{Child, Node};
use crate::error::{Errno, Result};
use crate::filesystem::Filesystem;
use crate::flags::RenameFlags;
use crate::locks::{MutexGuard, WriteGuard};
use crate::lookup::fetch_locked;
use crate::metadata::{Before, Metadata};
use crate::name::Name;
use crate::ops::{check_change_names, lost_name};
use crate::permissions::{AccessMask, check_access, check_sticky};
use crate::remote::RemoteError;
use crate::resolve::{Form, Last, Walk};
use crate::superblock::{Failure, Res, Superblock};

impl Filesystem {
    /// Renames `old` to `new`, replacing what is there unless `flags` say `NOREPLACE`, or
    /// swapping the two with `EXCHANGE`. `EINVAL` for other flags, for both, for `EXCHANGE` on a
    /// server that cannot do it, for `NOREPLACE` on such a server in a shared tree, and for a
    /// directory that would come to lie in itself.
    ///
    /// `EEXIST` with `NOREPLACE`; `EXDEV` between filesystems; `EACCES` and `EPERM` as of
    /// [`Filesystem::unlink`], for both parents, and `EACCES` for a directory that gets another
    /// parent and cannot be written; `EISDIR`, `ENOTDIR` and `ENOTEMPTY` for a target that cannot be
    /// replaced; `EBUSY` for `.`, `..`, `/` and where something is mounted. Two names of one file
    /// stay as they are.
    pub fn rename(
        &self,
        cx: &Context<'_>,
        old: At<'_>,
        new: At<'_>,
        flags: RenameFlags,
    ) -> Result<()> {
        self.run("rename", old.path, || self.move_name(cx, old, new, flags))
            .map_err(|error| error.with_target(new.path))
    }

    /// [`Filesystem::rename`] by node.
    pub fn rename_in(
        &self,
        cx: &Context<'_>,
        (old_dir, old): (&Node, Name<'_>),
        (new_dir, new): (&Node, Name<'_>),
        flags: RenameFlags,
    ) -> Result<()> {
        let old = At::new(old_dir, old.as_bytes());
        self.rename(cx, old, At::new(new_dir, new.as_bytes()), flags)
    }

    fn move_name(&self, cx: &Context<'_>, old: At<'_>, new: At<'_>, flags: RenameFlags) -> Res<()> {
        let keeps = flags.contains(RenameFlags::NOREPLACE);
        let swaps = flags.contains(RenameFlags::EXCHANGE);
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) || (keeps && swaps) {
            return Err(Errno::EINVAL.into());
        }
        let mut from = Side::walk(cx, old, self.root_ref())?;
        let mut to = Side::walk(cx, new, self.root_ref())?;
        let sb = &from.walk.dir.sb().clone();
        if !Arc::ptr_eq(sb, to.walk.dir.sb()) {
            return Err(Errno::EXDEV.into());
        }
        let server = sb.capabilities.rename_flags;
        let server_keeps = server.contains(RenameFlags::NOREPLACE);
        if (swaps && !server.contains(RenameFlags::EXCHANGE))
            || (keeps && !server_keeps && sb.mode.must_revalidate())
        {
            return Err(Errno::EINVAL.into());
        }
        if from.is_dots() {
            return Err(Errno::EBUSY.into());
        }
        if to.is_dots() {
            return Err(if keeps { Errno::EEXIST } else { Errno::EBUSY }.into());
        }
        sb.check_writable()?;
        let source = from.look_up()?.ok_or(Errno::ENOENT)?;
        let target = to.look_up()?;
        // Without the server's help the locked directory keeps a free name free.
        let sent = flags & server;
        let job = Job {
            cx,
            sb,
            from: (&from.walk.dir, Name::new(from.last.name())?),
            to: (&to.walk.dir, Name::new(to.last.name())?),
            slashes: (from.last.slash, to.last.slash),
            keeps,
            swaps,
            sent,
        };
        // Dropped after the directories are unlocked: that may close a file on the server.
        let mut both = (Some(source), target);
        job.run(&mut both)
    }
}

/// One of the two paths.
struct Side<'p> {
    walk: Walk<'p>,
    last: Last<'p>,
}

impl<'p> Side<'p> {
    fn walk(cx: &'p Context<'p>, at: At<'p>, root: &'p Node) -> Res<Side<'p>> {
        if at.path.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        let mut walk = Walk::new(cx, at, root, Form::Parent)?;
        let last = walk.reach_parent()?;
        Ok(Side { walk, last })
    }

    fn is_dots(&self) -> bool {
        matches!(self.last.name(), b"" | b"." | b"..")
    }

    fn look_up(&mut self) -> Res<Option<Node>> {
        self.walk.look_up(&self.last)
    }
}

/// A rename whose paths were walked.
struct Job<'j> {
    cx: &'j Context<'j>,
    sb: &'j Arc<Superblock>,
    from: (&'j Node, Name<'j>),
    to: (&'j Node, Name<'j>),
    /// Which of the paths end with a slash.
    slashes: (bool, bool),
    /// An existing target stays.
    keeps: bool,
    /// Source and target change places.
    swaps: bool,
    sent: RenameFlags,
}

/// The locks of a rename.
struct Locked<'d> {
    _topology: Option<MutexGuard<'d, ()>>,
    _names: (WriteGuard<'d, ()>, Option<WriteGuard<'d, ()>>),
}

impl Job<'_> {
    /// `both` are source and target as they were before the directories were locked, and are
    /// brought up to date.
    fn run(&self, both: &mut (Option<Node>, Option<Node>)) -> Res<()> {
        let _locked = self.lock()?;
        let source = self
            .under_lock(self.from, both.0.take())?
            .ok_or(Errno::ENOENT)?;
        both.1 = self.under_lock(self.to, both.1.take())?;
        let target = both.1.as_ref();
        let verdict = self.check(&source, target);
        let done = match verdict {
            Ok(true) => self.carry_out(&source, target),
            Ok(false) => Ok(()),
            Err(failure) => Err(failure),
        };
        both.0 = Some(source);
        done
    }

    fn lock(&self) -> Res<Locked<'_>> {
        let (Some(from), Some(to)) = (self.from.0.directory(), self.to.0.directory()) else {
            return Err(Errno::ENOTDIR.into());
        };
        if self.from.0.same(self.to.0) {
            return Ok(Locked {
                _topology: None,
                _names: (from.names.write(), None),
            });
        }
        let topology = self.sb.topology.lock();
        let (first, second) = if self.from.0.is_locked_before(self.to.0) {
            (from, to)
        } else {
            (to, from)
        };
        let names = first.names.write();
        Ok(Locked {
            _topology: Some(topology),
            _names: (names, Some(second.names.write_beside())),
        })
    }

    /// What has the name now that nobody can change it. `before` was found without the lock,
    /// and where absence is not cached its absence is still good.
    fn under_lock(
        &self,
        (dir, name): (&Node, Name<'_>),
        before: Option<Node>,
    ) -> Res<Option<Node>> {
        if dir.is_deleted() {
            return Ok(None);
        }
        match dir.child(name.as_bytes()) {
            Child::Present(node) => Ok(Some(node)),
            Child::Absent => Ok(None),
            Child::Unknown if before.is_none() && !self.sb.mode.may_cache_negative() => Ok(None),
            Child::Unknown => {
                let fetched = fetch_locked(self.cx, dir, &[name])?;
                Ok(fetched.map(|fetched| fetched.first))
            }
        }
    }

    /// Every check, in Linux's order. `false`: there is nothing to do.
    fn check(&self, source: &Node, target: Option<&Node>) -> Res<bool> {
        let (from, to) = (self.from.0, self.to.0);
        let is_dir = source.inode().is_dir();
        if self.keeps && target.is_some() {
            return Err(Errno::EEXIST.into());
        }
        if self.swaps && target.is_none() {
            return Err(Errno::ENOENT.into());
        }
        // A slash after a name means a directory, and only a swap makes one of another.
        let names_file = match target {
            Some(target) if self.swaps => {
                (self.slashes.0 && !is_dir) || (self.slashes.1 && !target.inode().is_dir())
            }
            _ => !is_dir && (self.slashes.0 || self.slashes.1),
        };
        if names_file {
            return Err(Errno::ENOTDIR.into());
        }
        if is_dir && source.is_above(to) {
            return Err(Errno::EINVAL.into());
        }
        if let Some(target) = target {
            if target.inode().is_dir() && target.is_above(from) {
                let errno = match self.swaps {
                    true => Errno::EINVAL,
                    false => Errno::ENOTEMPTY,
                };
                return Err(errno.into());
            }
            // The same name, or two names of one file: both stay (semantics 24, item 32).
            if Arc::ptr_eq(source.inode(), target.inode()) {
                return Ok(false);
            }
        }
        check_change_names(self.cx, from)?;
        self.check_sticky(from, source)?;
        if to.is_deleted() {
            return Err(Errno::ENOENT.into());
        }
        check_change_names(self.cx, to)?;
        if let Some(target) = target {
            self.check_sticky(to, target)?;
            match (is_dir, target.inode().is_dir()) {
                (true, false) if !self.swaps => return Err(Errno::ENOTDIR.into()),
                (false, true) if !self.swaps => return Err(Errno::EISDIR.into()),
                _ => {}
            }
        }
        // The `..` of a directory that changes its parent changes, too.
        for moved in [Some(source), target.filter(|_| self.swaps)] {
            if let Some(moved) = moved.filter(|moved| moved.inode().is_dir() && !from.same(to)) {
                check_access(self.cx.creds, &moved.inode().attr(), AccessMask::WRITE)?;
            }
        }
        if source.is_covered() || target.is_some_and(Node::is_covered) {
            return Err(Errno::EBUSY.into());
        }
        self.check_synthetic(source, target)?;
        Ok(true)
    }

    fn check_sticky(&self, dir: &Node, child: &Node) -> Res<()> {
        check_sticky(self.cx.creds, &dir.inode().attr(), &child.inode().attr())?;
        Ok(())
    }

    /// What has no meaning to the server, or would take more from it than was asked for.
    fn check_synthetic(&self, source: &Node, target: Option<&Node>) -> Res<()> {
        if self.swaps && (source.is_synthetic() || target.is_some_and(Node::is_synthetic)) {
            return Err(Errno::EINVAL.into());
        }
        if self.to.0.is_synthetic() && !source.is_synthetic() {
            return Err(Errno::EPERM.into());
        }
        let replaced = target.filter(|_| !self.swaps);
        if replaced.is_some_and(|replaced| !replaced.synthetic_children().is_empty()) {
            return Err(Errno::ENOTEMPTY.into());
        }
        Ok(())
    }

    /// Has the server do its part: for a file that it does not know, making room.
    fn ask(&self, source: &Node, target: Option<&Node>) -> std::result::Result<(), RemoteError> {
        let ((from, old), (to, new)) = (self.from, self.to);
        let call = self.cx.call();
        if source.is_synthetic() {
            let Some(target) = target.filter(|target| !target.is_synthetic()) else {
                return Ok(());
            };
            let file = target.remote();
            let directory = target.inode().is_dir();
            return to.remote().unlink(&call, new, directory, Some(&*file));
        }
        let moved = source.remote();
        from.remote()
            .rename(&call, old, Some(&*moved), (&*to.remote(), new), self.sent)
    }

    fn carry_out(&self, source: &Node, target: Option<&Node>) -> Res<()> {
        let ((from, old), (to, new)) = (self.from, self.to);
        let parents = (from.inode().about_to_count(), to.inode().about_to_count());
        let replaced = target.filter(|_| !self.swaps);
        let replaced = replaced.map(|replaced| (replaced, replaced.inode().about_to_count()));
        let _moving = self.sb.moves.begin();
        if let Err(error) = self.ask(source, target) {
            let failure = Failure::from(error);
            if failure.is_uncertain() {
                self.sb.distrust_name(from, old.as_bytes(), Some(source));
                self.sb.distrust_name(to, new.as_bytes(), target);
            }
            return Err(failure);
        }
        let mut last = false;
        match target {
            Some(target) if self.swaps => {
                source.exchange((from, old.as_bytes()), target, (to, new.as_bytes()));
            }
            _ => {
                if let Some((replaced, before)) = replaced {
                    to.detach(new.as_bytes(), replaced, true);
                    last = lost_name(self.cx, replaced, before);
                    replaced.invalidate_below();
                }
                source.rename((from, old.as_bytes()), (to, new.as_bytes()));
                from.mark_absent(old.as_bytes());
            }
        }
        self.tell(source, target, last);
        self.count_links(source, target, parents);
        let other = target.filter(|_| self.swaps);
        for moved in std::iter::once(source).chain(other) {
            let now = self.sb.stamp_of(moved);
            let touch = |meta: &mut Metadata| now.map(|now| meta.touch_ctime(now));
            moved.inode().change(touch);
        }
        Ok(())
    }

    /// Tells those who watch; `last`: the target lost its last name.
    fn tell(&self, source: &Node, target: Option<&Node>, last: bool) {
        let (from, to) = (
            (self.from.0, self.from.1.as_bytes()),
            (self.to.0, self.to.1.as_bytes()),
        );
        let replaced = target.filter(|_| !self.swaps);
        source.notify_moved(from, to, replaced);
        if let Some(replaced) = replaced {
            self.sb.watches.name_removed(replaced.inode(), last);
        }
        if let Some(target) = target.filter(|_| self.swaps) {
            target.notify_moved(to, from, None);
        }
    }

    /// Times and link counts of both parents; `before`: what they were when that was sent.
    fn count_links(&self, source: &Node, target: Option<&Node>, before: (Before, Before)) {
        let (from, to) = (self.from.0, self.to.0);
        let moved = i64::from(source.inode().is_dir());
        let other = i64::from(target.is_some_and(|target| target.inode().is_dir()));
        let returned = if self.swaps { other } else { 0 };
        if from.same(to) {
            self.sb.touch_names(from, returned - other, before.0);
        } else {
            self.sb.touch_names(from, returned - moved, before.0);
            self.sb.touch_names(to, moved - other, before.1);
        }
    }
}
