//! Which cells and cases a run is about.

/// Patterns of `--only`. No pattern chooses everything.
///
/// A pattern is looked for anywhere in a name; `*` stands for any text. One with `::` means the
/// cell before it and the case after it; one without means either.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    patterns: Vec<String>,
}

impl Selection {
    /// Chooses what any of `patterns` means.
    pub fn new(patterns: &[String]) -> Selection {
        Selection {
            patterns: patterns.to_vec(),
        }
    }

    /// Whether `case` of `cell` is chosen.
    pub fn has(&self, cell: &str, case: &str) -> bool {
        self.patterns.is_empty()
            || self.patterns.iter().any(|pattern| {
                pattern.split_once("::").map_or_else(
                    || found(cell, pattern) || found(case, pattern),
                    |(of_cell, of_case)| found(cell, of_cell) && found(case, of_case),
                )
            })
    }
}

/// Whether `pattern` stands somewhere in `name`: its pieces between `*` in their order.
fn found(name: &str, pattern: &str) -> bool {
    let mut rest = name;
    pattern.split('*').all(|piece| match rest.find(piece) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_cells_cases_or_both() {
        let chosen = |pattern: &str| {
            let selection = Selection::new(&[pattern.to_owned()]);
            [
                ("lisafs/unix/none", "rename-over"),
                ("lisafs/fd/none", "stat"),
                ("9p/unix/none", "rename-over"),
            ]
            .map(|(cell, case)| selection.has(cell, case))
        };
        assert_eq!(chosen("lisafs"), [true, true, false]);
        assert_eq!(chosen("rename"), [true, false, true]);
        assert_eq!(chosen("lisafs::rename"), [true, false, false]);
        assert_eq!(chosen("*/unix/*::re*over"), [true, false, true]);
        assert_eq!(chosen("::stat"), [false, true, false]);
        assert_eq!(chosen("nothing"), [false; 3]);
        assert!(Selection::default().has("any", "thing"));
    }
}
