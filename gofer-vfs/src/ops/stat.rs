//! Looking without changing: stat, access, readlink, lookup by node.

use crate::answers::{Outcome, Question};
use crate::attr::FileType;
use crate::context::{At, Context, Follow};
use crate::dentry::Node;
use crate::error::{Errno, Result};
use crate::filesystem::{Filesystem, Stat};
use crate::handle::Handle;
use crate::name::Name;
use crate::permissions::{AccessMask, check_access, readonly_forbids};
use crate::resolve::{Form, Walk, read_target};
use crate::superblock::Res;

impl Filesystem {
    /// The attributes of a file: in exclusive modes as they are known, which asks nobody; in
    /// shared modes as the walk has just brought them.
    pub fn stat(&self, cx: &Context<'_>, at: At<'_>, follow: Follow) -> Result<Stat> {
        self.run("stat", at.path, || {
            let (stat, _) = self.look_at(cx, at, follow)?;
            Ok(stat)
        })
    }

    /// Whether the caller may use a file as `want` says (`EACCES`, and `EROFS` for writing on a
    /// read-only mount, but for fifos, sockets and devices); nothing wanted asks whether it exists.
    /// Links at the end are followed.
    pub fn access(&self, cx: &Context<'_>, at: At<'_>, want: AccessMask) -> Result<()> {
        self.run("access", at.path, || {
            let (Stat { attr, .. }, node) = self.look_at(cx, at, Follow::Yes)?;
            if want.contains(AccessMask::WRITE) && readonly_forbids(attr.file_type) {
                node.as_ref().map_or(self.sb(), Node::sb).check_writable()?;
            }
            check_access(cx.creds, &attr, want)?;
            Ok(())
        })
    }

    /// The attributes of the file that `at` leads to; and the file, unless it is one of this
    /// filesystem for whose path there is an [answer](crate::answers).
    fn look_at(&self, cx: &Context<'_>, at: At<'_>, follow: Follow) -> Res<(Stat, Option<Node>)> {
        let sb = self.sb();
        let question = Question::new(at, self.root_ref());
        let Some(question) = question.filter(|_| sb.answers.is_used()) else {
            let node = self.walk_to_end(cx, at, follow)?;
            // In shared mode the walk has just brought them.
            return Ok((known_stat(cx, &node)?, Some(node)));
        };
        sb.options.access.check(cx.creds.uid)?;
        match sb.answers.get(&question, cx.creds, follow, sb) {
            Some(Outcome::Found(stat)) => return Ok((stat, None)),
            Some(Outcome::Absent) => return Err(Errno::ENOENT.into()),
            None => {}
        }
        let mut walk = Walk::new(cx, at, self.root_ref(), Form::Full(follow))?;
        if sb.answers.is_asked_again(&question) {
            walk.gather();
        }
        let reached = walk.reach_end();
        let proof = walk.take_proof();
        match (reached, proof) {
            (Ok(()), Some(mut proof)) => {
                let node = walk.into_end();
                let stat = proof.show(&node, || known_stat(cx, &node))?;
                let outcome = Outcome::Found(stat);
                sb.answers.keep(&question, cx.creds, proof, outcome, sb);
                Ok((stat, Some(node)))
            }
            (Ok(()), None) => {
                let node = walk.into_end();
                Ok((known_stat(cx, &node)?, Some(node)))
            }
            (Err(failure), Some(proof)) if proof.absent => {
                let outcome = Outcome::Absent;
                sb.answers.keep(&question, cx.creds, proof, outcome, sb);
                Err(failure)
            }
            (Err(failure), _) => Err(failure),
        }
    }

    /// The target of a symbolic link, of up to 4095 bytes; `EINVAL` for anything else. In exclusive
    /// modes it is asked for once.
    pub fn read_link(&self, cx: &Context<'_>, at: At<'_>) -> Result<Vec<u8>> {
        self.run("readlink", at.path, || {
            let node = self.walk_to_end(cx, at, Follow::No)?;
            if node.file_type() != FileType::Symlink {
                return Err(Errno::EINVAL.into());
            }
            Ok(read_target(cx, &node)?.0.to_vec())
        })
    }

    /// The file of one name in a directory; a link stands for itself.
    pub fn lookup(&self, cx: &Context<'_>, dir: &Node, name: Name<'_>) -> Result<Node> {
        self.resolve(cx, At::new(dir, name.as_bytes()), Follow::No)
    }

    /// [`Filesystem::stat`] by node.
    pub fn stat_node(&self, cx: &Context<'_>, node: &Node) -> Result<Stat> {
        self.run("stat", b"", || fresh_stat(cx, node, None))
    }

    /// The attributes of a node as the operation that has just found or made it left them:
    /// unlike [`Filesystem::stat_node`] it asks the server only where they are in doubt.
    pub fn known_stat_node(&self, cx: &Context<'_>, node: &Node) -> Result<Stat> {
        self.run("stat", b"", || known_stat(cx, node))
    }

    /// [`Filesystem::access`] by node.
    pub fn access_node(&self, cx: &Context<'_>, node: &Node, want: AccessMask) -> Result<()> {
        self.access(cx, At::new(node, b""), want)
    }

    /// [`Filesystem::read_link`] by node.
    pub fn read_link_node(&self, cx: &Context<'_>, node: &Node) -> Result<Vec<u8>> {
        self.run("readlink", b"", || Ok(read_target(cx, node)?.0.to_vec()))
    }
}

/// The attributes as they are known, unless they are in doubt.
fn known_stat(cx: &Context<'_>, node: &Node) -> Res<Stat> {
    let inode = node.inode();
    let (attr, doubtful) = {
        let meta = inode.meta();
        let known = u64::from(!node.is_deleted());
        let links_in_doubt = meta.links_in_doubt(inode.sb.unknown_removals(), known);
        (meta.attr(), meta.is_doubtful() || links_in_doubt)
    };
    if doubtful {
        inode.refresh(cx, &*node.remote(), None)?;
        return Ok(shown(node));
    }
    Ok(Stat {
        ino: inode.ino,
        attr,
    })
}

/// The attributes; in shared mode the server's, through `own` (a description's own handle) or
/// any open handle (semantics 13.2).
pub(crate) fn fresh_stat(cx: &Context<'_>, node: &Node, own: Option<&Handle>) -> Res<Stat> {
    if node.sb().mode.must_revalidate() && !node.is_fresh() {
        node.inode().refresh(cx, &*node.remote(), own)?;
        return Ok(shown(node));
    }
    known_stat(cx, node)
}

fn shown(node: &Node) -> Stat {
    Stat {
        ino: node.ino(),
        attr: node.inode().attr(),
    }
}
