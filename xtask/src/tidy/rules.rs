//! `gofer-vfs/RULES.md`: every numbered rule has a row, and every test a row names exists.

use std::collections::BTreeSet;

use super::Finding;
use super::sources::SourceFile;

const TABLE: &str = "gofer-vfs/RULES.md";

/// Sections of the semantics, and how many numbered rules each has.
const SECTIONS: [(u32, u32); 19] = [
    (2, 7),
    (3, 8),
    (4, 12),
    (5, 11),
    (6, 11),
    (7, 4),
    (10, 12),
    (11, 11),
    (12, 8),
    (13, 9),
    (14, 8),
    (15, 12),
    (16, 12),
    (17, 11),
    (19, 6),
    (20, 6),
    (21, 5),
    (22, 5),
    (23, 7),
];

/// Rules with numbers of another form: added later, or sections that are one table.
const OTHERS: [&str; 5] = ["2.4a", "7", "8", "9", "18"];

/// Known defects, and scenarios of the checklist.
const DEFECTS: u32 = 78;
const SCENARIOS: u32 = 84;

/// All findings about the table.
pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    match files.iter().find(|file| file.path() == TABLE) {
        Some(table) => check_table(table.text(), &tests(files)),
        None => vec![Finding::error(TABLE, "is missing")],
    }
}

fn check_table(table: &str, tests: &BTreeSet<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut missing = rules();
    for (index, line) in table.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", rule, words, proof, ""] = cells[..] else {
            continue;
        };
        if rule == "rule" || rule.starts_with("---") {
            continue;
        }
        let place = format!("{TABLE}:{}", index + 1);
        if !missing.remove(rule) {
            findings.push(Finding::error(&place, format!("{rule}: unknown, or twice")));
        }
        let named: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
        let explained = proof.starts_with("not applicable: ");
        let open = proof.contains("none yet");
        if words.is_empty() || open || (named.is_empty() && !explained) {
            findings.push(Finding::error(&place, format!("{rule}: without a proof")));
        }
        for name in named.into_iter().filter(|name| !tests.contains(name)) {
            let text = format!("{rule}: there is no test `{name}`");
            findings.push(Finding::error(&place, text));
        }
    }
    let missing = missing.into_iter();
    findings.extend(missing.map(|rule| Finding::error(TABLE, format!("{rule}: has no row"))));
    findings
}

fn rules() -> BTreeSet<String> {
    let sections = SECTIONS
        .iter()
        .flat_map(|&(section, rules)| (1..=rules).map(move |rule| format!("{section}.{rule}")));
    let others = OTHERS.iter().map(|&rule| rule.to_owned());
    let defects = (1..=DEFECTS).map(|defect| format!("D{defect}"));
    let scenarios = (1..=SCENARIOS).map(|scenario| format!("C{scenario}"));
    sections
        .chain(others)
        .chain(defects)
        .chain(scenarios)
        .collect()
}

/// The names of all tests: functions marked as such, and cases of the behaviour suite.
fn tests(files: &[SourceFile]) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for file in files.iter().filter(|file| file.path().ends_with(".rs")) {
        let mut marked = false;
        let mut in_cases = false;
        for line in file.text().lines().map(str::trim) {
            if line == "cases![" {
                in_cases = true;
            } else if line == "];" {
                in_cases = false;
            } else if line == "#[test]" {
                marked = true;
            } else if let Some(rest) = line.strip_prefix("fn ") {
                if marked {
                    names.extend(rest.split(['(', '<']).next());
                }
                marked = false;
            } else if in_cases {
                names.extend(line.split([':', ',']).next());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> String {
        let rows = rules();
        let rows = rows
            .iter()
            .map(|rule| format!("| {rule} | words | `a_test` |\n"));
        rows.collect()
    }

    fn texts(table: &str) -> Vec<String> {
        let findings = check_table(table, &BTreeSet::from(["a_test"]));
        findings.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn missing_rules_and_tests_are_found() {
        assert_eq!(texts(&full()), [""; 0]);
        let without = full().replace("| 5.11 | words | `a_test` |\n", "");
        assert_eq!(texts(&without), ["5.11: has no row"]);
        let wrong = full().replace("| D7 | words | `a_test`", "| D7 | words | `no_test`");
        assert_eq!(texts(&wrong), ["D7: there is no test `no_test`"]);
        let open = full().replace("| C9 | words | `a_test`", "| C9 | words | none yet");
        assert_eq!(texts(&open), ["C9: without a proof"]);
        let partly = full().replace(
            "| C9 | words | `a_test`",
            "| C9 | words | `a_test`; x: none yet",
        );
        assert_eq!(texts(&partly), ["C9: without a proof"]);
        let empty = full().replace("| C9 | words | `a_test`", "| C9 | words |");
        assert_eq!(texts(&empty), ["C9: without a proof"]);
        let twice = full() + "| C9 | words | `a_test` |\n";
        assert_eq!(texts(&twice), ["C9: unknown, or twice"]);
    }
}
