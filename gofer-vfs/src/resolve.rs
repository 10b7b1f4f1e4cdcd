//! Path resolution (semantics 5): a walk from a directory down a path, one name at a time from
//! the cache, and several at a time from the server.

use std::sync::Arc;

use crate::attr::FileType;
use crate::context::{At, Context, Follow};
use crate::dentry::{Child, Node};
use crate::error::Errno;
use crate::lookup::{Fetched, fetch};
use crate::name::{Name, PATH_MAX};
use crate::permissions::{AccessMask, check_access};
use crate::remote::FileKey;
use crate::revalidate::{Known, revalidate};
use crate::stats::Counters;
use crate::superblock::Res;

/// Symbolic links followed in one path, as in Linux.
const LINKS_MAX: u32 = 40;

/// Names sent in one walk or check.
const BATCH_MAX: usize = 128;

/// One step of a walk, for people who want to see where time goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalkStep {
    /// The name as it stood in the path or in a link; `/` for the start.
    pub name: Vec<u8>,
    /// The type of what was found; `None`: it does not exist.
    pub file_type: Option<FileType>,
    /// The server's identity of it.
    pub key: Option<FileKey>,
    /// Its inode number.
    pub ino: Option<u64>,
    /// Where the answer came from.
    pub source: StepSource,
    /// Round trips to the server that this step caused.
    pub round_trips: u64,
    /// Where it led, if it is a symbolic link that was followed.
    pub link_target: Option<Vec<u8>>,
}

/// Where the answer to a [`WalkStep`] came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepSource {
    /// It is where the walk began or what `..` leads to; nothing was asked.
    Root,
    /// The name was cached.
    Cache,
    /// The absence of the name was cached.
    Negative,
    /// An earlier step's answer told of it.
    Prefetched,
    /// The server was asked.
    Remote,
    /// It was cached, and checked with the server.
    Revalidated,
}

/// Text of a path: the caller's, or what is left of it after a link was put in.
#[derive(Clone)]
enum Text<'p> {
    Given(&'p [u8]),
    Spliced(Arc<[u8]>),
}

impl Text<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Text::Given(bytes) => bytes,
            Text::Spliced(bytes) => bytes,
        }
    }

    /// The next component at or after `from`: where it begins and ends.
    fn part(&self, from: usize) -> Option<(usize, usize)> {
        let bytes = self.bytes();
        let begin = from + bytes.get(from..)?.iter().position(|&byte| byte != b'/')?;
        let length = bytes.get(begin..)?.iter().position(|&byte| byte == b'/');
        Some((begin, length.map_or(bytes.len(), |length| begin + length)))
    }

    /// The last component at or after `from`.
    fn last_part(&self, from: usize) -> Option<(usize, usize)> {
        let bytes = self.bytes().get(from..)?;
        let end = bytes.iter().rposition(|&byte| byte != b'/')? + 1;
        let begin = bytes.get(..end)?.iter().rposition(|&byte| byte == b'/');
        Some((from + begin.map_or(0, |slash| slash + 1), from + end))
    }

    fn slice(&self, begin: usize, end: usize) -> &[u8] {
        self.bytes().get(begin..end).unwrap_or_default()
    }

    fn slash_at(&self, at: usize) -> bool {
        self.bytes().get(at) == Some(&b'/')
    }
}

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

/// Names known to be up to date ahead of the walk.
#[derive(Default)]
struct Ahead {
    count: usize,
    /// The name after them does not exist.
    then_missing: bool,
    /// Where they came from.
    source: Option<StepSource>,
    /// Keeps them from being evicted before the walk gets there.
    _pin: Option<Node>,
}

/// The last component of a path that was walked in parent form.
#[derive(Clone)]
pub(crate) struct Last<'p> {
    text: Text<'p>,
    begin: usize,
    end: usize,
    /// Slashes follow: it must be a directory.
    pub(crate) slash: bool,
}

impl Last<'_> {
    /// The component; empty for a path of slashes only.
    pub(crate) fn name(&self) -> &[u8] {
        self.text.slice(self.begin, self.end)
    }
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
        })
    }

    /// Records each step from now on.
    pub(crate) fn record(&mut self) {
        let start = self.dir.clone();
        self.trace = Some(Vec::new());
        self.note(b"/", Some(&start), StepSource::Root, 0);
    }

    pub(crate) fn into_steps(self) -> Vec<WalkStep> {
        self.trace.unwrap_or_default()
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
        self.check_search()?;
        let text = self.text.clone();
        let (begin, end) = text.last_part(self.at).unwrap_or((0, 0));
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
        // Nothing is known about the other filesystem.
        self.ahead = Ahead::default();
        self.current = self.dir.sb().mode.may_cache_metadata();
    }

    /// One component, in the order of semantics 5.2.
    fn step(&mut self, text: &Text<'p>, begin: usize, end: usize) -> Res<Node> {
        let name = text.slice(begin, end);
        self.check_search()?;
        match name {
            b"." => return Ok(self.dir.clone()),
            b".." => return Ok(self.up()),
            _ => {}
        }
        self.dir.sb().check_name(name)?;
        self.tally.lookups += 1;
        let before = self.round_trips;
        if self.must_check() {
            self.at = begin;
            self.check_ahead()?;
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
                self.note(name, None, StepSource::Negative, before);
                Err(Errno::ENOENT.into())
            }
            Child::Unknown if self.ahead.count == 0 && self.ahead.then_missing => {
                let source = self.ahead.source.unwrap_or(StepSource::Prefetched);
                self.note(name, None, source, before);
                Err(Errno::ENOENT.into())
            }
            Child::Unknown => {
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

    /// Whether cached names from here on have to be checked before they are used.
    fn must_check(&self) -> bool {
        self.ahead.count == 0 && !self.ahead.then_missing && self.dir.sb().mode.must_revalidate()
    }

    /// Checks what is cached from here on, in one round trip: up to the end of the path, the
    /// first name that is not cached, `..`, or a link (semantics 6.2). Nothing is asked if all
    /// of it was checked a moment ago, as [`crate::freshness`] has it.
    fn check_ahead(&mut self) -> Res<()> {
        let text = self.text.clone();
        let mut chain: Vec<Known<'_>> = Vec::new();
        let mut from = self.at;
        while let Some((begin, end)) = text.part(from)
            && chain.len() < BATCH_MAX
        {
            from = end;
            let name = text.slice(begin, end);
            if name == b"." {
                continue;
            }
            if name == b".." {
                break;
            }
            let parent = chain.last().map_or(&self.dir, |known| &known.node);
            let Child::Present(node) = parent.child(name) else {
                break;
            };
            // What lies below a mount is hidden (semantics 24, item 77).
            let ends = node.file_type() == FileType::Symlink || node.is_covered();
            chain.push(Known { name, node });
            if ends {
                break;
            }
        }
        self.ahead = Ahead::default();
        if chain.is_empty() {
            return Ok(());
        }
        if self.dir.is_fresh() && chain.iter().all(|known| known.node.is_fresh()) {
            self.ahead = Ahead {
                count: chain.len(),
                then_missing: false,
                source: Some(StepSource::Cache),
                _pin: chain.pop().map(|known| known.node),
            };
            return Ok(());
        }
        let checked = revalidate(self.cx, &self.dir, &chain)?;
        self.round_trips += checked.calls;
        chain.truncate(checked.count);
        self.ahead = Ahead {
            count: checked.count,
            then_missing: checked.then_missing,
            source: Some(StepSource::Revalidated),
            _pin: chain.pop().map(|known| known.node),
        };
        Ok(())
    }

    /// Asks the server for the name at `begin`, and along with it for those that follow, if it
    /// can take several: up to where the form stops or `..` (semantics 5.6).
    fn fetch_ahead(&mut self, text: &Text<'p>, begin: usize) -> Res<Option<Node>> {
        let mut names: Vec<Name<'_>> = Vec::new();
        let mut from = begin;
        while let Some((begin, end)) = text.part(from)
            && names.len() < BATCH_MAX
        {
            from = end;
            let name = text.slice(begin, end);
            let stop = self.form == Form::Parent && text.part(end).is_none();
            if name == b"." {
                continue;
            }
            if stop || name == b".." || name.len() > crate::name::NAME_MAX {
                break;
            }
            names.push(Name::new(name)?);
            if !self.dir.sb().capabilities.multi_walk {
                break;
            }
        }
        if names.is_empty() {
            // A name that only this server's limit allows goes alone.
            let (begin, end) = text.part(begin).unwrap_or((begin, begin));
            names.push(Name::new(text.slice(begin, end))?);
        }
        self.ahead = Ahead::default();
        let fetched = fetch(self.cx, &self.dir, &names);
        let Some(fetched) = fetched? else {
            self.round_trips += 1;
            return Ok(None);
        };
        let Fetched {
            first,
            deepest,
            count,
            then_missing,
            calls,
        } = fetched;
        self.round_trips += calls;
        self.ahead = Ahead {
            count: count - 1,
            then_missing,
            source: Some(StepSource::Prefetched),
            _pin: Some(deepest),
        };
        Ok(Some(first))
    }

    /// Puts the target of `link`, whose name ends at `end`, in front of what is left.
    fn follow(&mut self, link: &Node, end: usize) -> Res<()> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::ELOOP.into());
        }
        let (target, calls) = read_target(self.cx, link)?;
        self.round_trips += calls;
        if let Some(step) = self.trace.as_mut().and_then(|trace| trace.last_mut()) {
            step.link_target = Some(target.to_vec());
            step.round_trips += calls;
        }
        if target.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        if target.len() > PATH_MAX {
            return Err(Errno::ENAMETOOLONG.into());
        }
        if target.first() == Some(&b'/') {
            self.dir = self.root.clone();
            self.current = self.dir.sb().mode.may_cache_metadata();
        }
        let rest = self.text.bytes().get(end..).unwrap_or_default();
        self.text = Text::Spliced([&*target, rest].concat().into());
        self.at = 0;
        // What follows was not checked: the link may lead anywhere (semantics 24, item 15).
        self.ahead = Ahead::default();
        Ok(())
    }

    fn note(&mut self, name: &[u8], node: Option<&Node>, source: StepSource, before: u64) {
        let round_trips = self.round_trips - before;
        if let Some(trace) = &mut self.trace {
            trace.push(WalkStep {
                name: name.to_vec(),
                file_type: node.map(Node::file_type),
                key: node.map(Node::key),
                ino: node.map(Node::ino),
                source,
                round_trips,
                link_target: None,
            });
        }
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

/// The target of a symbolic link, and how many round trips it took (semantics 5.8).
pub(crate) fn read_target(cx: &Context<'_>, link: &Node) -> Res<(Arc<[u8]>, u64)> {
    let inode = link.inode();
    let sb = link.sb();
    if inode.file_type != FileType::Symlink {
        return Err(Errno::EINVAL.into());
    }
    if sb.mode.must_revalidate() {
        return Ok((link.remote().read_link(&cx.call())?.into(), 1));
    }
    sb.touch_atime(inode);
    if let Some(target) = inode.link_target() {
        return Ok((target, 0));
    }
    let target: Arc<[u8]> = link.remote().read_link(&cx.call())?.into();
    inode.remember_link_target(target.clone());
    Ok((target, 1))
}
