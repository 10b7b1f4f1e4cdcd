//! The names through which an inode is reached. Nearly every file has one.

use std::sync::{Arc, Weak};

use crate::dentry::Dentry;
use crate::remote::RemoteFile;

/// The cached names of a file that are still there, and what else few files have.
#[derive(Default)]
pub(crate) struct Names {
    first: Weak<Dentry>,
    rare: Option<Box<Rare>>,
}

#[derive(Default)]
struct Rare {
    /// The names besides the first.
    others: Vec<Weak<Dentry>>,
    /// The target of a symbolic link, once it was read.
    link_target: Option<Arc<[u8]>>,
}

impl Names {
    /// Adds a name.
    pub(crate) fn add(&mut self, dentry: &Arc<Dentry>) {
        let dentry = Arc::downgrade(dentry);
        if is_none(&self.first) {
            self.first = dentry;
        } else {
            self.rare.get_or_insert_default().others.push(dentry);
        }
    }

    /// Takes a name out that is gone; nothing if it is not here.
    pub(crate) fn remove(&mut self, dentry: &Dentry) {
        let is = |one: &Weak<Dentry>| std::ptr::eq(one.as_ptr(), dentry);
        let others = self.rare.as_mut().map(|rare| &mut rare.others);
        if is(&self.first) {
            self.first = others.and_then(Vec::pop).unwrap_or_default();
        } else if let Some(others) = others {
            others.retain(|one| !is(one));
        }
    }

    /// The remote file of a name that is still there. The dentries looked at are added to
    /// `touched`, to be dropped without a lock.
    pub(crate) fn live_remote(
        &self,
        touched: &mut Vec<Arc<Dentry>>,
    ) -> Option<Arc<dyn RemoteFile>> {
        let others = self.rare.iter().flat_map(|rare| &rare.others);
        for name in std::iter::once(&self.first).chain(others) {
            if let Some(dentry) = name.upgrade() {
                let remote = dentry.remote().clone();
                touched.push(dentry);
                return Some(remote);
            }
        }
        None
    }

    pub(crate) fn link_target(&self) -> Option<Arc<[u8]>> {
        self.rare.as_ref()?.link_target.clone()
    }

    pub(crate) fn set_link_target(&mut self, target: Arc<[u8]>) {
        self.rare.get_or_insert_default().link_target = Some(target);
    }
}

/// Whether this is no dentry, rather than one that is gone.
fn is_none(dentry: &Weak<Dentry>) -> bool {
    dentry.ptr_eq(&Weak::new())
}
