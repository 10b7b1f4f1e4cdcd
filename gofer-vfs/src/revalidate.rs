//! Shared mode: checking cached names with the server before they are used (semantics 6).

use crate::attr::{Attr, FileType};
use crate::context::Context;
use crate::dentry::Node;
use crate::error::Errno;
use crate::metadata::Merge;
use crate::name::Name;
use crate::notify::EventMask;
use crate::remote::Seen;
use crate::superblock::{Failure, Res};

/// How often a batch is sent again because a local change overtook the answer.
const ATTEMPTS_MAX: usize = 16;

/// A cached name that is to be checked.
pub(crate) struct Known<'t> {
    pub(crate) name: &'t [u8],
    pub(crate) node: Node,
}

/// What a check found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Checked {
    /// How many names, from the first, still have the file that is cached.
    pub(crate) count: usize,
    /// The name after them does not exist any more.
    pub(crate) then_missing: bool,
    /// Round trips it took.
    pub(crate) calls: u64,
}

/// Checks `chain`, whose first name lies in `start` and each other in the one before, and takes
/// on the server's attributes. The first name that has gone, or has another file, is cut off
/// with everything below it. One round trip.
///
/// The attributes of `start` are refreshed too; it is never cut off.
pub(crate) fn revalidate(cx: &Context<'_>, start: &Node, chain: &[Known<'_>]) -> Res<Checked> {
    if start.is_synthetic() {
        // So is all that is in it, and nobody else changes that.
        return Ok(Checked {
            count: chain.len(),
            ..Checked::default()
        });
    }
    let mut chain = chain;
    let mut calls = 0;
    for _ in 0..ATTEMPTS_MAX {
        calls += 1;
        match check(cx, start, chain) {
            Ok(Some(checked)) => return Ok(Checked { calls, ..checked }),
            Ok(None) => {}
            Err(failure) if tree_changed(failure) && !chain.is_empty() => {
                if chain.len() > 1 {
                    chain = chain.get(..1).unwrap_or(chain);
                } else {
                    // The lookup that follows tells what is there now.
                    if let Some(first) = chain.first() {
                        cut_off(start, first);
                    }
                    return Ok(Checked {
                        calls,
                        ..Checked::default()
                    });
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(Checked {
        count: chain.len(),
        then_missing: false,
        calls,
    })
}

/// Errors of a batch that mean that the cached chain is not there any more (semantics 6.9). The
/// error the user sees has to come from the path the user gave.
fn tree_changed(failure: Failure) -> bool {
    matches!(
        failure.errno(),
        Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES | Errno::ENOENT | Errno::ESTALE
    )
}

/// One round trip. `None`: a local change overtook the answer.
fn check(cx: &Context<'_>, start: &Node, chain: &[Known<'_>]) -> Res<Option<Checked>> {
    let sb = start.sb();
    sb.counters.revalidations.one();
    let synthetic = chain.iter().position(|known| known.node.is_synthetic());
    let chain = match synthetic {
        Some(0) => return check_synthetic(cx, start, chain).map(Some),
        // Its turn comes when the walk is there.
        Some(at) => chain.get(..at).unwrap_or(chain),
        None => chain,
    };
    let mut names = Vec::with_capacity(chain.len());
    for known in chain {
        names.push((Name::new(known.name)?, known.node.named_remote()));
    }
    let (ticket, moment) = (sb.ticket(), sb.freshness.now());
    let mut seen: Vec<Seen> = Vec::with_capacity(chain.len() + 1);
    start
        .remote()
        .revalidate(&cx.call(), &names, &mut |file| seen.push(file))?;
    tracing::trace!(asked = chain.len(), seen = seen.len(), "revalidate");
    let mut seen = seen.into_iter();
    let mut outdated = false;
    if let Some(own) = seen.next()
        && own.key == start.key()
        && own.attr.file_type == start.file_type()
    {
        outdated |= take_on(start, ticket, own.attr)? == Merge::Outdated;
        start.set_checked(moment);
    }
    let mut checked = Checked::default();
    let mut parent = start;
    for known in chain {
        let file = seen.next();
        let same = file.filter(|file| {
            file.key == known.node.key() && file.attr.file_type == known.node.file_type()
        });
        let Some(same) = same else {
            cut_off(parent, known);
            if file.is_some() {
                let directory = file.is_some_and(|file| file.attr.file_type == FileType::Directory);
                parent.notify_name(EventMask::CREATE, known.name, directory);
            }
            checked.then_missing = file.is_none();
            break;
        };
        outdated |= take_on(&known.node, ticket, same.attr)? == Merge::Outdated;
        known.node.set_checked(moment);
        checked.count += 1;
        parent = &known.node;
    }
    Ok((!outdated).then_some(checked))
}

/// A file of this client alone gives way to one of the server's that has its name (semantics 6.5).
fn check_synthetic(cx: &Context<'_>, dir: &Node, chain: &[Known<'_>]) -> Res<Checked> {
    let Some(known) = chain.first() else {
        return Ok(Checked::default());
    };
    let mut there = None;
    let name = Name::new(known.name)?;
    let walked = dir
        .remote()
        .walk(&cx.call(), &[name], &mut |found| there = Some(found));
    match (walked, there) {
        (_, Some(found)) => {
            cut_off(dir, known);
            let directory = found.attr.file_type == FileType::Directory;
            dir.notify_name(EventMask::CREATE, known.name, directory);
            Ok(Checked::default())
        }
        (Ok(_), None) => Ok(Checked {
            count: chain.len(),
            ..Checked::default()
        }),
        (Err(error), None) if error.errno == Errno::ENOENT => Ok(Checked {
            count: chain.len(),
            ..Checked::default()
        }),
        (Err(error), None) => Err(error.into()),
    }
}

/// Takes the server's attributes on, and tells those who watch the file what others changed.
fn take_on(node: &Node, ticket: u64, attr: Attr) -> Res<Merge> {
    let inode = node.inode();
    if node.sb().watches.is_idle() {
        return Ok(inode.merge(ticket, attr)?);
    }
    let (before, as_told) = {
        let meta = inode.meta();
        (meta.attr(), meta.is_as_told())
    };
    let merged = inode.merge(ticket, attr)?;
    if as_told && merged == Merge::Current {
        let after = inode.attr();
        // Those of a directory change with what is in it.
        let links = |attr: &Attr| if inode.is_dir() { 0 } else { attr.nlink };
        let key = |attr: &Attr| (attr.mode, attr.uid, attr.gid, links(attr));
        if (before.size, before.mtime) != (after.size, after.mtime) && !inode.is_dir() {
            node.notify(EventMask::MODIFY);
        }
        if key(&before) != key(&after) {
            node.notify(EventMask::ATTRIB);
        }
    }
    Ok(merged)
}

/// The name has another file now, or none.
fn cut_off(parent: &Node, known: &Known<'_>) {
    if parent.detach(known.name, &known.node, false) {
        tracing::trace!(ino = known.node.ino(), "cut off");
        parent.sb().counters.invalidated.one();
        parent.notify_name(EventMask::DELETE, known.name, known.node.inode().is_dir());
        if known.node.is_synthetic() {
            known.node.give_way();
        }
        known.node.invalidate_below();
    }
}
