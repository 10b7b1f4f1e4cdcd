//! Acting as a user: what the host checks and whom it makes the owner of new files.
//!
//! The credentials of one thread change, by the system calls themselves: a C library's functions
//! change those of all threads. The effective user id is changed, not just the one that counts for
//! files, because then the kernel takes every effective capability away, those that could be left
//! behind in a file among them; it gives them back with the id. The real ids stay, which is what
//! makes the way back always open.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::OnceLock;

use rustix::thread::{
    CapabilitySet, Gid, Uid, capabilities, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::{Errno, Result};

thread_local! {
    static ACTING: Cell<bool> = const { Cell::new(false) };
}

/// What the process is when it acts as nobody else.
#[derive(Debug)]
struct Own {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

fn own() -> Result<&'static Own> {
    static OWN: OnceLock<Result<Own>> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        Ok(Own {
            uid: rustix::process::geteuid(),
            gid: rustix::process::getegid(),
            groups: rustix::process::getgroups()?,
        })
    });
    own.as_ref().map_err(|&error| error)
}

/// Somebody whom requests are carried out as.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct User {
    /// `None`: as whom the server runs.
    ids: Option<Ids>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Ids {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl User {
    /// As whom the server runs: acting as it changes nothing.
    pub const SERVER: User = User { ids: None };

    /// The user `uid` in the group `gid` and in further `groups`; none of them is `u32::MAX`,
    /// which the kernel takes for "no change" (`EINVAL`).
    pub fn new(uid: u32, gid: u32, groups: &[u32]) -> Result<User> {
        if uid == u32::MAX || gid == u32::MAX || groups.contains(&u32::MAX) {
            return Err(Errno::INVAL);
        }
        let ids = Ids {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups: groups.iter().map(|&gid| Gid::from_raw(gid)).collect(),
        };
        Ok(User { ids: Some(ids) })
    }

    /// Lets the calling thread act as this user until the result is dropped. `EPERM` when this
    /// process may not.
    pub fn assume(&self) -> Result<Acting> {
        let mut acting = Acting {
            before: None,
            _of_this_thread: PhantomData,
        };
        let Some(ids) = &self.ids else {
            return Ok(acting);
        };
        debug_assert!(
            !ACTING.get(),
            "the inner one's end would be the outer one's"
        );
        let own = own()?;
        // Groups first: they need a capability that goes with the user id.
        set_thread_groups(&ids.groups)?;
        // From here on dropping it undoes what was done.
        acting.before = Some(own);
        ACTING.set(true);
        set_thread_res_gid(None, ids.gid, None)?;
        set_thread_res_uid(None, ids.uid, None)?;
        Ok(acting)
    }

    /// Whether this process can act as others and is then nothing more than they are: `EPERM` when
    /// not. Reads what the way back needs, so it must be called before a sandbox is applied.
    pub(super) fn check_others() -> Result<()> {
        own()?;
        let anybody = User::new(65_534, 65_534, &[])?;
        let _acting = anybody.assume()?;
        // So it is unless the process is not root, or has been told to keep them.
        let left = capabilities(None)?.effective;
        if left.intersects(CapabilitySet::all()) {
            return Err(Errno::PERM);
        }
        Ok(())
    }
}

/// The calling thread acts as a [`User`] while this lives. It must not start threads meanwhile,
/// which would stay what it is.
#[derive(Debug)]
pub struct Acting {
    before: Option<&'static Own>,
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for Acting {
    fn drop(&mut self) {
        let Some(own) = self.before else {
            return;
        };
        ACTING.set(false);
        let back = set_thread_res_uid(None, own.uid, None)
            .and_then(|()| set_thread_res_gid(None, own.gid, None))
            .and_then(|()| set_thread_groups(&own.groups));
        if back.is_err() {
            // The kernel always allows it. Should it not, the next request would run as somebody
            // else's.
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{getegid, geteuid, getgroups};

    fn ids() -> (u32, u32, Vec<u32>) {
        let groups = getgroups()
            .unwrap()
            .iter()
            .map(|gid| gid.as_raw())
            .collect();
        (geteuid().as_raw(), getegid().as_raw(), groups)
    }

    #[test]
    fn a_thread_is_somebody_else_for_a_while_and_others_are_not() {
        if !geteuid().is_root() {
            eprintln!("not run: needs root");
            return;
        }
        let before = ids();
        let had = capabilities(None).unwrap();
        User::check_others().unwrap();
        let user = User::new(1234, 5678, &[7, 8]).unwrap();
        {
            let _acting = user.assume().unwrap();
            assert_eq!(ids(), (1234, 5678, vec![7, 8]));
            assert!(capabilities(None).unwrap().effective.is_empty());
            assert_eq!(rustix::process::getuid().as_raw(), 0, "the way back");
        }
        assert_eq!(ids(), before);
        assert_eq!(capabilities(None).unwrap(), had);
        drop(User::SERVER.assume().unwrap());
        assert_eq!(ids(), before);
    }

    #[test]
    fn no_change_is_nobodys_id() {
        assert_eq!(User::new(u32::MAX, 0, &[]), Err(Errno::INVAL));
        assert_eq!(User::new(0, u32::MAX, &[]), Err(Errno::INVAL));
        assert_eq!(User::new(0, 0, &[u32::MAX]), Err(Errno::INVAL));
    }
}
