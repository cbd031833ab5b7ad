//! Where each value of a YAML file stands.
//!
//! serde hands on values without their positions, and serde_yaml reports a doubled key at the start of its mapping.
//! So the file is read a second time, as events, into a tree that holds nothing but positions.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, Span};

/// Line and column, both counted from 1; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    pub(crate) const START: Self = Self { line: 1, column: 1 };

    /// The position of byte `offset` of `text`.
    pub(crate) fn of_byte(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let (line, last) = lines(before).fold((0, ""), |(count, _), line| (count + 1, line));
        Self { line, column: last.chars().count() + 1 }
    }
}

/// The lines of a YAML 1.2 file, whatever editor wrote it.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split("\r\n").flat_map(|part| part.split(['\n', '\r']))
}

impl From<&Marker> for Position {
    /// saphyr counts columns from 0.
    fn from(marker: &Marker) -> Self {
        Self { line: marker.line().max(1), column: marker.col() + 1 }
    }
}

/// The positions of a file's first document, and where a second one begins.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// The first is the root.
    nodes: Vec<Node>,
    pub second_document: Option<Position>,
}

#[derive(Debug)]
struct Node {
    at: Position,
    /// Where it begins and ends, in characters of the text; the end is not part of it.
    span: Range<usize>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// An absent value, as in `key:`.
    Nothing,
    Scalar,
    List(Vec<NodeId>),
    Map(Vec<Entry>),
    Alias(NodeId),
}

type NodeId = usize;

#[derive(Debug)]
struct Entry {
    key: String,
    key_at: Position,
    /// Of the key's first character in the text.
    key_start: usize,
    value: NodeId,
}

impl Places {
    /// Reads `text` as far as it is YAML.
    pub(crate) fn of(text: &str) -> Self {
        let mut reader = Reader::default();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            let span = if has_tag(&event) { behind_tag(text, span) } else { span };
            reader.event(event, span);
            if reader.places.second_document.is_some() {
                break;
            }
        }
        reader.places
    }

    /// The entry, key and value, whose key or value begins at `at`; of several the innermost. Of an item of a list the
    /// entry that the list is the value of.
    pub(crate) fn entry_at(&self, at: Position) -> Option<EntryText> {
        let ids = 0..self.nodes.len();
        // Children come after their parents, so the last is the innermost.
        ids.rev().find_map(|id| {
            let Content::Map(entries) = &self.nodes[id].content else { return None };
            let entry = entries.iter().find(|entry| entry.key_at == at || self.begins_at(entry.value, at))?;
            Some(EntryText {
                key: entry.key.clone(),
                span: entry.key_start..self.nodes[entry.value].span.end,
            })
        })
    }

    /// The node, or an item of it if it is a list.
    fn begins_at(&self, node: NodeId, at: Position) -> bool {
        let Node { at: begins, content, .. } = &self.nodes[node];
        let in_list = || match content {
            Content::List(items) => items.iter().any(|item| self.nodes[*item].at == at),
            _ => false,
        };
        *begins == at || in_list()
    }

    /// Whether the file holds comments and document marks at most.
    pub(crate) fn is_blank(&self) -> bool {
        matches!(self.nodes.as_slice(), [] | [Node { content: Content::Nothing, .. }])
    }

    pub(crate) fn root(&self) -> Place<'_> {
        let at = self.nodes.first().map_or(Position::START, |root| root.at);
        Place { places: self, node: (!self.nodes.is_empty()).then_some(0), at, key_at: at }
    }
}

/// An entry of a mapping as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntryText {
    pub key: String,
    /// In characters of the file.
    pub span: Range<usize>,
}

/// A cursor into [`Places`]. A step to what is not there stays where it is, so that there always is a position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    places: &'a Places,
    node: Option<NodeId>,
    at: Position,
    key_at: Position,
}

impl<'a> Place<'a> {
    /// Where the value begins.
    pub(crate) fn at(self) -> Position {
        self.at
    }

    /// Where the key of the value begins; for list items and the root, the value itself.
    pub(crate) fn key_at(self) -> Position {
        self.key_at
    }

    /// The value of `key` in this mapping.
    pub(crate) fn key(self, key: &str) -> Self {
        self.occurrence(key, 0).unwrap_or(Self { node: None, ..self })
    }

    /// The `n`-th value of `key` in this mapping, counted from 0.
    pub(crate) fn occurrence(self, key: &str, n: usize) -> Option<Self> {
        let Content::Map(entries) = self.content()? else { return None };
        let entry = entries.iter().filter(|entry| entry.key == key).nth(n)?;
        let at = self.places.nodes.get(entry.value)?.at;
        Some(Self { places: self.places, node: Some(entry.value), at, key_at: entry.key_at })
    }

    /// The item `index` of this list.
    pub(crate) fn item(self, index: usize) -> Self {
        let Some(Content::List(items)) = self.content() else { return Self { node: None, ..self } };
        let Some(&node) = items.get(index) else { return Self { node: None, ..self } };
        let at = self.places.nodes.get(node).map_or(self.at, |node| node.at);
        Self { places: self.places, node: Some(node), at, key_at: at }
    }

    /// What is written here, or at the anchor that an alias here refers to.
    fn content(self) -> Option<&'a Content> {
        let nodes = &self.places.nodes;
        match &nodes.get(self.node?)?.content {
            // An anchor's node is never an alias: YAML has no anchors on aliases.
            Content::Alias(target) => nodes.get(*target).map(|node| &node.content),
            content => Some(content),
        }
    }
}

/// Builds [`Places`] from events, without recursion: nesting is as deep as the file likes.
#[derive(Default)]
struct Reader {
    places: Places,
    documents: usize,
    /// By saphyr's anchor number.
    anchors: HashMap<usize, NodeId>,
    /// The lists and mappings that are open, and of a mapping the key whose value comes next.
    open: Vec<(NodeId, Option<Key>)>,
}

/// A key whose value comes next.
struct Key {
    text: String,
    at: Position,
    start: usize,
}

const fn has_tag(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_))
    )
}

/// The span without the tag (`!!int`) and the anchor that it begins with: a mistake is the value's.
fn behind_tag(text: &str, mut span: Span) -> Span {
    let (mut index, mut line, mut column) = (span.start.index(), span.start.line(), span.start.col());
    let mut in_property = false;
    for character in text.chars().skip(index).take(span.len()) {
        in_property = match character {
            '!' | '&' => true,
            _ => in_property && !character.is_whitespace(),
        };
        if !in_property && !character.is_whitespace() {
            break;
        }
        index += 1;
        (line, column) = if character == '\n' { (line + 1, 0) } else { (line, column + 1) };
    }
    span.start = Marker::new(index, line, column);
    span
}

impl Reader {
    fn event(&mut self, event: Event<'_>, span: Span) {
        let at = Position::from(&span.start);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                self.places.second_document = (self.documents > 1).then_some(at);
            }
            Event::Scalar(text, _, anchor, _) => {
                let (at, content) = if span.is_empty() {
                    (self.pending_key().unwrap_or(at), Content::Nothing)
                } else {
                    (at, Content::Scalar)
                };
                self.node(at, span, content, anchor, &text);
            }
            Event::SequenceStart(anchor, _) => {
                let node = self.node(at, span, Content::List(Vec::new()), anchor, "");
                self.open.push((node, None));
            }
            Event::MappingStart(anchor, _) => {
                let node = self.node(at, span, Content::Map(Vec::new()), anchor, "");
                self.open.push((node, None));
            }
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor).map_or(Content::Scalar, |node| Content::Alias(*node));
                self.node(at, span, target, 0, "");
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((node, _)) = self.open.pop() {
                    self.places.nodes[node].span.end = span.end.index();
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }

    /// An absent value has no place of its own: it is reported at its key.
    fn pending_key(&self) -> Option<Position> {
        let (_, key) = self.open.last()?;
        key.as_ref().map(|key| key.at)
    }

    /// Adds a node to the list or mapping that is open; in a mapping every other node is a key.
    fn node(&mut self, at: Position, span: Span, content: Content, anchor: usize, text: &str) -> NodeId {
        let id = self.places.nodes.len();
        let span = span.start.index()..span.end.index();
        let start = span.start;
        self.places.nodes.push(Node { at, span, content });
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        if let Some((parent, key)) = self.open.last_mut() {
            match &mut self.places.nodes[*parent].content {
                Content::List(items) => items.push(id),
                Content::Map(entries) => match key.take() {
                    Some(Key { text: key, at: key_at, start: key_start }) => {
                        entries.push(Entry { key, key_at, key_start, value: id });
                    }
                    None => *key = Some(Key { text: text.to_owned(), at, start }),
                },
                Content::Nothing | Content::Scalar | Content::Alias(_) => {}
            }
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_at(place: Place<'_>, line: usize, column: usize) {
        assert_eq!(place.at(), Position { line, column });
    }

    #[test]
    fn values_and_keys() {
        let places =
            Places::of("# top\na: 1\nlist:\n  - x: 웹\n    y: 'z'\n  - { x: 3, y: 4 }\nempty:\nlast: 1\n");
        let root = places.root();
        assert_at(root, 2, 1);
        assert_at(root.key("a"), 2, 4);
        assert_at(root.key("list").item(0), 4, 5);
        assert_at(root.key("list").item(0).key("y"), 5, 8);
        assert_at(root.key("list").item(1), 6, 5);
        assert_at(root.key("list").item(1).key("y"), 6, 16);
        assert_eq!(root.key("list").item(1).key("y").key_at(), Position { line: 6, column: 13 });
        assert_at(root.key("empty"), 7, 1);
    }

    #[test]
    fn anchors_and_aliases() {
        let places = Places::of("a: &n { x: 1 }\nb: *n\nc: &m\n  x: 1\nd: !t 5\n");
        let root = places.root();
        assert_at(root.key("b"), 2, 4);
        assert_at(root.key("b").key("x"), 1, 12);
        assert_at(root.key("c").key("x"), 4, 6);
    }

    #[test]
    fn what_is_not_there_stays_where_it_is() {
        let places = Places::of("a: 1\nb: [1]\n");
        let root = places.root();
        assert_at(root.key("nothing"), 1, 1);
        assert_at(root.key("nothing").key("a"), 1, 1);
        assert_at(root.key("b").item(9), 2, 4);
        assert_at(Places::of("").root().key("a").item(1), 1, 1);
    }

    #[test]
    fn doubled_keys_and_documents() {
        let places = Places::of("a: 1\nb: 1\na: 2\n---\nc: 3\n");
        assert_at(places.root().occurrence("a", 1).expect("given twice"), 3, 4);
        assert_eq!(places.second_document, Some(Position { line: 4, column: 1 }));
    }

    #[test]
    fn byte_offsets() {
        assert_eq!(Position::of_byte("a\n웹b", 5), Position { line: 2, column: 2 });
        assert_eq!(Position::of_byte("a", 99), Position { line: 1, column: 2 });
        assert_eq!(Position::of_byte("a\r\nb\rc", 6), Position { line: 3, column: 2 });
    }
}
