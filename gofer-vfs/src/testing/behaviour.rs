//! The shared behaviour suite: cases that run over any mounted [`Filesystem`] whose server works
//! on a directory that can also be reached past it.
//!
//! A runner lists [`cases`], makes for each an empty directory and a [`Fixture`] on it, asks
//! [`Case::applies`], and calls [`Case::run`], which returns what went wrong with its place in
//! the source. Cases do not rely on each other. A case must not panic, but a bug of what it tests
//! may: runners catch that.

#[macro_use]
mod check;
mod client;

mod attributes;
mod budget;
mod cached;
mod concurrency;
mod create;
mod data;
mod directories;
mod extents;
mod failure;
mod file_locks;
mod leaks;
mod links;
mod lookup;
mod mapping;
mod notify;
mod open;
mod permissions;
mod remove;
mod rename;
mod saving;
mod shared;
mod shared_handles;
mod special;
mod times;
mod xattrs;

use std::sync::{Arc, LazyLock};

use crate::clock::Clock;
use crate::interop::InteropMode;
use crate::options::{LockPlace, MountOptions};
use crate::permissions::Credentials;
use crate::remote::RemoteFilesystem;
use crate::testing::Outside;
use crate::{File, Filesystem, MountFlags, Node, Verify};

pub use check::{CaseResult, Failure};
pub use client::Client;
pub use leaks::Witness;

/// What a case needs to know of the server, beside its capabilities.
#[derive(Clone, Debug)]
pub struct ServerTraits {
    /// What it is called in messages.
    pub name: String,
    /// It runs as user 0: it may give files away and ignores permission bits.
    pub runs_as_root: bool,
    /// It makes fifos.
    pub makes_fifos: bool,
    /// It opens them, without waiting.
    pub opens_fifos: bool,
    /// It binds sockets.
    pub binds_sockets: bool,
    /// It makes further names of symbolic links.
    pub links_symlinks: bool,
}

/// How another mount of the same directory differs from the first.
#[derive(Clone, Default)]
pub struct Remount {
    /// Another cache mode.
    pub cache: Option<InteropMode>,
    /// Another limit for unused dentries.
    pub dentry_cache_limit: Option<u64>,
    /// Another limit for cached contents.
    pub page_cache_limit: Option<u64>,
    /// Another place for advisory locks.
    pub locks: Option<LockPlace>,
    /// Flags of the mount.
    pub flags: MountFlags,
    /// A clock other than the machine's, for [`Filesystem::mount_with_clock`].
    pub clock: Option<Arc<dyn Clock>>,
    /// An image to restore instead of mounting.
    pub revival: Option<Arc<Revival>>,
}

/// An image, and what came back with it.
#[derive(Default)]
pub struct Revival {
    /// What [`Filesystem::checkpoint`] wrote.
    pub image: Vec<u8>,
    /// What has to be the same.
    pub verify: Verify,
    /// Files and places, once it was restored.
    pub kept: parking_lot::Mutex<Kept>,
}

/// What an image kept, under its numbers.
pub type Kept = (Vec<(u64, File)>, Vec<(u64, Node)>);

impl Remount {
    /// Mounts `remote`, or restores an image over it.
    pub fn mount(
        &self,
        remote: Arc<dyn RemoteFilesystem>,
        mut options: MountOptions,
    ) -> Result<Filesystem, String> {
        self.apply(&mut options);
        let clock = self.clock.clone();
        let clock = clock.unwrap_or_else(|| Arc::new(crate::SystemClock));
        let Some(revival) = &self.revival else {
            return Filesystem::mount_with_clock(remote, options, self.flags, clock)
                .map_err(|error| error.to_string());
        };
        let root = Credentials::root();
        let cx = crate::Context::new(&root);
        let (image, verify) = (&revival.image, revival.verify);
        let restored = Filesystem::restore_with_clock(&cx, remote, options, image, verify, clock);
        let restored = restored.map_err(|error| error.to_string())?;
        *revival.kept.lock() = (restored.files, restored.nodes);
        Ok(restored.fs)
    }

    /// Makes the changes that are options.
    pub fn apply(&self, options: &mut MountOptions) {
        if let Some(cache) = self.cache {
            options.cache = cache;
        }
        if let Some(limit) = self.dentry_cache_limit {
            options.dentry_cache_limit = limit;
        }
        if let Some(limit) = self.page_cache_limit {
            options.page_cache_limit = limit;
        }
        if let Some(locks) = self.locks {
            options.locks = locks;
        }
    }
}

/// Mounts the directory of a fixture once more: another client with its own connection.
pub type Mounter = Arc<dyn Fn(&Remount) -> Result<Filesystem, String> + Send + Sync>;

/// What a case works on.
pub struct Fixture {
    /// Mounted on a directory that is empty when the case begins, with mode 0755.
    pub fs: Filesystem,
    /// The same directory past the client.
    pub outside: Arc<dyn Outside>,
    /// The cache mode of `fs`.
    pub mode: InteropMode,
    /// The server.
    pub server: ServerTraits,
    /// Makes further clients.
    pub mount: Mounter,
    /// Kills the servers of this case's mounts; `None` where the runner cannot.
    pub kill: Option<Arc<dyn Fn() + Send + Sync>>,
    /// The other mounts so far; none at first.
    pub others: parking_lot::Mutex<Vec<Witness>>,
}

impl Fixture {
    /// The mount, used by user 0.
    pub fn root(&self) -> Client {
        Client::new(&self.fs, Credentials::root())
    }

    /// The mount, used by user 1000 of group 1000.
    pub fn user(&self) -> Client {
        Client::new(&self.fs, Credentials::user(1000, 1000, Vec::new()))
    }

    /// The content of a file on the server, once all that was written through the mount is there.
    #[track_caller]
    pub fn served(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>, Failure> {
        let root = Credentials::root();
        self.fs
            .sync(&crate::Context::new(&root))
            .map_err(Failure::new)?;
        self.outside.read(path.as_ref()).map_err(Failure::from)
    }

    /// Another client of the same directory, used by user 0.
    #[track_caller]
    pub fn remount(&self, how: &Remount) -> Result<Client, Failure> {
        let fs = (self.mount)(how).map_err(|why| Failure::new(format!("another mount: {why}")))?;
        self.others.lock().push(Witness::of(&fs));
        Ok(Client::new(&fs, Credentials::root()))
    }

    /// Whether the first mount is one still, and its server there.
    fn is_alive(&self) -> bool {
        let creds = Credentials::root();
        let root = self.fs.root();
        let at = crate::At::new(&root, b"");
        !self.fs.sb().is_unmounted() && self.fs.statfs(&crate::Context::new(&creds), at).is_ok()
    }

    /// Ends all mounts, as far as that is up to who holds them.
    fn into_witnesses(self) -> Vec<Witness> {
        let mut all = vec![Witness::of(&self.fs)];
        all.append(&mut self.others.lock());
        all
    }

    /// Another client that is like the first.
    #[track_caller]
    pub fn second(&self) -> Result<Client, Failure> {
        self.remount(&Remount::default())
    }
}

/// One behaviour.
#[derive(Clone, Copy)]
pub struct Case {
    /// A sentence with underscores; unique.
    pub name: &'static str,
    /// Whether the case makes sense here; the error says why not.
    pub applies: fn(&Fixture) -> Result<(), &'static str>,
    /// Runs it.
    pub run: fn(&Fixture) -> CaseResult,
}

/// Every case, in a fixed order.
pub fn cases() -> &'static [Case] {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
        [
            lookup::CASES,
            links::CASES,
            create::CASES,
            open::CASES,
            data::CASES,
            extents::CASES,
            mapping::CASES,
            remove::CASES,
            rename::CASES,
            attributes::CASES,
            times::CASES,
            permissions::CASES,
            directories::CASES,
            xattrs::CASES,
            cached::CASES,
            budget::CASES,
            shared::CASES,
            shared_handles::CASES,
            concurrency::CASES,
            file_locks::CASES,
            notify::CASES,
            special::CASES,
            failure::CASES,
            saving::CASES,
        ]
        .concat()
    });
    &CASES
}

/// What cases need of a fixture.
mod needs {
    use super::Fixture;

    type Applies = Result<(), &'static str>;

    pub fn nothing(_: &Fixture) -> Applies {
        Ok(())
    }

    fn when(holds: bool, otherwise: &'static str) -> Applies {
        if holds { Ok(()) } else { Err(otherwise) }
    }

    /// Modes in which this client's copy is the truth.
    pub fn caching(fx: &Fixture) -> Applies {
        when(
            fx.mode.may_cache_metadata(),
            "the mode trusts no cached metadata",
        )
    }

    /// Modes in which others may change the tree.
    pub fn sharing(fx: &Fixture) -> Applies {
        when(
            fx.mode.must_revalidate(),
            "the mode expects no changes by others",
        )
    }

    pub fn sharing_as_root(fx: &Fixture) -> Applies {
        sharing(fx)?;
        root_server(fx)
    }

    pub fn handle_per_description(fx: &Fixture) -> Applies {
        when(
            fx.mode.handle_per_description(),
            "descriptions share handles in this mode",
        )
    }

    pub fn root_server(fx: &Fixture) -> Applies {
        when(fx.server.runs_as_root, "the server does not run as root")
    }

    /// A server that makes files with the owner asked for.
    pub fn owners(fx: &Fixture) -> Applies {
        root_server(fx)?;
        let can = fx.fs.capabilities().owner_on_create;
        when(can, "the protocol cannot name the owner of a new file")
    }

    pub fn fifos(fx: &Fixture) -> Applies {
        when(fx.server.makes_fifos, "the server makes no fifos")
    }

    /// Fifos of the server that it opens, or of this client.
    pub fn usable_fifos(fx: &Fixture) -> Applies {
        let usable = fx.server.opens_fifos || !fx.server.makes_fifos;
        when(usable, "the server does not open the fifos it makes")
    }

    /// Fifos of the server that it opens.
    pub fn server_fifos(fx: &Fixture) -> Applies {
        fifos(fx)?;
        usable_fifos(fx)
    }

    /// Sockets that the server binds.
    pub fn server_sockets(fx: &Fixture) -> Applies {
        let binds = fx.server.binds_sockets;
        when(binds, "the server binds no sockets")
    }

    pub fn no_fifos(fx: &Fixture) -> Applies {
        when(!fx.server.makes_fifos, "the server makes fifos itself")
    }

    pub fn links_to_symlinks(fx: &Fixture) -> Applies {
        when(
            fx.server.links_symlinks,
            "the server links no symbolic links",
        )
    }

    pub fn xattrs(fx: &Fixture) -> Applies {
        when(
            fx.fs.capabilities().xattrs,
            "the protocol has no extended attributes",
        )?;
        when(
            fx.outside.supports_xattrs(),
            "the host's file system has no user attributes",
        )
    }

    pub fn shared_xattrs(fx: &Fixture) -> Applies {
        xattrs(fx)?;
        sharing(fx)
    }

    pub fn empty_xattrs(fx: &Fixture) -> Applies {
        xattrs(fx)?;
        let plain = fx.fs.capabilities().protocol == "9P2000.L";
        when(!plain, "plain 9P takes an empty value for a removal")
    }

    pub fn allocate(fx: &Fixture) -> Applies {
        when(
            fx.fs.capabilities().allocate,
            "the protocol cannot allocate",
        )
    }

    pub fn noreplace(fx: &Fixture) -> Applies {
        let flag = crate::RenameFlags::NOREPLACE;
        let atomic = fx.fs.capabilities().rename_flags.contains(flag);
        let local = fx.mode.may_cache_metadata();
        when(
            atomic || local,
            "neither server nor mode can keep a rename from replacing",
        )
    }

    pub fn exchange(fx: &Fixture) -> Applies {
        let flag = crate::RenameFlags::EXCHANGE;
        when(
            fx.fs.capabilities().rename_flags.contains(flag),
            "the server cannot exchange",
        )
    }

    pub fn no_exchange(fx: &Fixture) -> Applies {
        when(exchange(fx).is_err(), "the server can exchange")
    }

    pub fn server_locks(fx: &Fixture) -> Applies {
        when(
            fx.fs.capabilities().locks,
            "the protocol has no advisory locks",
        )?;
        when(
            !matches!(fx.fs.options().trans, crate::Trans::Fd { .. }),
            "each mount over descriptors has a server process of its own",
        )
    }

    pub fn kill(fx: &Fixture) -> Applies {
        when(fx.kill.is_some(), "the runner cannot kill this server")
    }

    pub fn kill_caching(fx: &Fixture) -> Applies {
        kill(fx)?;
        caching(fx)
    }

    pub fn multi_walk(fx: &Fixture) -> Applies {
        when(
            fx.fs.capabilities().multi_walk,
            "the protocol walks one name at a time",
        )
    }

    pub fn multi_walk_caching(fx: &Fixture) -> Applies {
        multi_walk(fx)?;
        caching(fx)
    }
}

#[cfg(test)]
mod tests;
