//! All there is in a tree, found by operations.

use std::collections::BTreeMap;

use gofer_vfs::{Errno, FileType};

use super::op::{Answer, Facts, Op, Side, Target, User};
use super::path::Path;

/// What is at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its attributes.
    pub facts: Facts,
    /// The first path that leads to the same file.
    pub first: Path,
    /// Its content, its names, or what it points to.
    pub holds: Answer,
    /// Its extended attributes.
    pub xattrs: Vec<(Vec<u8>, Answer)>,
}

/// Every path of a tree.
pub type Survey = BTreeMap<Path, Found>;

/// Looks at everything: at all attributes first, since to look into a file is an access of it.
pub fn survey(side: &mut dyn Side, xattrs: bool, atimes: bool) -> Result<Survey, String> {
    let mut all = Survey::new();
    let mut firsts = BTreeMap::new();
    let mut left = vec![Path::from(".")];
    while let Some(path) = left.pop() {
        let facts = match ask(side, Op::Stat(Target::Link(path.clone())))? {
            Answer::Facts(facts) => facts,
            other => return Err(format!("stat of {path} is {other:?}")),
        };
        let mut holds = Answer::Nothing;
        if facts.kind == FileType::Directory {
            holds = ask(side, Op::List(path.clone()))?;
        }
        if let Answer::Names(names) = &holds {
            let real = |name: &&(Vec<u8>, _)| name.0 != b"." && name.0 != b"..";
            for (name, _) in names.iter().filter(real).rev() {
                left.push(path.join(name));
            }
        }
        let first = firsts.entry(facts.ino).or_insert_with(|| path.clone());
        let found = Found {
            first: first.clone(),
            facts: if atimes { facts } else { facts.without_atime() },
            holds,
            xattrs: Vec::new(),
        };
        all.insert(path, found);
    }
    for (path, found) in &mut all {
        match found.facts.kind {
            FileType::Regular => found.holds = ask(side, Op::Content(path.clone()))?,
            FileType::Symlink => found.holds = ask(side, Op::ReadLink(path.clone()))?,
            _ => {}
        }
        let has = matches!(found.facts.kind, FileType::Regular | FileType::Directory);
        if xattrs && has {
            found.xattrs = attributes(side, path)?;
        }
    }
    Ok(all)
}

fn attributes(side: &mut dyn Side, path: &Path) -> Result<Vec<(Vec<u8>, Answer)>, String> {
    let target = || Target::Path(path.clone());
    let names = match ask(side, Op::ListXattr(target()))? {
        Answer::Words(names) => names,
        other => return Err(format!("attributes of {path} are {other:?}")),
    };
    let mut attributes = Vec::new();
    for name in names {
        let known = ["user.a", "user.b"];
        let known = known.into_iter().find(|known| known.as_bytes() == name);
        let value = match known {
            Some(known) => ask(side, Op::GetXattr(target(), known, 0))?,
            None => Answer::Nothing,
        };
        attributes.push((name, value));
    }
    Ok(attributes)
}

fn ask(side: &mut dyn Side, op: Op) -> Result<Answer, String> {
    let said = side.run(User::Root, &op);
    said.map_err(|errno: Errno| format!("{op:?}: {errno:?}"))
}

/// The first thing in which two trees differ.
pub fn difference(found: &Survey, expected: &Survey) -> Option<String> {
    for (path, entry) in expected {
        match found.get(path) {
            None => return Some(format!("{path} is missing, expected {entry:?}")),
            Some(other) if other != entry => {
                return Some(format!("{path}: found {other:?}, expected {entry:?}"));
            }
            Some(_) => {}
        }
    }
    let more = found.iter().find(|(path, _)| !expected.contains_key(*path));
    more.map(|(path, entry)| format!("{path} should not be there: {entry:?}"))
}
