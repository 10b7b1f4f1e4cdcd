//! What diod cannot do, case by case. A case listed here that passes is reported, too.

use crate::suite::Known;

/// diod 1.0.24.
pub(super) const DIOD: &[Known] = &[];

#[cfg(test)]
mod tests {
    use super::*;
    use gofer_vfs::testing::behaviour;

    #[test]
    fn every_entry_names_a_case_and_a_reason() {
        for known in DIOD {
            let start = known.case.trim_end_matches('*');
            let named = behaviour::cases()
                .iter()
                .any(|case| case.name.starts_with(start));
            assert!(named, "no case is called {}", known.case);
            assert!(!known.reason.is_empty(), "{}", known.case);
        }
    }
}
