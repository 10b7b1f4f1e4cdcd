//! The text of a path, and its parts.

use std::sync::Arc;

/// Text of a path: the caller's, or what is left of it after a link was put in.
#[derive(Clone)]
pub(super) enum Text<'p> {
    Given(&'p [u8]),
    Spliced(Arc<[u8]>),
}

impl Text<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Text::Given(bytes) => bytes,
            Text::Spliced(bytes) => bytes,
        }
    }

    /// The next component at or after `from`: where it begins and ends.
    pub(super) fn part(&self, from: usize) -> Option<(usize, usize)> {
        let bytes = self.bytes();
        let begin = from + bytes.get(from..)?.iter().position(|&byte| byte != b'/')?;
        let length = bytes.get(begin..)?.iter().position(|&byte| byte == b'/');
        Some((begin, length.map_or(bytes.len(), |length| begin + length)))
    }

    /// The last component at or after `from`.
    pub(super) fn last_part(&self, from: usize) -> Option<(usize, usize)> {
        let bytes = self.bytes().get(from..)?;
        let end = bytes.iter().rposition(|&byte| byte != b'/')? + 1;
        let begin = bytes.get(..end)?.iter().rposition(|&byte| byte == b'/');
        Some((from + begin.map_or(0, |slash| slash + 1), from + end))
    }

    pub(super) fn slice(&self, begin: usize, end: usize) -> &[u8] {
        self.bytes().get(begin..end).unwrap_or_default()
    }

    pub(super) fn slash_at(&self, at: usize) -> bool {
        self.bytes().get(at) == Some(&b'/')
    }
}

/// The last component of a path that was walked in parent form.
#[derive(Clone)]
pub(crate) struct Last<'p> {
    pub(super) text: Text<'p>,
    pub(super) begin: usize,
    pub(super) end: usize,
    /// Slashes follow: it must be a directory.
    pub(crate) slash: bool,
}

impl Last<'_> {
    /// The component; empty for a path of slashes only.
    pub(crate) fn name(&self) -> &[u8] {
        self.text.slice(self.begin, self.end)
    }
}
