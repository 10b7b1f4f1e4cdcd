//! Lines of the shell, cut into statements and words.
//!
//! Quoting as in sh: `'...'` keeps everything, `"..."` everything but `\"` and `\\`, a backslash
//! the next byte; `$'...'` knows `\n`, `\t`, `\xNN` and such, so that every name can be typed.
//! `;` and line ends separate statements, `#` at the beginning of a word starts a comment.

use std::fmt;

use crate::glob::Word;

/// A command with its arguments, not expanded yet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Statement {
    /// Begun with `-`: its error does not count.
    pub ignore_error: bool,
    /// The words.
    pub words: Vec<Word>,
    /// Where each word begins in the line, as a byte offset.
    pub starts: Vec<usize>,
}

/// What is wrong with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LexError {
    /// The line ends inside this quote.
    Unclosed(char),
    /// The line ends after a backslash.
    Backslash,
    /// `$'...'` has an escape it does not know.
    Escape,
}

impl fmt::Display for LexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LexError::Unclosed(quote) => write!(f, "missing closing {quote}"),
            LexError::Backslash => f.write_str("a backslash with nothing behind it"),
            LexError::Escape => f.write_str("unknown escape in $'...'"),
        }
    }
}

/// What a line holds, as far as it can be read.
pub struct Lexed {
    /// The statements; the last may be empty, for a line that ends in `;` or is blank.
    pub statements: Vec<Statement>,
    /// Why reading stopped; the last word is then what there was of it.
    pub error: Option<LexError>,
    /// Whether the line ends within a word, not after blanks.
    pub in_word: bool,
}

/// Reads a line of any number of statements; empty ones are left out.
pub fn parse(line: &[u8]) -> Result<Vec<Statement>, LexError> {
    let lexed = lex(line);
    match lexed.error {
        Some(error) => Err(error),
        None => Ok(lexed
            .statements
            .into_iter()
            .filter(|statement| !statement.words.is_empty())
            .collect()),
    }
}

/// Reads as much of a line as makes sense, for completion.
pub fn lex(line: &[u8]) -> Lexed {
    let mut lexer = Lexer {
        line,
        at: 0,
        statements: vec![Statement::default()],
        word: None,
    };
    let error = lexer.run().err();
    let in_word = lexer.word.is_some();
    lexer.end_word();
    Lexed {
        statements: lexer.statements,
        error,
        in_word,
    }
}

struct Lexer<'a> {
    line: &'a [u8],
    at: usize,
    statements: Vec<Statement>,
    /// The word being read and where it began.
    word: Option<(Word, usize)>,
}

impl Lexer<'_> {
    fn run(&mut self) -> Result<(), LexError> {
        while let Some(byte) = self.take() {
            match byte {
                b' ' | b'\t' | b'\r' => self.end_word(),
                b';' | b'\n' => {
                    self.end_word();
                    self.statements.push(Statement::default());
                }
                b'#' if self.word.is_none() => self.skip_comment(),
                b'-' if self.begins_statement() => self.ignore_error(),
                b'\'' => self.single()?,
                b'"' => self.double()?,
                b'$' if self.peek() == Some(b'\'') => {
                    self.at += 1;
                    self.escaped()?;
                }
                b'\\' => match self.take() {
                    Some(next) => self.push(next, true),
                    None => {
                        self.begin();
                        return Err(LexError::Backslash);
                    }
                },
                byte => self.push(byte, false),
            }
        }
        Ok(())
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    /// Makes sure that a word is being read. Called after its first byte was taken.
    fn begin(&mut self) -> &mut Word {
        let start = self.at.saturating_sub(1);
        &mut self.word.get_or_insert_with(|| (Word::default(), start)).0
    }

    fn push(&mut self, byte: u8, quoted: bool) {
        self.begin().push(byte, quoted);
    }

    fn end_word(&mut self) {
        if let (Some((word, start)), Some(statement)) =
            (self.word.take(), self.statements.last_mut())
        {
            statement.words.push(word);
            statement.starts.push(start);
        }
    }

    fn skip_comment(&mut self) {
        while self.peek().is_some_and(|byte| byte != b'\n') {
            self.at += 1;
        }
    }

    fn begins_statement(&self) -> bool {
        self.word.is_none()
            && self
                .statements
                .last()
                .is_some_and(|statement| statement.words.is_empty() && !statement.ignore_error)
    }

    fn ignore_error(&mut self) {
        if let Some(statement) = self.statements.last_mut() {
            statement.ignore_error = true;
        }
    }

    fn single(&mut self) -> Result<(), LexError> {
        self.begin();
        loop {
            match self.take() {
                Some(b'\'') => return Ok(()),
                Some(byte) => self.push(byte, true),
                None => return Err(LexError::Unclosed('\'')),
            }
        }
    }

    fn double(&mut self) -> Result<(), LexError> {
        self.begin();
        loop {
            match (self.take(), self.peek()) {
                (Some(b'"'), _) => return Ok(()),
                (Some(b'\\'), Some(next @ (b'"' | b'\\'))) => {
                    self.at += 1;
                    self.push(next, true);
                }
                (Some(byte), _) => self.push(byte, true),
                (None, _) => return Err(LexError::Unclosed('"')),
            }
        }
    }

    fn escaped(&mut self) -> Result<(), LexError> {
        // The word began at the dollar sign, one byte before the quote.
        let start = self.at - 2;
        self.word.get_or_insert_with(|| (Word::default(), start));
        loop {
            let byte = match self.take() {
                Some(b'\'') => return Ok(()),
                Some(b'\\') => match self.take() {
                    Some(b'n') => b'\n',
                    Some(b't') => b'\t',
                    Some(b'r') => b'\r',
                    Some(b'e') => 0x1b,
                    Some(byte @ (b'\\' | b'\'' | b'"')) => byte,
                    Some(b'x') => self.hex()?,
                    Some(_) => return Err(LexError::Escape),
                    None => return Err(LexError::Unclosed('\'')),
                },
                Some(byte) => byte,
                None => return Err(LexError::Unclosed('\'')),
            };
            self.push(byte, true);
        }
    }

    fn hex(&mut self) -> Result<u8, LexError> {
        let mut digit = || {
            let digit = self.take().and_then(|byte| char::from(byte).to_digit(16));
            digit.map(|digit| digit as u8).ok_or(LexError::Escape)
        };
        Ok(digit()? << 4 | digit()?)
    }
}

/// `name` such that the shell reads it back as one word that is no pattern.
pub fn quote(name: &[u8]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%=,^".contains(c);
    match std::str::from_utf8(name) {
        Ok(text) if !text.chars().any(char::is_control) => {
            let mut out = String::new();
            for (at, c) in text.chars().enumerate() {
                // Only at the beginning does a hash mean anything.
                let inner_hash = c == '#' && at > 0;
                if !plain(c) && !inner_hash {
                    out.push('\\');
                }
                out.push(c);
            }
            if out.is_empty() { "''".to_owned() } else { out }
        }
        _ => {
            let mut out = "$'".to_owned();
            for byte in name {
                match byte {
                    b'\'' | b'\\' => out.extend(['\\', char::from(*byte)]),
                    b' '..=b'~' => out.push(char::from(*byte)),
                    byte => out.push_str(&format!("\\x{byte:02x}")),
                }
            }
            out.push('\'');
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Vec<String>> {
        let statements = parse(line.as_bytes()).unwrap();
        let text = |word: &Word| String::from_utf8_lossy(&word.bytes).into_owned();
        let words = |statement: &Statement| statement.words.iter().map(text).collect();
        statements.iter().map(words).collect()
    }

    #[test]
    fn quotes_work_as_in_sh() {
        assert_eq!(
            words(r#"a 'b c' "d \"e\" \f" g\ h"#),
            [["a", "b c", r#"d "e" \f"#, "g h"]]
        );
        assert_eq!(words(r"x''y a'b'c"), [["xy", "abc"]]);
        assert_eq!(words(r#"'' """#), [["", ""]]);
        assert_eq!(words(r"$'a\n\x41\''"), [["a\nA'"]]);
    }

    #[test]
    fn statements_end_at_semicolons_and_lines() {
        assert_eq!(
            words("ls -l; cd x\npwd ;; # no\n#all\na#b"),
            [vec!["ls", "-l"], vec!["cd", "x"], vec!["pwd"], vec!["a#b"],]
        );
        assert_eq!(words("  \n"), Vec::<Vec<String>>::new());
        assert_eq!(words("echo ';' \\;"), [["echo", ";", ";"]]);
    }

    #[test]
    fn a_leading_dash_ignores_errors_and_is_no_word() {
        let statements = parse(b"-rm x; - ls; ls -l").unwrap();
        let flags: Vec<bool> = statements.iter().map(|s| s.ignore_error).collect();
        assert_eq!(flags, [true, true, false]);
        assert_eq!(statements[0].words[0].bytes, b"rm");
        assert_eq!(statements[2].words[1].bytes, b"-l");
    }

    #[test]
    fn quoted_stars_are_no_patterns() {
        let statements = parse(br#"a* 'a*' a\* "a?""#).unwrap();
        let patterns: Vec<bool> = statements[0].words.iter().map(Word::is_pattern).collect();
        assert_eq!(patterns, [true, false, false, false]);
    }

    #[test]
    fn unfinished_lines_are_told_apart() {
        for (line, error) in [
            ("a 'b", LexError::Unclosed('\'')),
            ("a \"b", LexError::Unclosed('"')),
            ("a\\", LexError::Backslash),
            ("$'\\q'", LexError::Escape),
            ("$'\\x4", LexError::Escape),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(error), "{line}");
        }
        let lexed = lex(b"get 'my fi");
        assert_eq!(lexed.statements[0].words[1].bytes, b"my fi");
        assert_eq!(lexed.statements[0].starts, [0, 4]);
        assert!(lexed.in_word && !lex(b"get ").in_word);
        assert_eq!(lex(b"ls $'x").statements[0].starts, [0, 3]);
    }

    #[test]
    fn what_is_quoted_reads_back_as_one_word() {
        for name in [
            &b"plain"[..],
            b"with blank",
            b"#x",
            b"a;b'c\"d\\e*?[x]{a,b}$",
            b"\xff\n'",
            b"",
            "é".as_bytes(),
        ] {
            let statements = parse(format!("x {}", quote(name)).as_bytes()).unwrap();
            assert_eq!(statements[0].words[1].bytes, name);
            assert!(!statements[0].words[1].is_pattern());
            assert_eq!(statements[0].words[1].clone().braces().len(), 1);
        }
    }
}
