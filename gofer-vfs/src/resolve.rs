//! Path resolution (semantics 5): a walk from a directory down a path, one name at a time from
//! the cache, and several at a time from the server.

mod ahead;
mod links;
mod steps;
mod text;

use std::sync::Arc;

use crate::answers::Proof;
use crate::attr::FileType;
use crate::context::{At, Context, Follow};
use crate::dentry::{Child, Node};
use crate::error::Errno;
use crate::lookup::fetch;
use crate::name::{Name, PATH_MAX};
use crate::permissions::{AccessMask, check_access};
use crate::revalidate::revalidate;
use crate::stats::Counters;
use crate::superblock::Res;

use ahead::Ahead;
pub(crate) use links::read_target;
pub use steps::{StepSource, WalkStep};
pub(crate) use text::Last;
use text::Text;

/// How much of the path is walked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// All of it.
    Full(Follow),
    /// All but the last component, which is to be made or removed: it is checked along with the
    /// others where it is cached, but the server is not asked for it.
    Parent,
    /// All but the last component, which is to be opened: asked for along with the others.
    Open,
}

/// See the module.
pub(crate) struct Walk<'p> {
    cx: &'p Context<'p>,
    root: &'p Node,
    /// Where the walk is.
    pub(crate) dir: Node,
    text: Text<'p>,
    at: usize,
    form: Form,
    links: u32,
    ahead: Ahead,
    /// The attributes of `dir` are as fresh as the mode asks for.
    current: bool,
    round_trips: u64,
    tally: Tally<'p>,
    trace: Option<Vec<WalkStep>>,
    /// What the walk rests on, as long as it is plain: see [`crate::answers`].
    proof: Option<Proof>,
}

/// What a walk adds to the counters, all at once at its end: they are shared by all threads.
struct Tally<'p> {
    counters: &'p Counters,
    lookups: u64,
    hits: u64,
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.counters.lookups.add(self.lookups);
        self.counters.cache_hits.add(self.hits);
    }
}

impl<'p> Walk<'p> {
    /// Begins a walk of `at`. `ENAMETOOLONG` for a path longer than `PATH_MAX`; `EXDEV` for a
    /// start on a filesystem that is neither this nor mounted in it.
    pub(crate) fn new(
        cx: &'p Context<'p>,
        at: At<'p>,
        fs_root: &'p Node,
        form: Form,
    ) -> Res<Walk<'p>> {
        let root = at.root.unwrap_or(fs_root);
        let sb = fs_root.sb();
        let ours = |node: &Node| Arc::ptr_eq(sb, node.sb()) || node.sb().is_within(sb);
        if !ours(at.dir) || !ours(root) {
            return Err(Errno::EXDEV.into());
        }
        if at.path.len() > PATH_MAX {
            return Err(Errno::ENAMETOOLONG.into());
        }
        if at.path.contains(&0) {
            return Err(Errno::EINVAL.into());
        }
        let absolute = at.path.first() == Some(&b'/');
        let dir = if absolute { root } else { at.dir }.clone();
        dir.sb().options.access.check(cx.creds.uid)?;
        Ok(Walk {
            cx,
            root,
            current: dir.sb().mode.may_cache_metadata(),
            dir,
            text: Text::Given(at.path),
            at: 0,
            form,
            links: 0,
            ahead: Ahead::default(),
            round_trips: 0,
            tally: Tally {
                counters: &sb.counters,
                lookups: 0,
                hits: 0,
            },
            trace: None,
            proof: None,
        })
    }

    /// Gathers from now on what the outcome rests on.
    pub(crate) fn gather(&mut self) {
        self.proof = Some(Proof::begin(self.dir.sb()));
    }

    /// What the outcome rests on, if the walk was plain.
    pub(crate) fn take_proof(&mut self) -> Option<Proof> {
        self.proof.take()
    }

    /// Walks the whole path; [`Walk::dir`] is then its end.
    pub(crate) fn reach_end(&mut self) -> Res<()> {
        self.advance()?;
        let named = self.text.part(0).is_some();
        let slash = self.text.bytes().last() == Some(&b'/');
        if named && slash && !self.dir.inode().is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        if !self.current && !self.dir.is_fresh() {
            self.round_trips += revalidate(self.cx, &self.dir, &[])?.calls;
            self.current = true;
        }
        Ok(())
    }

    pub(crate) fn into_end(self) -> Node {
        self.dir
    }

    /// Walks to the parent of the last component and checks that it can be searched.
    pub(crate) fn reach_parent(&mut self) -> Res<Last<'p>> {
        self.advance()?;
        let text = self.text.clone();
        let part = text.last_part(self.at);
        // A path like `/` looks for nothing.
        if part.is_some() {
            if self.must_check() {
                self.check_ahead()?;
            }
            self.check_search()?;
        }
        let (begin, end) = part.unwrap_or((0, 0));
        let slash = text.slash_at(end) && end > begin;
        Ok(Last {
            text,
            begin,
            end,
            slash,
        })
    }

    /// What is known about the last component without asking for it. In shared mode the cached
    /// answer is checked, if that was not done along with the path.
    pub(crate) fn known(&mut self, last: &Last<'_>) -> Res<Child> {
        let name = last.name();
        self.dir.sb().check_name(name)?;
        self.tally.lookups += 1;
        if self.must_check() {
            self.check_ahead()?;
        }
        let child = self.dir.child(name);
        if self.ahead.count == 0 && self.ahead.then_missing && matches!(child, Child::Unknown) {
            return Ok(Child::Absent);
        }
        match child {
            Child::Present(_) => self.tally.hits += 1,
            Child::Absent => self.dir.sb().counters.negative_hits.one(),
            Child::Unknown => {}
        }
        Ok(child)
    }

    /// The file of the last component, which is asked for if need be. `None`: there is none.
    pub(crate) fn look_up(&mut self, last: &Last<'_>) -> Res<Option<Node>> {
        match self.known(last)? {
            Child::Present(node) => Ok(Some(node)),
            Child::Absent => Ok(None),
            Child::Unknown => {
                let name = Name::new(last.name())?;
                let fetched = fetch(self.cx, &self.dir, &[name])?;
                Ok(fetched.map(|fetched| fetched.first))
            }
        }
    }

    /// Goes on behind the last component, which is a link: puts its target in its place.
    pub(crate) fn follow_last(&mut self, link: &Node, last: &Last<'_>) -> Res<()> {
        self.follow(link, last.end)
    }

    /// Forgets what was learned about the names ahead.
    pub(crate) fn forget_ahead(&mut self) {
        self.ahead = Ahead::default();
    }

    /// Walks the last component as well, which is no name: `.`, `..`, or there is none.
    pub(crate) fn reach_end_without_name(&mut self) -> Res<()> {
        self.form = Form::Full(Follow::Yes);
        self.reach_end()
    }

    /// Walks up to where the form stops.
    fn advance(&mut self) -> Res<()> {
        loop {
            let text = self.text.clone();
            let Some((begin, end)) = text.part(self.at) else {
                return Ok(());
            };
            let is_last = text.part(end).is_none();
            let follow = match self.form {
                Form::Full(follow) => follow,
                _ if is_last => return Ok(()),
                _ => Follow::Yes,
            };
            let child = self.step(&text, begin, end)?;
            let on_the_way = !is_last || text.slash_at(end) || follow == Follow::Yes;
            if on_the_way && child.file_type() == FileType::Symlink {
                self.follow(&child, end)?;
            } else {
                self.enter(child);
                self.at = end;
            }
        }
    }

    /// Goes to `node`, or to what is mounted on it.
    #[inline]
    fn enter(&mut self, node: Node) {
        if !node.is_covered() {
            self.dir = node;
            return;
        }
        self.dir = node.top();
        self.proof = None;
        // Nothing is known about the other filesystem.
        self.ahead = Ahead::default();
        self.current = self.dir.sb().mode.may_cache_metadata();
    }

    /// One component, in the order of semantics 5.2.
    fn step(&mut self, text: &Text<'p>, begin: usize, end: usize) -> Res<Node> {
        let name = text.slice(begin, end);
        if let Some(proof) = &mut self.proof {
            proof.search(&self.dir);
        }
        let before = self.round_trips;
        // It tells of this directory, too: whether it may be searched does not rest on old news.
        if self.must_check() {
            self.at = begin;
            self.check_ahead()?;
        }
        self.check_search()?;
        match name {
            b"." => return Ok(self.dir.clone()),
            b".." => return Ok(self.up()),
            _ => {}
        }
        self.dir.sb().check_name(name)?;
        self.tally.lookups += 1;
        if let Some(proof) = &mut self.proof {
            proof.look_up(&self.dir, name);
        }
        match self.dir.child(name) {
            Child::Present(node) => {
                self.tally.hits += 1;
                let source = self.ahead.source.filter(|_| self.ahead.count > 0);
                self.ahead.count = self.ahead.count.saturating_sub(1);
                self.current = true;
                let source = source.unwrap_or(StepSource::Cache);
                self.note(name, Some(&node), source, before);
                Ok(node)
            }
            Child::Absent => {
                self.dir.sb().counters.negative_hits.one();
                if let Some(proof) = &mut self.proof {
                    proof.absent = true;
                }
                self.note(name, None, StepSource::Negative, before);
                Err(Errno::ENOENT.into())
            }
            Child::Unknown if self.ahead.count == 0 && self.ahead.then_missing => {
                let source = self.ahead.source.unwrap_or(StepSource::Prefetched);
                self.note(name, None, source, before);
                Err(Errno::ENOENT.into())
            }
            Child::Unknown => {
                self.proof = None;
                let node = self.fetch_ahead(text, begin)?;
                self.note(name, node.as_ref(), StepSource::Remote, before);
                self.current = true;
                node.ok_or_else(|| Errno::ENOENT.into())
            }
        }
    }

    /// X on the directory the walk is in; `ENOTDIR` if it is none.
    #[inline]
    fn check_search(&self) -> Res<()> {
        let inode = self.dir.inode();
        if !inode.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        check_dir(self.cx, &self.dir, AccessMask::EXECUTE)
    }

    fn up(&mut self) -> Node {
        self.proof = None;
        self.ahead = Ahead::default();
        let up = if self.dir.same(self.root) {
            self.dir.clone()
        } else {
            // The way up from the root of what is mounted is that of the file it covers.
            let below = self.dir.bottom();
            let from = below.as_ref().unwrap_or(&self.dir);
            from.parent().unwrap_or_else(|| from.clone())
        };
        self.current = up.sb().mode.may_cache_metadata();
        self.note(b"..", Some(&up), StepSource::Root, self.round_trips);
        up
    }
}

/// Whether the caller may use `dir` as `want` says (`EACCES`). In shared mode no refusal rests on
/// old news: the server is asked before.
#[inline]
pub(crate) fn check_dir(cx: &Context<'_>, dir: &Node, want: AccessMask) -> Res<()> {
    dir.sb().options.access.check(cx.creds.uid)?;
    let inode = dir.inode();
    let check = || check_access(cx.creds, &inode.attr(), want);
    if check().is_ok() {
        return Ok(());
    }
    if dir.sb().mode.must_revalidate() {
        inode.refresh(cx, &*dir.remote(), None)?;
    }
    Ok(check()?)
}
