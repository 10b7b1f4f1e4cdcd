//! What a walk tells of its way.

use super::Walk;
use crate::attr::FileType;
use crate::dentry::Node;
use crate::remote::FileKey;

/// One step of a walk, for people who want to see where time goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalkStep {
    /// The name as it stood in the path or in a link; `/` for the start.
    pub name: Vec<u8>,
    /// The type of what was found; `None`: it does not exist.
    pub file_type: Option<FileType>,
    /// The server's identity of it.
    pub key: Option<FileKey>,
    /// Its inode number.
    pub ino: Option<u64>,
    /// Where the answer came from.
    pub source: StepSource,
    /// Round trips to the server that this step caused.
    pub round_trips: u64,
    /// Where it led, if it is a symbolic link that was followed.
    pub link_target: Option<Vec<u8>>,
}

/// Where the answer to a [`WalkStep`] came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepSource {
    /// It is where the walk began or what `..` leads to; nothing was asked.
    Root,
    /// The name was cached.
    Cache,
    /// The absence of the name was cached.
    Negative,
    /// An earlier step's answer told of it.
    Prefetched,
    /// The server was asked.
    Remote,
    /// It was cached, and checked with the server.
    Revalidated,
}

impl Walk<'_> {
    /// Records each step from now on.
    pub(crate) fn record(&mut self) {
        let start = self.dir.clone();
        self.trace = Some(Vec::new());
        self.note(b"/", Some(&start), StepSource::Root, 0);
    }

    pub(crate) fn into_steps(self) -> Vec<WalkStep> {
        self.trace.unwrap_or_default()
    }

    pub(super) fn note(
        &mut self,
        name: &[u8],
        node: Option<&Node>,
        source: StepSource,
        before: u64,
    ) {
        let round_trips = self.round_trips - before;
        if let Some(trace) = &mut self.trace {
            trace.push(WalkStep {
                name: name.to_vec(),
                file_type: node.map(Node::file_type),
                key: node.map(Node::key),
                ino: node.map(Node::ino),
                source,
                round_trips,
                link_target: None,
            });
        }
    }
}
