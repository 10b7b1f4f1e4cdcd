//! A host directory, served without leaving it. Knows no protocol.
//!
//! - [`Export`]: a root directory (or a single regular file) and what may be done below it.
//! - [`Node`]: a place in the tree, held by an `O_PATH|O_NOFOLLOW` descriptor. Everything that
//!   involves names or attributes starts from one. The locks are described in `node.rs`.
//! - [`OpenFile`]: a file opened for data or a directory opened for its entries.
//! - [`BoundSocket`]: a Unix socket that was bound to a name in the tree.
//! - [`User`]: somebody whom a thread can act as for a while; then the host's checks and the owner
//!   of what is made are that user's.
//!
//! # Confinement
//! No operation resolves a path. A lookup takes one checked [`Name`] relative to the descriptor of
//! its directory and never follows a symbolic link, so neither `..`, nor a link, nor somebody who
//! renames directories at the same time leads out of the root. Files are opened again through
//! their own descriptors (`/proc/self/fd/N`), never by name.
//!
//! # Errors
//! Errors are those of the host ([`Errno`]); `EROFS` is this layer's answer to every change of a
//! read-only export, `EPERM` its answer to what [`Policy`] forbids, `ENFILE` to a server that
//! holds as many descriptors as it may.

mod attr;
mod children;
mod create;
mod credentials;
mod donate;
mod mounts;
mod names;
mod node;
mod open;
mod readonly;
mod socket;
mod sys;
#[cfg(test)]
mod tests;
mod users;

use std::path::Path;
use std::sync::Arc;

use gofer_transport::DetachedMount;

pub use attr::{Edit, SetTime};
pub use create::Created;
pub use credentials::{Acting, User};
pub use mounts::MountPoints;
pub use node::{Found, HeldNames, Identity, Node};
pub use open::{DirEntry, Listed, OpenFile, ReadNow, record_size};
pub use rustix::fs::{FileType, OFlags, StatFs};
pub use rustix::io::Errno;
pub use socket::{Bound, BoundSocket};
pub use sys::{limit_descriptors, raise_descriptor_limit};
pub use users::{UserDatabase, Users};

use users::Identities;

/// What `statx(2)` tells, as the kernel lays it out.
pub type Stat = rustix::fs::Statx;

/// What the host layer returns.
pub type Result<T> = std::result::Result<T, Errno>;

/// What may be done with Unix sockets on the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sockets {
    /// Nothing: connecting and binding are `EPERM`.
    #[default]
    None,
    /// Connecting to existing ones.
    Open,
    /// Creating new ones.
    Create,
    /// Both.
    All,
}

/// What may be done with FIFOs on the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fifos {
    /// Nothing: opening is `EPERM`.
    #[default]
    None,
    /// Opening existing ones.
    Open,
}

/// What clients of an export may do. The default is a writable export without sockets and FIFOs
/// that does not give descriptors away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// Every change is `EROFS`.
    pub readonly: bool,
    /// Unix sockets.
    pub sockets: Sockets,
    /// FIFOs.
    pub fifos: Fifos,
    /// Files of every type, also by protocols whose stock servers show no block devices and make
    /// no FIFOs, sockets and devices.
    pub all_types: bool,
    /// Whether clients get host descriptors of the files they open.
    pub donate: bool,
    /// As whom requests are carried out, by protocols that can say who asks.
    pub users: Users,
}

impl Policy {
    /// Whether clients may connect to sockets.
    pub fn allows_connect(&self) -> bool {
        matches!(self.sockets, Sockets::Open | Sockets::All)
    }

    /// Whether clients may create sockets.
    pub fn allows_bind(&self) -> bool {
        matches!(self.sockets, Sockets::Create | Sockets::All)
    }

    /// `EROFS` on a read-only export.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.readonly {
            Err(Errno::ROFS)
        } else {
            Ok(())
        }
    }
}

/// One path component that cannot lead anywhere but to an entry of its directory: not empty, not
/// `.` or `..`, without `/` and zero bytes. The host limits its length (`ENAMETOOLONG`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Checks `bytes`; anything unsafe is `EINVAL`.
    pub fn new(bytes: &'a [u8]) -> Result<Name<'a>> {
        let unsafe_name = matches!(bytes, b"" | b"." | b"..")
            || bytes.iter().any(|&byte| byte == b'/' || byte == 0);
        if unsafe_name {
            Err(Errno::INVAL)
        } else {
            Ok(Name(bytes))
        }
    }

    /// The bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Owner and group of a new file; `None` leaves what the host chose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Owner {
    /// User.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// A root and what may be done below it, shared by all its connections.
#[derive(Debug)]
pub struct Export {
    root: Arc<Node>,
    /// What descriptors of the root are opened in, where clients are given them.
    copy: Option<DetachedMount>,
    identities: Arc<Identities>,
}

impl Export {
    /// Opens `root`, a directory or a regular file; anything else is `EINVAL`. Links in `root`
    /// itself are followed: it is the operator's path, not a client's. `EPERM` when this process
    /// cannot act as the users of `policy`.
    ///
    /// With [`Users::Attach`] reads who the host's users are.
    pub fn open(root: &Path, policy: Policy) -> Result<Arc<Export>> {
        let database = match policy.users {
            Users::Attach => UserDatabase::of_host().map_err(|error| users::errno(&error))?,
            Users::Server | Users::Squash { .. } => UserDatabase::default(),
        };
        Export::open_for(root, policy, database)
    }

    /// As [`Export::open`], for the users of `database`.
    pub fn open_for(root: &Path, policy: Policy, database: UserDatabase) -> Result<Arc<Export>> {
        let identities = Identities::new(policy.users, database)?;
        Ok(Arc::new(Export {
            root: Node::root(root, policy)?,
            copy: None,
            identities: Arc::new(identities),
        }))
    }

    /// The root.
    pub fn root(&self) -> &Arc<Node> {
        &self.root
    }

    /// What clients may do.
    pub fn policy(&self) -> &Policy {
        self.root.policy()
    }

    /// As whom the requests of somebody are carried out who names itself by `number`, or, without
    /// one, by `name`. `EINVAL` for a number that nobody has.
    pub fn user(&self, number: Option<u32>, name: &[u8]) -> Result<User> {
        self.identities.user(number, name)
    }

    /// Whether requests are carried out as others than the server.
    pub fn acts_for_others(&self) -> bool {
        self.identities.are_others()
    }
}
