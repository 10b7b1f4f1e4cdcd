//! Looking for what others changed, for those who watch and do nothing else: no server tells.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{EventMask, Notifier};
use crate::attr::FileType;
use crate::context::Context;
use crate::dentry::{Child, Node};
use crate::directory::Stream;
use crate::error::Result;
use crate::filesystem::run;
use crate::flags::Access;
use crate::revalidate::{Known, revalidate};
use crate::stats::Counter;
use crate::superblock::Res;

/// Names of a directory that are compared with those of the last look.
const NAMES_MAX: usize = 65536;

/// Names that are kept for the next look, of all directories. One that would bring more is looked
/// at as if for the first time, each time.
pub(crate) const KEPT_MAX: u64 = 1 << 18;

/// Names and whether they are directories.
pub(super) type Names = HashMap<Vec<u8>, bool>;

/// The names in a directory, as they were last looked at and told since. They count towards
/// [`KEPT_MAX`] while this exists.
pub(super) struct Kept {
    names: Names,
    count: Arc<Counter>,
}

impl Kept {
    /// `None` if that would be too many: `count` are kept already.
    pub(super) fn new(names: Names, count: &Arc<Counter>) -> Option<Kept> {
        let more = names.len() as u64;
        (count.get() + more <= KEPT_MAX).then(|| {
            count.add(more);
            Kept {
                names,
                count: count.clone(),
            }
        })
    }

    /// A name came; false if it is one too many.
    pub(super) fn add(&mut self, name: &[u8], directory: bool) -> bool {
        if self.names.insert(name.to_vec(), directory).is_none() {
            self.count.one();
        }
        self.count.get() <= KEPT_MAX
    }

    /// A name went.
    pub(super) fn remove(&mut self, name: &[u8]) {
        if self.names.remove(name).is_some() {
            self.count.sub(1);
        }
    }

    pub(super) fn into_names(mut self) -> Names {
        self.count.sub(self.names.len() as u64);
        std::mem::take(&mut self.names)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.count.sub(self.names.len() as u64);
    }
}

impl Notifier {
    /// Checks every watched file with the server, and in every watched directory the names and
    /// the files that are cached: what others changed since the last look is then told. In modes
    /// in which others change nothing it does nothing.
    ///
    /// One round trip for each file, and a listing for each directory, of up to 65,536 names.
    /// Names that were there at the first look, or that came through this client, are not told;
    /// nor are those of a directory with which there would be more than 262,144 names to compare.
    pub fn look(&self, cx: &Context<'_>) -> Result<()> {
        if !self.sb().mode.must_revalidate() {
            return Ok(());
        }
        run("inotify", b"", || {
            for (_, _, node) in self.sb().watches.of_queue(&self.queue) {
                if let Some(node) = node.filter(|node| !node.is_deleted()) {
                    self.look_at(cx, &node)?;
                }
            }
            Ok(())
        })
    }

    fn look_at(&self, cx: &Context<'_>, node: &Node) -> Res<()> {
        let known = match node.parent().zip(node.place()) {
            Some((parent, (_, name))) => check(cx, &parent, &name, node)?,
            None => {
                revalidate(cx, node, &[])?;
                true
            }
        };
        if !known || !node.inode().is_dir() {
            return Ok(());
        }
        let sb = self.sb();
        let file = node.remote();
        let handles = &node.inode().open().handles;
        handles.acquire(sb, cx, &*file, Access::Read, false)?;
        let mut names = Names::new();
        Stream::default().read(cx, node, &mut |entry| {
            if !matches!(entry.name, b"." | b"..") {
                let directory = entry.file_type == Some(FileType::Directory);
                names.insert(entry.name.to_vec(), directory);
            }
            match names.len() > NAMES_MAX {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        if names.len() > NAMES_MAX {
            return Ok(());
        }
        for name in names.keys() {
            if let Child::Present(child) = node.child(name) {
                check(cx, node, name, &child)?;
            }
        }
        let before = sb.watches.exchange_names(node.inode(), names.clone());
        let Some(before) = before else {
            return Ok(());
        };
        for (name, directory) in &before {
            if !names.contains_key(name) {
                node.notify_name(EventMask::DELETE, name, *directory);
            }
        }
        for (name, directory) in &names {
            if !before.contains_key(name) {
                node.notify_name(EventMask::CREATE, name, *directory);
            }
        }
        Ok(())
    }
}

/// Checks one name; whether it still has its file.
fn check(cx: &Context<'_>, dir: &Node, name: &[u8], node: &Node) -> Res<bool> {
    let known = Known {
        name,
        node: node.clone(),
    };
    Ok(revalidate(cx, dir, &[known])?.count == 1)
}
