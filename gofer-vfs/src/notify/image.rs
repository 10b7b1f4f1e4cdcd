//! What of a notifier outlives a mount: its watches by path, and the events that wait.

use super::{Event, EventMask, Notifier};
use crate::context::{At, Context, Follow};
use crate::error::Result;
use crate::filesystem::{Filesystem, run};

/// A watch, for an image.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct WatchImage {
    /// Its number.
    pub watch: i32,
    /// What it is for.
    pub mask: EventMask,
    /// From the root of the filesystem; `None` for a file without a name, which cannot be found
    /// again.
    pub path: Option<Vec<u8>>,
}

/// A notifier, for an image.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct NotifierImage {
    /// Its watches.
    pub watches: Vec<WatchImage>,
    /// Events nobody has read.
    pub events: Vec<Event>,
}

impl Notifier {
    /// Its watches, and the events that wait, which stay.
    pub fn image(&self) -> NotifierImage {
        let watches = self.sb().watches.of_queue(&self.queue);
        let watches = watches.into_iter().map(|(watch, mask, node)| WatchImage {
            watch,
            mask,
            path: node
                .filter(|node| !node.is_deleted())
                .map(|node| node.path()),
        });
        NotifierImage {
            watches: watches.collect(),
            events: self.queue.peek(),
        }
    }
}

impl Filesystem {
    /// A notifier like the one of the image, with the same numbers. A watch whose file is not
    /// there any more is told as gone, after the events that waited.
    pub fn restore_notifier(&self, cx: &Context<'_>, image: &NotifierImage) -> Result<Notifier> {
        let notifier = self.notifier()?;
        for event in &image.events {
            notifier.queue.push(event.clone());
        }
        for watch in &image.watches {
            let found = watch.path.as_ref().map(|path| {
                let root = self.root();
                self.resolve(cx, At::new(&root, path), Follow::No)
            });
            let placed = match found {
                Some(Ok(node)) => {
                    let (queue, number) = (&notifier.queue, Some(watch.watch));
                    let add = || self.sb().watches.add(queue, &node, watch.mask, number);
                    run("inotify_add_watch", b"", add).is_ok()
                }
                _ => false,
            };
            if !placed {
                notifier.queue.push(Event {
                    watch: watch.watch,
                    mask: EventMask::IGNORED,
                    cookie: 0,
                    name: Vec::new(),
                });
            }
        }
        Ok(notifier)
    }
}
