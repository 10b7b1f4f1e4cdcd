//! What diod cannot do, case by case. A case listed here that passes is reported, too.

use gofer_vfs::InteropMode;

use crate::suite::Known;

const SHARED: &[InteropMode] = &[InteropMode::Shared, InteropMode::SharedPerHandle];

const CACHING: &[InteropMode] = &[InteropMode::Exclusive, InteropMode::Writethrough];

const UNLINKED: &str = "getattr and setattr go by path: ENOENT for an open file without a name";
const BELOW: &str = "fids at or below a renamed name are not adjusted: ENOENT";

const NO_NAMES: &str = "neither Tunlinkat nor Trenameat: found out once, then by fid";

/// diod 1.0.24. It keeps a path for each fid and asks the host by path (9P 5.5 and 13).
pub(super) const DIOD: &[Known] = &[
    known("deleted_directory_is_empty", SHARED, UNLINKED),
    known(
        "deleted_files_are_restored_with_their_content",
        &[],
        UNLINKED,
    ),
    known("old_descriptor_keeps_the_replaced_file", SHARED, UNLINKED),
    known("removal_works_without_a_cache", SHARED, UNLINKED),
    known(
        "removal_of_an_uncached_name_costs_one_round_trip",
        &[],
        NO_NAMES,
    ),
    known(
        "rename_of_cached_names_costs_one_round_trip",
        CACHING,
        NO_NAMES,
    ),
    known(
        "links_of_an_open_file_are_counted_down_by_names_never_seen",
        &[],
        UNLINKED,
    ),
    known("replaced_open_file_stays_usable", SHARED, UNLINKED),
    known("unlinked_file_with_another_name_keeps_one", &[], UNLINKED),
    known("unlinked_open_file_can_be_changed", &[], UNLINKED),
    known("unlinked_open_file_has_no_names", SHARED, UNLINKED),
    known("unlinked_open_file_reads_and_writes", SHARED, UNLINKED),
    Known {
        sometimes: true,
        ..known("cache_limit_*", CACHING, BELOW)
    },
    known("files_below_a_renamed_directory_stay_usable", &[], BELOW),
    known("rename_moves_a_directory_with_its_content", &[], BELOW),
    known("renamed_open_file_stays_usable", &[], BELOW),
    Known {
        sometimes: true,
        ..known("lookups_meet_renames", SHARED, BELOW)
    },
];

const fn known(case: &'static str, modes: &'static [InteropMode], reason: &'static str) -> Known {
    Known {
        case,
        modes,
        reason,
        sometimes: false,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_entry_names_a_case_and_a_reason() {
        crate::suite::check_known(super::DIOD);
    }
}
