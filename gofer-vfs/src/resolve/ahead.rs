//! Names ahead of the walk: several are checked, or asked for, in one round trip.

use super::text::Text;
use super::{Form, StepSource, Walk};
use crate::attr::FileType;
use crate::dentry::{Child, Node};
use crate::lookup::{Fetched, fetch};
use crate::name::Name;
use crate::revalidate::{Known, revalidate};
use crate::superblock::Res;

/// Names sent in one walk or check.
const BATCH_MAX: usize = 128;

/// Names known to be up to date ahead of the walk.
#[derive(Default)]
pub(super) struct Ahead {
    pub(super) count: usize,
    /// The name after them does not exist.
    pub(super) then_missing: bool,
    /// Where they came from.
    pub(super) source: Option<StepSource>,
    /// Keeps them from being evicted before the walk gets there.
    _pin: Option<Node>,
}

impl<'p> Walk<'p> {
    /// Whether cached names from here on have to be checked before they are used.
    pub(super) fn must_check(&self) -> bool {
        self.ahead.count == 0 && !self.ahead.then_missing && self.dir.sb().mode.must_revalidate()
    }

    /// Checks what is cached from here on, in one round trip: up to the end of the path, the
    /// first name that is not cached, `..`, or a link (semantics 6.2). Nothing is asked if all
    /// of it was checked a moment ago, as [`crate::freshness`] has it.
    pub(super) fn check_ahead(&mut self) -> Res<()> {
        let text = self.text.clone();
        let mut chain: Vec<Known<'_>> = Vec::new();
        let mut from = self.at;
        while let Some((begin, end)) = text.part(from)
            && chain.len() < BATCH_MAX
        {
            from = end;
            let name = text.slice(begin, end);
            if name == b"." {
                continue;
            }
            if name == b".." {
                break;
            }
            let parent = chain.last().map_or(&self.dir, |known| &known.node);
            let Child::Present(node) = parent.child(name) else {
                break;
            };
            // What lies below a mount is hidden (semantics 24, item 77).
            let ends = node.file_type() == FileType::Symlink || node.is_covered();
            chain.push(Known { name, node });
            if ends {
                break;
            }
        }
        self.ahead = Ahead::default();
        if chain.is_empty() {
            return Ok(());
        }
        if self.dir.is_fresh() && chain.iter().all(|known| known.node.is_fresh()) {
            self.ahead = Ahead {
                count: chain.len(),
                then_missing: false,
                source: Some(StepSource::Cache),
                _pin: chain.pop().map(|known| known.node),
            };
            return Ok(());
        }
        let checked = revalidate(self.cx, &self.dir, &chain)?;
        self.round_trips += checked.calls;
        chain.truncate(checked.count);
        self.ahead = Ahead {
            count: checked.count,
            then_missing: checked.then_missing,
            source: Some(StepSource::Revalidated),
            _pin: chain.pop().map(|known| known.node),
        };
        Ok(())
    }

    /// Asks the server for the name at `begin`, and along with it for those that follow, if it
    /// can take several: up to where the form stops or `..` (semantics 5.6).
    pub(super) fn fetch_ahead(&mut self, text: &Text<'p>, begin: usize) -> Res<Option<Node>> {
        let mut names: Vec<Name<'_>> = Vec::new();
        let mut from = begin;
        while let Some((begin, end)) = text.part(from)
            && names.len() < BATCH_MAX
        {
            from = end;
            let name = text.slice(begin, end);
            let stop = self.form == Form::Parent && text.part(end).is_none();
            if name == b"." {
                continue;
            }
            if stop || name == b".." || name.len() > crate::name::NAME_MAX {
                break;
            }
            names.push(Name::new(name)?);
            if !self.dir.sb().capabilities.multi_walk {
                break;
            }
        }
        if names.is_empty() {
            // A name that only this server's limit allows goes alone.
            let (begin, end) = text.part(begin).unwrap_or((begin, begin));
            names.push(Name::new(text.slice(begin, end))?);
        }
        self.ahead = Ahead::default();
        let fetched = fetch(self.cx, &self.dir, &names);
        let Some(fetched) = fetched? else {
            self.round_trips += 1;
            return Ok(None);
        };
        let Fetched {
            first,
            deepest,
            count,
            then_missing,
            calls,
        } = fetched;
        self.round_trips += calls;
        self.ahead = Ahead {
            count: count - 1,
            then_missing,
            source: Some(StepSource::Prefetched),
            _pin: Some(deepest),
        };
        Ok(Some(first))
    }
}
