//! Answers about whole paths: what `stat` found at their ends, or that there is nothing.
//!
//! A walk of cached names takes some locks at each name and writes to each dentry on its way, so
//! threads that look at the same files get in each other's way. A path that is asked for again and
//! again is therefore answered as a whole, from a table of fixed size, without writing anything
//! that threads share. Each answer keeps [`Evidence`] of what it rests on and is given only while
//! that holds; otherwise the path is walked as ever.
//!
//! Only walks of the plain kind are remembered: through names that were cached, without `..`,
//! links, or mounts of other filesystems; and only where what is cached is the truth
//! ([`InteropMode::may_cache_metadata`](crate::interop::InteropMode::may_cache_metadata)).
//!
//! An answer is a copy: it references no dentry and no inode, and what was evicted or removed
//! is gone at once, though a stale answer may take its place in the table until another comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use crate::attr::FileType;
use crate::context::{At, Follow};
use crate::dentry::{Node, hash_path};
use crate::filesystem::Stat;
use crate::permissions::Credentials;
use crate::stats::Counters;
use crate::superblock::{Res, Superblock};
use crate::versions::{Evidence, Subject};

/// Slots in a table: a power of two.
const SLOTS: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 10;

/// The longest path that is remembered, in bytes.
const PATH_KEPT: usize = 512;

/// Supplementary groups of a user for whom alone an answer is remembered, at most.
const GROUPS_KEPT: usize = 64;

/// The answers of one filesystem.
pub(crate) struct Answers(Box<[Slot]>);

#[derive(Default)]
struct Slot {
    /// The hash of the last question that was not answered here.
    asked: AtomicU64,
    answer: ArcSwapOption<Answer>,
}

/// A path to be looked at, and where it begins.
pub(crate) struct Question<'q> {
    hash: u64,
    /// The id of the directory: no other ever has it.
    start: u64,
    path: &'q [u8],
}

/// What there is at the end of a path.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    Found(Stat),
    Absent,
}

/// What the outcome of a walk rests on.
pub(crate) struct Proof {
    evidence: Evidence,
    /// Not everybody may search all the directories on the way.
    private: bool,
    /// Names looked up.
    names: u64,
    /// The last of them is absent.
    pub(crate) absent: bool,
}

/// Search permission for owner, group and others.
const SEARCH_ALL: u16 = 0o111;

impl Proof {
    /// Of a walk that is about to begin in a filesystem.
    pub(crate) fn begin(sb: &Superblock) -> Proof {
        let mut evidence = Evidence::default();
        evidence.rest_on(&sb.versions, Subject::Turnover);
        Proof {
            evidence,
            private: false,
            names: 0,
            absent: false,
        }
    }

    /// It is about to search `dir`.
    pub(crate) fn search(&mut self, dir: &Node) {
        self.evidence
            .rest_on(&dir.sb().versions, Subject::Directory(dir.key()));
        let (mode, ..) = dir.inode().meta().permissions();
        self.private |= mode & SEARCH_ALL != SEARCH_ALL;
    }

    /// It is about to look `name` up in `dir`.
    pub(crate) fn look_up(&mut self, dir: &Node, name: &[u8]) {
        self.evidence
            .rest_on(&dir.sb().versions, Subject::Name(dir.id(), name));
        self.names += 1;
    }

    /// It has reached `node`, and gets its attributes.
    pub(crate) fn show(&mut self, node: &Node, stat: impl FnOnce() -> Res<Stat>) -> Res<Stat> {
        let versions = &node.sb().versions;
        self.evidence
            .rest_on(versions, Subject::Attributes(node.key()));
        let removals = versions.now(Subject::Removals);
        let stat = stat()?;
        if stat.attr.nlink > 1 && node.file_type() != FileType::Directory {
            self.evidence.add(removals);
        }
        Ok(stat)
    }
}

struct Answer {
    hash: u64,
    start: u64,
    path: Box<[u8]>,
    /// Whom it is for; `None`: everybody.
    only: Option<Credentials>,
    proof: Proof,
    outcome: Outcome,
}

impl<'q> Question<'q> {
    /// `None` for one whose answer is not remembered: the start lies on another filesystem than
    /// `root`, or is none to walk from.
    #[inline]
    pub(crate) fn new(at: At<'q>, fs_root: &Node) -> Option<Question<'q>> {
        let root = at.root.unwrap_or(fs_root);
        let ours = |node: &Node| Arc::ptr_eq(fs_root.sb(), node.sb());
        let absolute = at.path.first() == Some(&b'/');
        let start = if absolute { root } else { at.dir };
        let start = start.directory().map(|_| start.id())?;
        let fits = !at.path.is_empty() && at.path.len() <= PATH_KEPT;
        (fits && ours(at.dir) && ours(root)).then(|| Question {
            hash: hash_path(start, at.path),
            start,
            path: at.path,
        })
    }
}

impl Answers {
    /// If they are not `used` none is ever kept.
    pub(crate) fn new(used: bool) -> Answers {
        let slots = if used { SLOTS } else { 0 };
        Answers((0..slots).map(|_| Slot::default()).collect())
    }

    /// Whether any is ever kept.
    #[inline]
    pub(crate) fn is_used(&self) -> bool {
        !self.0.is_empty()
    }

    fn slot(&self, question: &Question<'_>) -> Option<&Slot> {
        self.0
            .get((question.hash >> (u64::BITS - SLOT_BITS)) as usize)
    }

    /// The answer, if it is remembered and still true. Counts it as the walk it stands for.
    #[inline]
    pub(crate) fn get(
        &self,
        question: &Question<'_>,
        creds: &Credentials,
        follow: Follow,
        sb: &Superblock,
    ) -> Option<Outcome> {
        let counters = &sb.counters;
        let answer = self.slot(question)?.answer.load();
        let answer = answer.as_ref()?;
        let fits = answer.hash == question.hash
            && answer.start == question.start
            && *answer.path == *question.path
            && answer.only.as_ref().is_none_or(|only| only == creds)
            && answer.stands(follow)
            && answer.proof.evidence.holds(&sb.versions);
        if !fits {
            return None;
        }
        let names = answer.proof.names;
        counters.answer_hits.one();
        counters.lookups.add(names);
        match answer.outcome {
            Outcome::Found(_) => counters.cache_hits.add(names),
            Outcome::Absent => {
                counters.cache_hits.add(names - 1);
                counters.negative_hits.one();
            }
        }
        Some(answer.outcome)
    }

    /// Whether a question without an answer was asked before: what is asked but once is not
    /// worth remembering.
    #[inline]
    pub(crate) fn is_asked_again(&self, question: &Question<'_>) -> bool {
        let Some(slot) = self.slot(question) else {
            return false;
        };
        let again = slot.asked.load(Ordering::Relaxed) == question.hash;
        if !again {
            slot.asked.store(question.hash, Ordering::Relaxed);
        }
        again
    }

    /// Remembers what a walk for `creds` found, in place of another answer perhaps.
    pub(crate) fn keep(
        &self,
        question: &Question<'_>,
        creds: &Credentials,
        proof: Proof,
        outcome: Outcome,
        sb: &Superblock,
    ) {
        let counters = &sb.counters;
        let Some(slot) = self.slot(question) else {
            return;
        };
        if proof.private && creds.groups.len() > GROUPS_KEPT {
            return;
        }
        let answer = Arc::new(Answer {
            hash: question.hash,
            start: question.start,
            path: question.path.into(),
            only: proof.private.then(|| creds.clone()),
            proof,
            outcome,
        });
        counters.answers.one();
        counters.answer_bytes.add(answer.bytes());
        forgotten(slot.answer.swap(Some(answer)), counters);
    }

    /// Forgets all answers.
    pub(crate) fn clear(&self, counters: &Counters) {
        for slot in &self.0 {
            forgotten(slot.answer.swap(None), counters);
        }
    }
}

fn forgotten(answer: Option<Arc<Answer>>, counters: &Counters) {
    if let Some(answer) = answer {
        counters.answers.sub(1);
        counters.answer_bytes.sub(answer.bytes());
    }
}

impl Answer {
    /// Whether it is the answer also if a link at the end is, or is not, to be followed.
    #[inline]
    fn stands(&self, follow: Follow) -> bool {
        match self.outcome {
            Outcome::Found(stat) => {
                follow == Follow::No || stat.attr.file_type != FileType::Symlink
            }
            Outcome::Absent => true,
        }
    }

    /// Memory it takes.
    fn bytes(&self) -> u64 {
        let groups = self.only.as_ref().map_or(0, |only| only.groups.capacity());
        let bytes = size_of::<Answer>()
            + self.path.len()
            + groups * size_of::<u32>()
            + self.proof.evidence.heap_bytes();
        bytes as u64
    }
}
