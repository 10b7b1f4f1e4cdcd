//! The interop mode: who else may change the tree, and so what may be assumed about it.

use std::fmt;
use std::str::FromStr;

/// The value of the mount option `cache=`.
///
/// Code asks a mode the question it has (`must_revalidate()`) instead of comparing modes, so that
/// the table of what each mode promises (semantics 1.5) stands here and nowhere else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum InteropMode {
    /// `fscache`: nobody else touches the tree. Metadata and data are cached, data lazily
    /// written back.
    #[default]
    Exclusive,
    /// `fscache_writethrough`: others read the tree. As exclusive, but data reaches the server
    /// before a write returns.
    Writethrough,
    /// `remote_revalidating`: anybody changes the tree. What is cached is a hint and is checked
    /// before use.
    Shared,
    /// `none`: as shared, and each open file description has a handle of its own on the server.
    SharedPerHandle,
}

impl InteropMode {
    /// Every mode, the most trusting first.
    pub const ALL: [InteropMode; 4] = [
        InteropMode::Exclusive,
        InteropMode::Writethrough,
        InteropMode::Shared,
        InteropMode::SharedPerHandle,
    ];

    /// The word that stands for this mode in mount options.
    pub fn name(self) -> &'static str {
        match self {
            InteropMode::Exclusive => "fscache",
            InteropMode::Writethrough => "fscache_writethrough",
            InteropMode::Shared => "remote_revalidating",
            InteropMode::SharedPerHandle => "none",
        }
    }

    /// The mode a word of mount options stands for.
    pub fn from_name(name: &[u8]) -> Option<InteropMode> {
        InteropMode::ALL
            .into_iter()
            .find(|mode| mode.name().as_bytes() == name)
    }

    fn others_write(self) -> bool {
        matches!(self, InteropMode::Shared | InteropMode::SharedPerHandle)
    }

    /// Whether this client's copy of attributes, names, listings and link targets is the truth
    /// ("authoritative" in the semantics).
    pub fn may_cache_metadata(self) -> bool {
        !self.others_write()
    }

    /// Whether cached names and attributes must be checked with the server before each use.
    pub fn must_revalidate(self) -> bool {
        self.others_write()
    }

    /// Whether it may be remembered that a name does not exist.
    pub fn may_cache_negative(self) -> bool {
        !self.others_write()
    }

    /// Whether a directory's listing may be kept for the next reader.
    pub fn may_cache_listing(self) -> bool {
        !self.others_write()
    }

    /// Whether contents of files may be kept.
    pub fn may_cache_data(self) -> bool {
        !self.others_write()
    }

    /// Whether access and modification times come from this client's clock rather than from the
    /// server's.
    pub fn client_clock(self) -> bool {
        !self.others_write()
    }

    /// Whether written data may stay here after `write` has returned.
    pub fn may_defer_writes(self) -> bool {
        self == InteropMode::Exclusive
    }

    /// Whether data that was cached by a write must reach the server before `write` returns.
    pub fn flush_before_write_returns(self) -> bool {
        !self.may_defer_writes()
    }

    /// Whether every open file description of a regular file has a handle of its own.
    pub fn handle_per_description(self) -> bool {
        self == InteropMode::SharedPerHandle
    }

    /// Whether handles that are no longer needed must be closed at once, since others may wait
    /// for what that frees (semantics 4.9).
    pub fn close_promptly(self) -> bool {
        self.others_write()
    }
}

impl fmt::Display for InteropMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for InteropMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<InteropMode, UnknownMode> {
        InteropMode::from_name(text.as_bytes()).ok_or(UnknownMode)
    }
}

/// A word that names no interop mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownMode;

impl fmt::Display for UnknownMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected fscache, fscache_writethrough, remote_revalidating or none")
    }
}

impl std::error::Error for UnknownMode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_goes_by_its_name_and_no_other() {
        for mode in InteropMode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        assert_eq!("".parse::<InteropMode>(), Err(UnknownMode));
        assert_eq!("FSCACHE".parse::<InteropMode>(), Err(UnknownMode));
    }

    #[test]
    fn promises_of_each_mode_are_those_of_the_table() {
        // (cache metadata, revalidate, client's clock, defer writes, handle per description)
        let table = [
            ("fscache", [true, false, true, true, false]),
            ("fscache_writethrough", [true, false, true, false, false]),
            ("remote_revalidating", [false, true, false, false, false]),
            ("none", [false, true, false, false, true]),
        ];
        for (name, promises) in table {
            let mode = InteropMode::from_name(name.as_bytes()).unwrap();
            let found = [
                mode.may_cache_metadata(),
                mode.must_revalidate(),
                mode.client_clock(),
                mode.may_defer_writes(),
                mode.handle_per_description(),
            ];
            assert_eq!(found, promises, "{name}");
            assert_eq!(mode.flush_before_write_returns(), !mode.may_defer_writes());
        }
    }
}
