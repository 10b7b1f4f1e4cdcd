//! Patterns over names, in bytes: `*`, `?`, `[a-z]`, `[!a]`, `**` between slashes, `{a,b}`.
//!
//! The same expansion serves the remote tree and the local one: see [`Names`].

use crate::client::join;

/// A pattern for one name, or for a text without regard to slashes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    elements: Vec<Element>,
    any_case: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Element {
    Byte(u8),
    /// `?`: one character, or one byte that is part of none.
    One,
    /// `*`
    Any,
    /// `[...]`
    Class {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
}

impl Pattern {
    /// Reads a pattern; a backslash makes the next byte mean itself. There are no wrong
    /// patterns: an unclosed `[` means itself.
    pub fn new(text: &[u8]) -> Pattern {
        let mut bytes = Vec::new();
        let mut quoted = Vec::new();
        let mut rest = text.iter();
        while let Some(&byte) = rest.next() {
            match (byte, rest.as_slice().first()) {
                (b'\\', Some(&next)) => {
                    rest.next();
                    bytes.push(next);
                    quoted.push(true);
                }
                _ => {
                    bytes.push(byte);
                    quoted.push(false);
                }
            }
        }
        Pattern::with_quotes(&bytes, &quoted)
    }

    /// Reads a pattern in which quoted bytes mean themselves.
    pub fn with_quotes(bytes: &[u8], quoted: &[bool]) -> Pattern {
        let is_quoted = |at: usize| quoted.get(at).copied().unwrap_or(false);
        let mut elements = Vec::new();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let (element, next) = match byte {
                _ if is_quoted(at) => (Element::Byte(byte), at + 1),
                b'?' => (Element::One, at + 1),
                b'*' => (Element::Any, at + 1),
                b'[' => class(bytes, &is_quoted, at).unwrap_or((Element::Byte(byte), at + 1)),
                _ => (Element::Byte(byte), at + 1),
            };
            // Two stars in a row match what one does.
            if element != Element::Any || elements.last() != Some(&Element::Any) {
                elements.push(element);
            }
            at = next;
        }
        Pattern {
            elements,
            any_case: false,
        }
    }

    /// The same pattern without regard to the case of ASCII letters.
    #[must_use]
    pub fn any_case(mut self) -> Pattern {
        self.any_case = true;
        self
    }

    /// Whether anything but plain bytes is in it.
    pub fn is_plain(&self) -> bool {
        self.elements
            .iter()
            .all(|element| matches!(element, Element::Byte(_)))
    }

    /// Whether `name` matches as a whole. Takes time in proportion to both lengths.
    pub fn matches(&self, name: &[u8]) -> bool {
        let (mut element, mut at) = (0, 0);
        // Where to go on when a later element fails: after the last star, one byte further.
        let mut star: Option<(usize, usize)> = None;
        loop {
            let step = match self.elements.get(element) {
                Some(Element::Any) => {
                    star = Some((element + 1, at));
                    element += 1;
                    continue;
                }
                Some(single) => self.step(single, &name[at..]),
                None if at == name.len() => return true,
                None => None,
            };
            match (step, star) {
                (Some(length), _) => {
                    element += 1;
                    at += length;
                }
                (None, Some((after, from))) if from < name.len() => {
                    star = Some((after, from + 1));
                    (element, at) = (after, from + 1);
                }
                _ => return false,
            }
        }
    }

    /// How many bytes of `rest` the element takes.
    fn step(&self, element: &Element, rest: &[u8]) -> Option<usize> {
        let (&first, (character, length)) = (rest.first()?, first_char(rest));
        let fold = |c: u32| match u8::try_from(c) {
            Ok(byte) if self.any_case => u32::from(byte.to_ascii_lowercase()),
            _ => c,
        };
        match element {
            Element::Byte(byte) => (fold(u32::from(*byte)) == fold(u32::from(first))).then_some(1),
            Element::One => Some(length),
            Element::Class { negated, ranges } => {
                let within = |c: u32| ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                let upper = match u8::try_from(character) {
                    Ok(byte) if self.any_case => u32::from(byte.to_ascii_uppercase()),
                    _ => character,
                };
                let found = within(character) || within(fold(character)) || within(upper);
                (found != *negated).then_some(length)
            }
            Element::Any => None,
        }
    }
}

/// The first character and its length; a byte that begins none stands for itself, above all
/// characters.
fn first_char(bytes: &[u8]) -> (u32, usize) {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or(""),
    };
    match (valid.chars().next(), bytes.first()) {
        (Some(c), _) => (u32::from(c), c.len_utf8()),
        (None, Some(byte)) => (0x11_0000 + u32::from(*byte), 1),
        (None, None) => (0, 0),
    }
}

/// Reads `[...]` at `at`; `None` when it is not closed.
fn class(bytes: &[u8], quoted: &dyn Fn(usize) -> bool, at: usize) -> Option<(Element, usize)> {
    let mut next = at + 1;
    let negated = matches!(bytes.get(next), Some(b'!' | b'^')) && !quoted(next);
    next += usize::from(negated);
    let first = next;
    let mut ranges = Vec::new();
    loop {
        let byte = *bytes.get(next)?;
        if byte == b']' && !quoted(next) && next > first {
            return Some((Element::Class { negated, ranges }, next + 1));
        }
        let (low, length) = first_char(&bytes[next..]);
        next += length;
        let is_range = bytes.get(next) == Some(&b'-')
            && !quoted(next)
            && bytes.get(next + 1).is_some_and(|end| *end != b']');
        if is_range {
            let (high, length) = first_char(&bytes[next + 1..]);
            ranges.push((low, high));
            next += 1 + length;
        } else {
            ranges.push((low, low));
        }
    }
}

/// A tree of names to expand patterns in.
pub trait Names {
    /// Names in the directory at `path` (empty: the current one), and whether each is a
    /// directory, not a link to one. Nothing where there is no directory.
    fn list(&self, path: &[u8]) -> Vec<(Vec<u8>, bool)>;

    /// Whether `path` is there, be it a link to nowhere.
    fn exists(&self, path: &[u8]) -> bool;

    /// Whether `path` leads to a directory.
    fn is_dir(&self, path: &[u8]) -> bool;
}

/// A word that may be a pattern.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Word {
    /// The bytes without quotes.
    pub bytes: Vec<u8>,
    /// Which of them were quoted.
    pub quoted: Vec<bool>,
}

impl Word {
    /// Appends a byte.
    pub fn push(&mut self, byte: u8, quoted: bool) {
        self.bytes.push(byte);
        self.quoted.push(quoted);
    }

    /// Whether an unquoted `*`, `?` or `[...]` is in it.
    pub fn is_pattern(&self) -> bool {
        !Pattern::with_quotes(&self.bytes, &self.quoted).is_plain()
    }

    fn part(&self, from: usize, to: usize) -> Word {
        Word {
            bytes: self.bytes[from..to].to_vec(),
            quoted: self.quoted[from..to].to_vec(),
        }
    }

    /// Writes `{a,b}` out. Braces without a comma, and those beyond `LIMIT` words, stay.
    pub fn braces(self) -> Vec<Word> {
        const LIMIT: usize = 1 << 12;
        let mut done = Vec::new();
        let mut todo = vec![self];
        while let Some(word) = todo.pop() {
            match word.first_brace() {
                Some(parts) if done.len() + todo.len() + parts.len() <= LIMIT => {
                    todo.extend(parts.into_iter().rev());
                }
                _ => done.push(word),
            }
        }
        done
    }

    fn first_brace(&self) -> Option<Vec<Word>> {
        for open in self.unquoted(b'{', 0) {
            let (mut depth, mut cuts) = (0usize, vec![open]);
            for at in open..self.bytes.len() {
                match (self.bytes[at], self.quoted[at]) {
                    (b'{', false) => depth += 1,
                    (b',', false) if depth == 1 => cuts.push(at),
                    (b'}', false) => {
                        depth -= 1;
                        if depth == 0 && cuts.len() > 1 {
                            cuts.push(at);
                            return Some(self.alternatives(&cuts));
                        }
                        if depth == 0 {
                            break;
                        }
                    }
                    _ => {}
                }
            }
        }
        None
    }

    fn alternatives(&self, cuts: &[usize]) -> Vec<Word> {
        let (Some(first), Some(last)) = (cuts.first(), cuts.last()) else {
            return Vec::new();
        };
        cuts.windows(2)
            .map(|pair| {
                let mut word = self.part(0, *first);
                for part in [
                    self.part(pair[0] + 1, pair[1]),
                    self.part(last + 1, self.bytes.len()),
                ] {
                    word.bytes.extend(part.bytes);
                    word.quoted.extend(part.quoted);
                }
                word
            })
            .collect()
    }

    fn unquoted(&self, byte: u8, from: usize) -> Vec<usize> {
        (from..self.bytes.len())
            .filter(|at| self.bytes[*at] == byte && !self.quoted[*at])
            .collect()
    }

    /// All paths that match, sorted.
    pub fn expand(&self, names: &dyn Names) -> Vec<Vec<u8>> {
        let mut found = vec![Vec::new()];
        let mut at = 0;
        while at < self.bytes.len() {
            if self.bytes[at] == b'/' {
                // Slashes are kept as written; what goes on must be a directory.
                if at > 0 && self.bytes[at - 1] != b'/' {
                    found.retain(|path| path.is_empty() || names.is_dir(path));
                }
                // After a leading `**`, the empty path is the current directory.
                for path in found.iter_mut().filter(|path| at == 0 || !path.is_empty()) {
                    path.push(b'/');
                }
                at += 1;
                continue;
            }
            let rest = &self.bytes[at..];
            let end = at
                + rest
                    .iter()
                    .position(|byte| *byte == b'/')
                    .unwrap_or(rest.len());
            let part = self.part(at, end);
            found = found
                .into_iter()
                .flat_map(|path| part.expand_one(&path, names))
                .collect();
            at = end;
        }
        for path in found.iter_mut().filter(|path| path.is_empty()) {
            path.push(b'.');
        }
        found.sort();
        found.dedup();
        found
    }

    /// Matches in the directory at `path`, for a part without slashes.
    fn expand_one(&self, path: &[u8], names: &dyn Names) -> Vec<Vec<u8>> {
        if self.bytes == b"**" && !self.quoted.contains(&true) {
            return below(path, names);
        }
        let pattern = Pattern::with_quotes(&self.bytes, &self.quoted);
        if pattern.is_plain() {
            let path = [path, &self.bytes].concat();
            return if names.exists(&path) {
                vec![path]
            } else {
                Vec::new()
            };
        }
        // As in sh, a dot at the beginning must be asked for.
        let hidden = self.bytes.first() == Some(&b'.');
        names
            .list(path)
            .into_iter()
            .filter(|(name, _)| hidden || !name.starts_with(b"."))
            .filter(|(name, _)| pattern.matches(name))
            .map(|(name, _)| [path, &name].concat())
            .collect()
    }
}

/// The directory at `path` and all below it, without hidden ones, as `**` means them. The empty
/// path stands for the current directory.
fn below(path: &[u8], names: &dyn Names) -> Vec<Vec<u8>> {
    const LIMIT: usize = 100_000;
    let trimmed = path.strip_suffix(b"/").unwrap_or(path);
    let top = if path == b"/" { path } else { trimmed };
    let mut found = vec![top.to_vec()];
    let mut todo = vec![top.to_vec()];
    while let Some(dir) = todo.pop() {
        for (name, is_dir) in names.list(&dir) {
            if is_dir && !name.starts_with(b".") && found.len() < LIMIT {
                let child = join(&dir, &name);
                found.push(child.clone());
                todo.push(child);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Tree(BTreeMap<&'static str, Vec<(&'static str, bool)>>);

    impl Names for Tree {
        fn list(&self, path: &[u8]) -> Vec<(Vec<u8>, bool)> {
            let path = std::str::from_utf8(path).unwrap();
            let path = path.strip_suffix('/').unwrap_or(path);
            let path = path.strip_prefix("./").unwrap_or(path);
            let path = if path == "." { "" } else { path };
            let entries = self.0.get(path).cloned().unwrap_or_default();
            entries
                .into_iter()
                .map(|(name, dir)| (name.into(), dir))
                .collect()
        }

        fn exists(&self, path: &[u8]) -> bool {
            let (dir, name) = match path.iter().rposition(|byte| *byte == b'/') {
                Some(at) => (&path[..at], &path[at + 1..]),
                None => (&b""[..], path),
            };
            self.list(dir).iter().any(|(entry, _)| entry == name)
        }

        fn is_dir(&self, path: &[u8]) -> bool {
            path == b"." || !self.list(path).is_empty()
        }
    }

    fn tree() -> Tree {
        Tree(BTreeMap::from([
            (
                "",
                vec![
                    ("a.c", false),
                    ("b.c", false),
                    (".h.c", false),
                    ("src", true),
                ],
            ),
            ("src", vec![("x.c", false), ("deep", true)]),
            ("src/deep", vec![("y.c", false)]),
        ]))
    }

    fn expand(pattern: &str) -> Vec<String> {
        let word = Word {
            bytes: pattern.into(),
            quoted: vec![false; pattern.len()],
        };
        let words = word.braces().into_iter();
        words
            .flat_map(|word| word.expand(&tree()))
            .map(|path| String::from_utf8(path).unwrap())
            .collect()
    }

    #[test]
    fn patterns_match_bytes_and_characters() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*.c", "a.c", true),
            ("*.c", "a.h", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?", "é", true),
            ("??", "é", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]a]", "]", true),
            ("[a", "[a", true),
            ("[ä-ö]", "ö", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
        ] {
            let matched = Pattern::new(pattern.as_bytes()).matches(name.as_bytes());
            assert_eq!(matched, expected, "{pattern} on {name}");
        }
        assert!(Pattern::new(b"a?").matches(b"a\xff"));
        assert!(Pattern::new(b"*.RS").any_case().matches(b"x.rs"));
        assert!(Pattern::new(b"[A-C]").any_case().matches(b"b"));
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = Pattern::new("*a".repeat(40).as_bytes());
        assert!(!pattern.matches(&b"a".repeat(39)));
        assert!(pattern.matches(&b"a".repeat(2000)));
    }

    #[test]
    fn words_expand_against_the_tree() {
        assert_eq!(expand("*.c"), ["a.c", "b.c"]);
        assert_eq!(expand(".*.c"), [".h.c"]);
        assert_eq!(expand("*/*.c"), ["src/x.c"]);
        assert_eq!(expand("src/[xy].c"), ["src/x.c"]);
        assert_eq!(expand("**/*.c"), ["a.c", "b.c", "src/deep/y.c", "src/x.c"]);
        assert_eq!(expand("{b,a}.?"), ["b.c", "a.c"]);
        assert_eq!(expand("*.z"), Vec::<String>::new());
        assert_eq!(expand("*/"), ["src/"]);
    }

    #[test]
    fn braces_nest_and_need_a_comma() {
        let words = |text: &str| -> Vec<String> {
            let word = Word {
                bytes: text.into(),
                quoted: vec![false; text.len()],
            };
            let words = word.braces().into_iter();
            words
                .map(|word| String::from_utf8(word.bytes).unwrap())
                .collect()
        };
        assert_eq!(words("a{b,c{d,e}}f"), ["abf", "acdf", "acef"]);
        assert_eq!(words("{a}"), ["{a}"]);
        assert_eq!(words("{a,b"), ["{a,b"]);
        assert_eq!(words("}{a,b}"), ["}a", "}b"]);
        assert!(words(&"{a,b}".repeat(40)).len() <= 1 << 12);
    }
}
