//! What the Linux kernel's client cannot do, whatever the server, and what diod cannot do for it.
//! A check listed here that passes is reported, too.

use super::Side;

/// A check that fails for a reason that is not our server's.
pub(super) struct Limit {
    check: &'static str,
    /// Mounts whose names begin so; none means all.
    mounts: &'static [&'static str],
    /// Servers; none means all.
    sides: &'static [Side],
    pub(super) reason: &'static str,
}

impl Limit {
    pub(super) fn covers(&self, side: Side, mount: &str, check: &str) -> bool {
        self.check == check
            && (self.sides.is_empty() || self.sides.contains(&side))
            && (self.mounts.is_empty() || self.mounts.iter().any(|start| mount.starts_with(start)))
    }
}

const fn linux(
    check: &'static str,
    mounts: &'static [&'static str],
    reason: &'static str,
) -> Limit {
    Limit {
        check,
        mounts,
        sides: &[],
        reason,
    }
}

const fn diod(check: &'static str, mounts: &'static [&'static str], reason: &'static str) -> Limit {
    Limit {
        check,
        mounts,
        sides: &[Side::Diod],
        reason,
    }
}

/// Linux 6.1 (9P 12) and diod 1.0.24 (9P 13).
pub(super) const LIMITS: &[Limit] = &[
    linux(
        "mapped_for_writing",
        &["none"],
        "no shared writable mappings with cache=none",
    ),
    linux(
        "times_to_the_nanosecond",
        &[],
        "the client sends whole seconds",
    ),
    linux("times_before_1970", &[], "the client makes them 1970"),
    linux(
        "changed_by_somebody_else",
        &["loose"],
        "attributes are kept without time limit",
    ),
    linux(
        "permissions",
        &["none-any"],
        "one attach stands for all users",
    ),
    diod("direct_data", &[], "it refuses to open with O_DIRECT"),
    diod("unlinked_and_changed", &[], BY_PATH),
    diod("renamed_while_open", &[], BY_PATH),
    diod("below_a_renamed_directory", &[], BY_PATH),
    diod("renames", &["loose"], BY_PATH),
    diod("empty_attributes", &[], "it refuses a value without bytes"),
    diod("ranges", &[], WHOLE),
    diod("ranges_split", &[], WHOLE),
    diod("ended_by_close", &[], WHOLE),
];

const BY_PATH: &str = "getattr and setattr go by path: ENOENT when the file is not there any more";
const WHOLE: &str = "a lock of a range is one of the whole file";
