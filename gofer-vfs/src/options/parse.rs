//! Reading the option string: splitting it (semantics 2.1, 2.4a), then taking one key after the
//! other in the order of semantics 2.3, so that the first bad one in *that* order is reported.

use std::str::FromStr;

use super::{Admission, KEYS, LockPlace, MountOptions, OptionError, Trans};
use crate::error::printable;
use crate::interop::{InteropMode, UnknownMode};

type Result<T> = std::result::Result<T, OptionError>;

/// Reads an option string.
pub(super) fn parse(text: &[u8]) -> Result<MountOptions> {
    let mut items = Items::split(text);
    let mut options = MountOptions::new(transport(&mut items)?);
    if let Some(aname) = items.take("aname") {
        options.aname = normalised(&aname)?;
    }
    if let Some(word) = items.take("cache") {
        options.cache = InteropMode::from_name(&word)
            .ok_or_else(|| OptionError::new("cache", bad(&word, UnknownMode)))?;
    }
    items.unsigned("dfltuid", &mut options.dfltuid)?;
    items.unsigned("dfltgid", &mut options.dfltgid)?;
    items.unsigned("msize", &mut options.msize)?;
    options.version = items.text("version")?;
    items.unsigned("dentry_cache_limit", &mut options.dentry_cache_limit)?;
    options.channels = items.unsigned_if_given("channels")?;
    if let Some(word) = items.take("locks") {
        options.locks = [LockPlace::Local, LockPlace::Server]
            .into_iter()
            .find(|place| place.name().as_bytes() == word)
            .ok_or_else(|| OptionError::new("locks", bad(&word, "expected local or server")))?;
    }
    if let Some(word) = items.take("access") {
        options.access = admission(&word)?;
    }
    items.unsigned("reconnect", &mut options.reconnect)?;
    items.unsigned("page_cache_limit", &mut options.page_cache_limit)?;
    items.unsigned("revalidate_after", &mut options.revalidate_after)?;
    if options.revalidate_after != 0 && !options.cache.must_revalidate() {
        let why = format!("nothing is checked with cache={}", options.cache);
        return Err(OptionError::new("revalidate_after", why));
    }
    options.force_page_cache = items.take("force_page_cache").is_some();
    options.limit_host_fd_translation = items.take("limit_host_fd_translation").is_some();
    options.overlayfs_stale_read = items.take("overlayfs_stale_read").is_some();
    items.boolean("lisafs", &mut options.lisafs)?;
    items.boolean("directfs", &mut options.directfs)?;
    if options.lisafs && matches!(options.trans, Trans::Tcp { .. }) {
        let why = "lisafs does not run over TCP, which cannot carry descriptors";
        return Err(OptionError::new("lisafs", why));
    }
    if options.directfs && !options.lisafs {
        let why = "only lisafs servers give away a descriptor of their root";
        return Err(OptionError::new("directfs", why));
    }
    if options.reconnect > 0 && (options.lisafs || matches!(options.trans, Trans::Fd { .. })) {
        let why = "only 9P over an address (trans=unix or tcp) can be connected again";
        return Err(OptionError::new("reconnect", why));
    }
    items.none_left(&options.trans)?;
    Ok(options)
}

fn admission(word: &[u8]) -> Result<Admission> {
    let digits = !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    match (word, digits.then(|| number(word)).flatten()) {
        (b"any", _) => Ok(Admission::Any),
        // The largest number is nobody's: it says that there is none (9P 2.3).
        (_, Some(uid)) if uid != u32::MAX => Ok(Admission::Only(uid)),
        (b"user" | b"client", _) => {
            let why = "an attach for each user is not supported; expected any or a user's number";
            Err(OptionError::new("access", bad(word, why)))
        }
        _ => Err(OptionError::new(
            "access",
            bad(word, "expected any or a user's number"),
        )),
    }
}

fn transport(items: &mut Items) -> Result<Trans> {
    let Some(trans) = items.take("trans") else {
        return Err(OptionError::new("trans", "required: fd, unix or tcp"));
    };
    match trans.as_slice() {
        b"fd" => descriptors(items),
        b"unix" => {
            let address = items.address("the path of the server's socket")?;
            Ok(Trans::Unix { address })
        }
        b"tcp" => {
            let address = items.address("the server's host:port")?;
            let address = text_of("address", address)?;
            Ok(Trans::Tcp { address })
        }
        _ => Err(OptionError::new(
            "trans",
            bad(&trans, "expected fd, unix or tcp"),
        )),
    }
}

fn descriptors(items: &mut Items) -> Result<Trans> {
    let rfd = items.descriptor("rfdno")?;
    let wfd = items.descriptor("wfdno")?;
    // `lisafs` has its turn later; a bad word there is reported there.
    let lisafs = items.peek("lisafs").and_then(boolean) == Some(true);
    if lisafs && rfd != wfd {
        let why = format!("{wfd} differs from rfdno {rfd}; lisafs needs one socket for both");
        return Err(OptionError::new("wfdno", why));
    }
    Ok(Trans::Fd { rfd, wfd })
}

/// The items of an option string that no one has taken yet, in the order given; a repeated key
/// keeps its last value only.
struct Items(Vec<(Vec<u8>, Vec<u8>)>);

impl Items {
    fn split(text: &[u8]) -> Items {
        let mut items = Items(Vec::new());
        let mut rest = text;
        while !rest.is_empty() {
            let (key, value, after) = split_one(rest);
            rest = after;
            let Some((key, value)) = key.map(|key| (key.to_vec(), value)) else {
                continue;
            };
            items.0.retain(|item| item.0 != key);
            items.0.push((key, value));
        }
        items
    }

    fn take(&mut self, key: &str) -> Option<Vec<u8>> {
        let at = self.0.iter().position(|item| item.0 == key.as_bytes())?;
        Some(self.0.remove(at).1)
    }

    fn peek(&self, key: &str) -> Option<&[u8]> {
        let item = self.0.iter().find(|item| item.0 == key.as_bytes())?;
        Some(&item.1)
    }

    fn text(&mut self, key: &str) -> Result<Option<String>> {
        self.take(key).map(|value| text_of(key, value)).transpose()
    }

    fn address(&mut self, what: &str) -> Result<Vec<u8>> {
        match self.take("address") {
            Some(address) if !address.is_empty() => Ok(address),
            _ => Err(OptionError::new("address", format!("required: {what}"))),
        }
    }

    fn descriptor(&mut self, key: &str) -> Result<i32> {
        let Some(value) = self.take(key) else {
            return Err(OptionError::new(key, "required: a descriptor's number"));
        };
        number(&value)
            .ok_or_else(|| OptionError::new(key, bad(&value, "expected a descriptor's number")))
    }

    fn unsigned<T: FromStr>(&mut self, key: &str, into: &mut T) -> Result<()> {
        if let Some(given) = self.unsigned_if_given(key)? {
            *into = given;
        }
        Ok(())
    }

    fn unsigned_if_given<T: FromStr>(&mut self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        // The standard library accepts a leading `+`; mount options do not.
        let digits = value.iter().all(u8::is_ascii_digit);
        match digits.then(|| number(&value)).flatten() {
            None => {
                let bits = 8 * size_of::<T>();
                let expected = format!("expected an unsigned {bits}-bit decimal number");
                Err(OptionError::new(key, bad(&value, expected)))
            }
            given => Ok(given),
        }
    }

    fn boolean(&mut self, key: &str, into: &mut bool) -> Result<()> {
        let Some(word) = self.take(key) else {
            return Ok(());
        };
        let expected = "expected a boolean such as true or false";
        *into = boolean(&word).ok_or_else(|| OptionError::new(key, bad(&word, expected)))?;
        Ok(())
    }

    fn none_left(&self, trans: &Trans) -> Result<()> {
        let Some((key, _)) = self.0.first() else {
            return Ok(());
        };
        let key = printable(key);
        let why = match KEYS.iter().find(|known| known.0 == key) {
            Some(_) => format!("not used with trans={}", trans.name()),
            None => match nearest(&key, super::keys()) {
                Some(known) => format!("unknown; did you mean `{known}`?"),
                None => "unknown".to_owned(),
            },
        };
        Err(OptionError::new(&key, why))
    }
}

/// Splits off the first item: its key (`None` if the item is empty), its unescaped value, and
/// what follows the comma.
fn split_one(text: &[u8]) -> (Option<&[u8]>, Vec<u8>, &[u8]) {
    let end = text.iter().position(|byte| matches!(byte, b'=' | b','));
    let end = end.unwrap_or(text.len());
    let (key, mut rest) = text.split_at(end);
    let mut value = Vec::new();
    let named = rest.first() == Some(&b'=');
    if named {
        rest = &rest[1..];
        loop {
            match rest {
                [b'\\', escaped @ (b',' | b'\\'), after @ ..] => {
                    value.push(*escaped);
                    rest = after;
                }
                [] | [b',', ..] => break,
                [byte, after @ ..] => {
                    value.push(*byte);
                    rest = after;
                }
            }
        }
    }
    let after = rest.get(1..).unwrap_or_default();
    ((named || !key.is_empty()).then_some(key), value, after)
}

fn number<T: FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The words of semantics 2.2; none at all is true, so that the printed form is accepted.
fn boolean(word: &[u8]) -> Option<bool> {
    match word {
        b"" | b"1" | b"t" | b"T" | b"TRUE" | b"true" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"FALSE" | b"false" | b"False" => Some(false),
        _ => None,
    }
}

fn text_of(key: &str, value: Vec<u8>) -> Result<String> {
    String::from_utf8(value)
        .map_err(|error| OptionError::new(key, bad(error.as_bytes(), "expected UTF-8 text")))
}

/// An absolute path without empty components, `.` and `..`; `..` above the root stays there.
fn normalised(aname: &[u8]) -> Result<Vec<u8>> {
    if aname.first() != Some(&b'/') {
        return Err(OptionError::new(
            "aname",
            bad(aname, "expected a path that starts with `/`"),
        ));
    }
    let mut components: Vec<&[u8]> = Vec::new();
    for component in aname.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(components.pop()),
            _ => components.push(component),
        }
    }
    Ok([b"/", components.join(&b'/').as_slice()].concat())
}

fn bad(value: &[u8], expected: impl std::fmt::Display) -> String {
    format!("bad value `{}`: {expected}", printable(value))
}

/// Which of `known` the word `key` is most likely a slip of, if it is near enough to any.
pub fn nearest<'k>(key: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    known
        .into_iter()
        .map(|known| (distance(key.as_bytes(), known.as_bytes()), known))
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 3))
        .min()
        .map(|(_, known)| known)
}

/// How many bytes must be inserted, deleted or replaced to make `a` of `b` (Levenshtein).
fn distance(a: &[u8], b: &[u8]) -> usize {
    // A key can be as long as the option string; far too long is far.
    if a.len() > 2 * b.len() + 4 {
        return a.len();
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
