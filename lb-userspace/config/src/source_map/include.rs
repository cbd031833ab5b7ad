//! The source map of several files: lists of included files go on where those of the first end.

use super::{Content, Entry, Node, NodeId, Position, SourceMap};
use crate::error::Found;

impl SourceMap {
    /// Names the files, by number.
    pub(crate) fn name_files(&mut self, names: Vec<String>) {
        self.files = names;
    }

    /// Takes down what scalars with references stand for, by `expand`, and returns what is wrong
    /// with them.
    pub(crate) fn expand(&mut self, mut expand: impl FnMut(&str) -> Result<String, String>) -> Vec<Found> {
        let mut found = Vec::new();
        for (id, text) in std::mem::take(&mut self.marked) {
            match expand(&text) {
                Ok(value) => drop(self.expanded.insert(id, value)),
                Err(why) => found.push((self.nodes[id].at, why)),
            }
        }
        found
    }

    /// Appends the lists `keys` of the file with this number.
    pub(crate) fn include(&mut self, other: Self, file: usize, keys: &[&str]) {
        let offset = self.nodes.len();
        self.nodes.extend(other.nodes.into_iter().map(|node| moved(node, file, offset)));
        self.expanded.extend(other.expanded.into_iter().map(|(id, text)| (id + offset, text)));
        for key in keys {
            let Some(theirs) = self.entry(offset, key) else { continue };
            let items = self.items_of(theirs.value);
            let Some(ours) = self.entry(0, key) else {
                self.set(theirs.clone(), theirs.value);
                continue;
            };
            match &mut self.nodes[ours.value].content {
                Content::List(list) => list.extend(items),
                _ => {
                    let items = self.items_of(ours.value).into_iter().chain(items).collect();
                    let Node { at, span, .. } = &self.nodes[ours.value];
                    let node = Node { at: *at, span: span.clone(), content: Content::List(items) };
                    self.nodes.push(node);
                    self.set(ours, self.nodes.len() - 1);
                }
            }
        }
    }

    fn entry(&self, map: NodeId, key: &str) -> Option<Entry> {
        let Content::Map(entries) = &self.nodes.get(map)?.content else { return None };
        entries.iter().find(|entry| entry.key == key).cloned()
    }

    fn items_of(&self, list: NodeId) -> Vec<NodeId> {
        match &self.nodes[list].content {
            Content::List(items) => items.clone(),
            Content::Alias(target) => self.items_of(*target),
            Content::Nothing | Content::Scalar | Content::Map(_) => Vec::new(),
        }
    }

    /// Gives the root's entry this value.
    fn set(&mut self, entry: Entry, value: NodeId) {
        let Some(Node { content: Content::Map(entries), .. }) = self.nodes.first_mut() else { return };
        match entries.iter_mut().find(|known| known.key == entry.key) {
            Some(known) => known.value = value,
            None => entries.push(Entry { value, ..entry }),
        }
    }
}

fn moved(node: Node, file: usize, offset: usize) -> Node {
    let within = |at: Position| at.of_file(file);
    let content = match node.content {
        Content::Nothing => Content::Nothing,
        Content::Scalar => Content::Scalar,
        Content::List(items) => Content::List(items.into_iter().map(|id| id + offset).collect()),
        Content::Map(entries) => {
            let entry =
                |entry: Entry| Entry { key_at: within(entry.key_at), value: entry.value + offset, ..entry };
            Content::Map(entries.into_iter().map(entry).collect())
        }
        Content::Alias(target) => Content::Alias(target + offset),
    };
    Node { at: within(node.at), span: node.span, content }
}
