//! The nodes below a node, by name.

use std::collections::HashMap;
use std::sync::Weak;

use smallvec::SmallVec;

use super::Node;

/// The name of an entry. The usual ones take no memory of their own.
pub(super) type EntryName = SmallVec<[u8; 32]>;

/// Children of one node. The first takes no memory of its own either: on the way down a path there
/// are no others.
#[derive(Debug, Default)]
pub(super) struct Children {
    first: Option<(EntryName, Weak<Node>)>,
    others: HashMap<EntryName, Weak<Node>>,
}

impl Children {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Weak<Node>> {
        match &self.first {
            Some((first, node)) if &first[..] == name => Some(node),
            _ => self.others.get(name),
        }
    }

    /// Puts `node` under `name`, in place of whatever was there.
    pub(super) fn insert(&mut self, name: EntryName, node: Weak<Node>) {
        match &mut self.first {
            Some((first, place)) if *first == name => *place = node,
            None if !self.others.contains_key(&name) => self.first = Some((name, node)),
            _ => drop(self.others.insert(name, node)),
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        match &self.first {
            Some((first, _)) if &first[..] == name => self.first = None,
            _ => drop(self.others.remove(name)),
        }
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Weak<Node>> {
        let first = self.first.iter().map(|(_, node)| node);
        first.chain(self.others.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(children: &Children) -> Vec<&[u8]> {
        let known = [&b"a"[..], b"b", b"c"];
        let there = known
            .into_iter()
            .filter(|name| children.get(name).is_some());
        let there: Vec<_> = there.collect();
        assert_eq!(children.nodes().count(), there.len());
        there
    }

    #[test]
    fn a_name_is_there_once_wherever_it_is_kept() {
        let mut children = Children::default();
        let insert = |children: &mut Children, name: &[u8]| {
            children.insert(EntryName::from_slice(name), Weak::new());
        };
        insert(&mut children, b"a");
        insert(&mut children, b"b");
        insert(&mut children, b"a");
        assert_eq!(names(&children), [b"a", b"b"]);
        children.remove(b"a");
        assert_eq!(names(&children), [b"b"]);
        insert(&mut children, b"b");
        insert(&mut children, b"c");
        assert_eq!(names(&children), [b"b", b"c"]);
        children.remove(b"b");
        children.remove(b"b");
        insert(&mut children, b"a");
        children.remove(b"c");
        assert_eq!(names(&children), [b"a"]);
    }
}
