//! Asking the server for names that are not cached, and putting the answer into the tree.

use crate::context::Context;
use crate::dentry::{Child, Node};
use crate::error::Errno;
use crate::freshness::Moment;
use crate::inode::Origin;
use crate::name::Name;
use crate::remote::{Found, WalkEnd};
use crate::superblock::Res;

/// How often a lookup is repeated because changes through this client overtook it.
const ATTEMPTS_MAX: usize = 16;

/// What a lookup brought into the tree.
pub(crate) struct Fetched {
    /// The file of the first name.
    pub(crate) first: Node,
    /// The file of the last name found; references all before it.
    pub(crate) deepest: Node,
    /// How many names were found.
    pub(crate) count: usize,
    /// The name after them was missing just now.
    pub(crate) then_missing: bool,
    /// Round trips it took.
    pub(crate) calls: u64,
}

/// Looks `names` up, the first in `dir` and each other in the one before. `None`: the first does
/// not exist. One round trip; only the first name is sure to be answered for.
pub(crate) fn fetch(cx: &Context<'_>, dir: &Node, names: &[Name<'_>]) -> Res<Option<Fetched>> {
    let Some(directory) = dir.directory() else {
        return Err(Errno::ENOTDIR.into());
    };
    let _names = directory.names.read();
    fetch_locked(cx, dir, names)
}

/// As [`fetch`], for callers that hold the directory's `NAMES`.
pub(crate) fn fetch_locked(
    cx: &Context<'_>,
    dir: &Node,
    names: &[Name<'_>],
) -> Res<Option<Fetched>> {
    let sb = dir.sb();
    let Some(first) = names.first() else {
        return Err(Errno::ENOENT.into());
    };
    if dir.is_deleted() {
        return Ok(None);
    }
    // Somebody else may have asked while we waited for the lock.
    if sb.mode.may_cache_metadata() {
        match dir.child(first.as_bytes()) {
            Child::Present(node) => return Ok(Some(Fetched::cached(node))),
            Child::Absent => return Ok(None),
            Child::Unknown => {}
        }
    }
    let mut names = names;
    for calls in 1..=ATTEMPTS_MAX {
        let asked = Asked {
            then: sb.inodes.now(),
            ticket: sb.ticket(),
            removals: sb.unknown_removals(),
            moment: sb.freshness.now(),
        };
        let mut found = Vec::with_capacity(names.len());
        let end = dir
            .remote()
            .walk(&cx.call(), names, &mut |file| found.push(file));
        tracing::trace!(asked = names.len(), found = found.len(), "walk");
        if found.len() > names.len() {
            return Err(Errno::EIO.into());
        }
        let end = match end {
            // What was found before the error counts; the next lookup meets the error again.
            Err(_) if !found.is_empty() => WalkEnd::CallAgain,
            Err(error) if error.errno == Errno::ENOENT => WalkEnd::Missing,
            // Some servers refuse all of a walk for what is in its way. Whether the caller gets
            // that far has not been asked yet.
            Err(error) if names.len() > 1 && is_of_a_name(error.errno) => {
                names = names.get(..1).unwrap_or(names);
                continue;
            }
            Err(error) => return Err(error.into()),
            Ok(end) => end,
        };
        if found.is_empty() {
            if end != WalkEnd::Missing {
                return Err(Errno::EIO.into());
            }
            dir.mark_absent(first.as_bytes());
            return Ok(None);
        }
        let missing = end == WalkEnd::Missing && found.len() < names.len();
        let complete = found.len();
        if let Some(mut fetched) = publish_chain(dir, names, found, asked)? {
            fetched.then_missing = missing && fetched.count == complete;
            fetched.calls = calls as u64;
            return Ok(Some(fetched));
        }
        // Changes overtook the answer. The next question is small enough to be answered.
        names = names.get(..1).unwrap_or(names);
    }
    Err(Errno::EIO.into())
}

/// Whether a walk ended so because of one of its names.
fn is_of_a_name(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOTDIR | Errno::EACCES | Errno::ELOOP | Errno::ENAMETOOLONG
    )
}

/// When a request was sent.
#[derive(Clone, Copy)]
struct Asked {
    /// See [`crate::inode::InodeTable`].
    then: u64,
    /// See [`crate::metadata`].
    ticket: u64,
    /// See [`Superblock::unknown_removals`](crate::superblock::Superblock::unknown_removals).
    removals: u64,
    moment: Moment,
}

impl Fetched {
    fn cached(node: Node) -> Fetched {
        Fetched {
            deepest: node.clone(),
            first: node,
            count: 1,
            then_missing: false,
            calls: 0,
        }
    }
}

/// Puts a chain of files into the tree. It is built out of sight and then appears at once, so
/// that nobody can change names in its directories before (which would make it a lie). If
/// somebody else put the first name there meanwhile, theirs stays. `None`: the answer is
/// outdated.
fn publish_chain(
    dir: &Node,
    names: &[Name<'_>],
    found: Vec<Found>,
    Asked {
        then,
        ticket,
        removals,
        moment,
    }: Asked,
) -> Res<Option<Fetched>> {
    let sb = dir.sb();
    let mut chain: Vec<Node> = Vec::with_capacity(found.len());
    for (name, file) in names.iter().zip(&found) {
        let parent = chain.last().unwrap_or(dir);
        let origin = Origin::Found {
            then,
            ticket,
            removals,
        };
        let inode = match sb.inodes.adopt(sb, file.key, file.attr, origin) {
            Ok(Some(inode)) if parent.inode().is_dir() => inode,
            Ok(None) if chain.is_empty() => return Ok(None),
            Err(errno) if chain.is_empty() => return Err(errno.into()),
            // Whatever is wrong with a deeper one is met again when its turn comes.
            _ => break,
        };
        let node = Node::new(Some(parent), name.as_bytes(), inode, file.file.clone());
        node.set_checked(moment);
        if !chain.is_empty() && parent.publish(name.as_bytes(), &node, |_| true).is_err() {
            break;
        }
        chain.push(node);
    }
    let (Some(name), Some(first), Some(answer)) = (names.first(), chain.first(), found.first())
    else {
        return Err(Errno::EIO.into());
    };
    let first = first.clone();
    let mut same = false;
    let published = dir.publish(name.as_bytes(), &first, |there| {
        same = there
            .is_some_and(|there| there.key == first.key() && there.file_type == first.file_type());
        !same && !names_are_outdated(&chain, then)
    });
    match published {
        Ok(replaced) => {
            if let Some(replaced) = replaced {
                sb.counters.invalidated.one();
                replaced.invalidate_below();
            }
            Ok(chain.last().cloned().map(|deepest| Fetched {
                deepest,
                count: chain.len(),
                first,
                then_missing: false,
                calls: 1,
            }))
        }
        Err(there) => {
            chain.clear();
            let attr = answer.attr;
            first.discard();
            match there {
                Some(there) if same => {
                    if sb.mode.must_revalidate() {
                        there.inode().merge(ticket, attr)?;
                        there.set_checked(moment);
                    }
                    Ok(Some(Fetched::cached(there)))
                }
                _ => Ok(None),
            }
        }
    }
}

/// Whether names in a directory of the chain were changed, and the change forgotten, since.
fn names_are_outdated(chain: &[Node], then: u64) -> bool {
    chain.iter().any(|node| {
        let sb = node.sb();
        node.inode().is_dir()
            && sb.mode.may_cache_metadata()
            && sb.inodes.changed_since(node.key(), then)
    })
}
