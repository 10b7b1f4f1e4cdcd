//! What the guest writes to its port for results: lines of `@ CELL CHECK ok`, or `failed` and why.
//! A `.` stands for no check, or no cell; the last line of either is `end`.

/// How a check went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Ok,
    Failed(String),
}

/// Everything about one mount.
#[derive(Default, Debug)]
pub(super) struct Cell {
    /// By name of the check, in order.
    pub(super) answers: Vec<(String, Answer)>,
    /// Whether the program came to its end.
    pub(super) ended: bool,
}

/// A line, taken apart.
#[derive(Debug)]
struct Line {
    cell: String,
    check: String,
    said: String,
}

/// All lines of a run.
#[derive(Debug)]
pub(super) struct Results(Vec<Line>);

impl Results {
    /// Lines that are none of ours are left out: a check whose line is damaged has no answer.
    pub(super) fn parse(text: &str) -> Results {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.trim_end().strip_prefix("@ ")?.splitn(3, ' ');
            Some(Line {
                cell: words.next()?.to_owned(),
                check: words.next()?.to_owned(),
                said: words.next()?.to_owned(),
            })
        });
        Results(lines.collect())
    }

    /// Whether the guest came to its last line.
    pub(super) fn ended(&self) -> bool {
        let last = self.0.last();
        last.is_some_and(|line| line.cell == "." && line.check == "." && line.said == "end")
    }

    /// What the guest could not do apart from checks.
    pub(super) fn complaints(&self) -> impl Iterator<Item = &str> {
        let general = |line: &&Line| line.check == "." && line.said != "end";
        self.0.iter().filter(general).map(|line| line.said.as_str())
    }

    /// What is said of the mount `name`.
    pub(super) fn of(&self, name: &str) -> Cell {
        let mut cell = Cell::default();
        for line in self.0.iter().filter(|line| line.cell == name) {
            let answer = match line.said.as_str() {
                "end" if line.check == "." => {
                    cell.ended = true;
                    continue;
                }
                _ if line.check == "." => continue,
                "ok" => Answer::Ok,
                said => Answer::Failed(said.trim_start_matches("failed ").to_owned()),
            };
            cell.answers.push((line.check.clone(), answer));
        }
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "@ none small_file ok\r\n@ none renames failed a.c:3: x != y\r\n\
                        @ none . end\r\n[ 5.0] noise\r\n@ loose small_file ok\r\n";

    #[test]
    fn answers_are_found_by_mount() {
        let results = Results::parse(TEXT);
        let none = results.of("none");
        assert!(none.ended);
        let failed = Answer::Failed("a.c:3: x != y".to_owned());
        let expected = [("small_file", Answer::Ok), ("renames", failed)];
        assert_eq!(
            none.answers,
            expected.map(|(name, how)| (name.to_owned(), how))
        );
        assert!(!results.of("loose").ended && results.of("mmap").answers.is_empty());
    }

    #[test]
    fn only_the_last_line_says_that_the_guest_has_ended() {
        assert!(!Results::parse(TEXT).ended());
        assert!(Results::parse(&format!("{TEXT}@ . . end\n")).ended());
        assert!(!Results::parse(&format!("@ . . end\n{TEXT}")).ended());
        // Words that are no answer are no success.
        let odd = Results::parse("@ none small_file okay\n").of("none");
        assert!(matches!(odd.answers[0].1, Answer::Failed(_)));
        let refused = Results::parse("@ none . failed mount: refused\n");
        assert_eq!(
            refused.complaints().collect::<Vec<_>>(),
            ["failed mount: refused"]
        );
    }
}
