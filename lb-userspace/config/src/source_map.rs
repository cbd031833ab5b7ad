//! The source map: line and column of each value of a YAML file.
//!
//! serde passes on values without their source spans, and serde_yaml reports a duplicate key at the
//! start of its mapping. So `saphyr-parser` parses the file a second time, into a tree that holds
//! nothing but positions.

mod include;

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, Span};

use super::references::REFERENCE;

/// A place in one of the files. Line and column are counted from 1; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// 0 is the file that includes the others.
    pub file: usize,
    pub line: usize,
    pub column: usize,
}

impl Position {
    pub(crate) const START: Self = Self::new(1, 1);

    /// In the first file.
    pub(crate) const fn new(line: usize, column: usize) -> Self {
        Self { file: 0, line, column }
    }

    pub(crate) const fn of_file(self, file: usize) -> Self {
        Self { file, ..self }
    }

    /// The position of byte `offset` of `text`.
    pub(crate) fn of_byte(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let (line, last) = lines(before).fold((0, ""), |(count, _), line| (count + 1, line));
        Self::new(line, last.chars().count() + 1)
    }
}

/// The lines of a YAML 1.2 file; they end with LF, CR or both.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split("\r\n").flat_map(|part| part.split(['\n', '\r']))
}

impl From<&Marker> for Position {
    /// saphyr counts columns from 0.
    fn from(marker: &Marker) -> Self {
        Self::new(marker.line().max(1), marker.col() + 1)
    }
}

/// The source spans of a file's first document, and the position of a second one.
#[derive(Debug, Default)]
pub(crate) struct SourceMap {
    /// The first is the root.
    nodes: Vec<Node>,
    pub second_document: Option<Position>,
    /// Scalars in which references may be, and their text.
    marked: Vec<(NodeId, String)>,
    /// What scalars with references stand for.
    expanded: HashMap<NodeId, String>,
    /// Names of the files, by number, once there are several.
    files: Vec<String>,
}

#[derive(Debug)]
struct Node {
    at: Position,
    /// In characters of the text.
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

#[derive(Debug, Clone)]
struct Entry {
    key: String,
    key_at: Position,
    /// Index of the key's first character in the text.
    key_start: usize,
    value: NodeId,
}

impl SourceMap {
    /// Parses `text` up to its first syntax error.
    pub(crate) fn of(text: &str) -> Self {
        let mut reader = Reader::default();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            let span = if has_tag(&event) { behind_tag(text, span) } else { span };
            reader.event(event, span);
            if reader.map.second_document.is_some() {
                break;
            }
        }
        reader.map
    }

    /// The innermost mapping entry whose key or value begins at `at`. An item of a list counts as
    /// its list's entry.
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

    /// Whether the node, or an item of it if it is a list, begins at `at`.
    fn begins_at(&self, node: NodeId, at: Position) -> bool {
        let Node { at: begins, content, .. } = &self.nodes[node];
        let in_list = || match content {
            Content::List(items) => items.iter().any(|item| self.nodes[*item].at == at),
            _ => false,
        };
        *begins == at || in_list()
    }

    /// Whether the file has no content besides comments and document marks.
    pub(crate) fn is_blank(&self) -> bool {
        matches!(self.nodes.as_slice(), [] | [Node { content: Content::Nothing, .. }])
    }

    /// Whether something stands in one place and counts in another, too.
    pub(crate) fn has_aliases(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.content, Content::Alias(_)))
    }

    pub(crate) fn root(&self) -> SourceSpan<'_> {
        let at = self.nodes.first().map_or(Position::START, |root| root.at);
        SourceSpan { map: self, node: (!self.nodes.is_empty()).then_some(0), at, key_at: at }
    }
}

/// A mapping's entry in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntryText {
    pub key: String,
    /// From the key to the end of the value, in characters of the file.
    pub span: Range<usize>,
}

/// The source span of a value: a cursor into the [`SourceMap`]. A step to an absent key or item
/// keeps the position of the mapping or list, so every span has a position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceSpan<'a> {
    map: &'a SourceMap,
    node: Option<NodeId>,
    at: Position,
    key_at: Position,
}

impl<'a> SourceSpan<'a> {
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
        let at = self.map.nodes.get(entry.value)?.at;
        Some(Self { map: self.map, node: Some(entry.value), at, key_at: entry.key_at })
    }

    /// Where `key` of this mapping begins, and where the key behind it does, in characters.
    pub(crate) fn key_starts(self, key: &str) -> Option<(usize, Option<usize>)> {
        let Content::Map(entries) = self.content()? else { return None };
        let index = entries.iter().position(|entry| entry.key == key)?;
        Some((entries[index].key_start, entries.get(index + 1).map(|next| next.key_start)))
    }

    /// The item `index` of this list.
    pub(crate) fn item(self, index: usize) -> Self {
        let Some(Content::List(items)) = self.content() else { return Self { node: None, ..self } };
        let Some(&node) = items.get(index) else { return Self { node: None, ..self } };
        let at = self.map.nodes.get(node).map_or(self.at, |node| node.at);
        Self { map: self.map, node: Some(node), at, key_at: at }
    }

    /// Where the value stands in the text, in characters; `None`: it is absent, or stands
    /// elsewhere.
    pub(crate) fn own_text(self) -> Option<Range<usize>> {
        match &self.map.nodes.get(self.node?)? {
            Node { content: Content::Alias(_) | Content::Nothing, .. } => None,
            Node { span, .. } => Some(span.clone()),
        }
    }

    pub(crate) fn is_alias(self) -> bool {
        let node = self.node.and_then(|node| self.map.nodes.get(node));
        matches!(node, Some(Node { content: Content::Alias(_), .. }))
    }

    /// What the value stands for, if it has references.
    pub(crate) fn expanded(self) -> Option<&'a str> {
        let id = self.node?;
        let id = match self.map.nodes.get(id)?.content {
            Content::Alias(target) => target,
            _ => id,
        };
        self.map.expanded.get(&id).map(String::as_str)
    }

    /// The number of its line, for a message about `other`: with the file's name if that is another
    /// one.
    pub(crate) fn line_seen_from(self, other: SourceSpan<'_>) -> String {
        let Position { file, line, .. } = self.at;
        match self.map.files.get(file) {
            Some(name) if file != other.at.file => format!("{line} of {name}"),
            _ => line.to_string(),
        }
    }

    /// Number of items, if this is a list.
    pub(crate) fn items(self) -> usize {
        match self.content() {
            Some(Content::List(items)) => items.len(),
            _ => 0,
        }
    }

    /// Where the last of what is in this value ends, in characters of `text`: a mapping or a list
    /// in block style by itself ends where the next one begins.
    pub(crate) fn leaf_end(self, text: &[char]) -> Option<usize> {
        let mut last = 0;
        let mut waiting = vec![self.node?];
        while let Some(id) = waiting.pop() {
            let node = self.map.nodes.get(id)?;
            let start = behind_anchor(text, node.span.start);
            match &node.content {
                _ if matches!(text.get(start), Some('[' | '{')) => last = last.max(flow_end(text, start)),
                Content::List(items) if !items.is_empty() => waiting.extend(items),
                Content::Map(entries) if !entries.is_empty() => {
                    waiting.extend(entries.iter().map(|entry| entry.value));
                }
                _ => last = last.max(node.span.end),
            }
        }
        (last > 0).then_some(last)
    }

    /// The content of the node; of an alias, the content of its anchor.
    fn content(self) -> Option<&'a Content> {
        let nodes = &self.map.nodes;
        match &nodes.get(self.node?)?.content {
            // An anchor's node is never an alias: YAML has no anchors on aliases.
            Content::Alias(target) => nodes.get(*target).map(|node| &node.content),
            content => Some(content),
        }
    }
}

/// Where the value that begins at `start` does so without its anchor.
pub(crate) fn behind_anchor(text: &[char], start: usize) -> usize {
    let Some(rest) = text.get(start..).filter(|rest| rest.starts_with(&['&'])) else { return start };
    let name = rest.iter().take_while(|character| !character.is_whitespace()).count();
    start + name + rest[name..].iter().take_while(|character| character.is_whitespace()).count()
}

/// The end of the list or mapping in flow style that begins at `start`: behind its bracket.
pub(crate) fn flow_end(text: &[char], start: usize) -> usize {
    let (mut depth, mut quote, mut at) = (0_u32, None, start);
    while let Some(&character) = text.get(at) {
        at += 1;
        match (quote, character) {
            (Some('"'), '\\') => at += 1,
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            // Within a word it is an apostrophe.
            (None, '"' | '\'') if !text[at - 2].is_alphanumeric() => quote = Some(character),
            (None, '#') if text[at - 2].is_whitespace() => {
                at += text[at..].iter().take_while(|character| **character != '\n').count();
            }
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            (None, _) => {}
        }
    }
    at
}

/// Builds a [`SourceMap`] from parser events, without recursion: the file decides how deep it
/// nests.
#[derive(Default)]
struct Reader {
    map: SourceMap,
    documents: usize,
    /// By saphyr's anchor number.
    anchors: HashMap<usize, NodeId>,
    /// The open lists and mappings; a mapping with the key whose value comes next.
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

/// The span without its leading tag (`!!int`) and anchor: mistakes are reported at the value.
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
                self.map.second_document = (self.documents > 1).then_some(at);
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
                    self.map.nodes[node].span.end = span.end.index();
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }

    /// Where an absent value is reported: at its key.
    fn pending_key(&self) -> Option<Position> {
        let (_, key) = self.open.last()?;
        key.as_ref().map(|key| key.at)
    }

    /// Adds a node to the open list or mapping; in a mapping every other node is a key.
    fn node(&mut self, at: Position, span: Span, content: Content, anchor: usize, text: &str) -> NodeId {
        let id = self.map.nodes.len();
        let span = span.start.index()..span.end.index();
        let start = span.start;
        self.map.nodes.push(Node { at, span, content });
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        let mut mark = || {
            if text.contains(REFERENCE) {
                self.map.marked.push((id, text.to_owned()));
            }
        };
        if let Some((parent, key)) = self.open.last_mut() {
            match &mut self.map.nodes[*parent].content {
                Content::List(items) => {
                    items.push(id);
                    mark();
                }
                Content::Map(entries) => match key.take() {
                    Some(Key { text: key, at: key_at, start: key_start }) => {
                        entries.push(Entry { key, key_at, key_start, value: id });
                        mark();
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
    fn assert_at(span: SourceSpan<'_>, line: usize, column: usize) {
        assert_eq!(span.at(), Position::new(line, column));
    }

    #[test]
    fn values_and_keys() {
        let map =
            SourceMap::of("# top\na: 1\nlist:\n  - x: 웹\n    y: 'z'\n  - { x: 3, y: 4 }\nempty:\nlast: 1\n");
        let root = map.root();
        assert_at(root, 2, 1);
        assert_at(root.key("a"), 2, 4);
        assert_at(root.key("list").item(0), 4, 5);
        assert_at(root.key("list").item(0).key("y"), 5, 8);
        assert_at(root.key("list").item(1), 6, 5);
        assert_at(root.key("list").item(1).key("y"), 6, 16);
        assert_eq!(root.key("list").item(1).key("y").key_at(), Position::new(6, 13));
        assert_at(root.key("empty"), 7, 1);
    }

    #[test]
    fn anchors_and_aliases() {
        let map = SourceMap::of("a: &n { x: 1 }\nb: *n\nc: &m\n  x: 1\nd: !t 5\n");
        let root = map.root();
        assert_at(root.key("b"), 2, 4);
        assert_at(root.key("b").key("x"), 1, 12);
        assert_at(root.key("c").key("x"), 4, 6);
    }

    #[test]
    fn absent_values_have_the_position_of_their_mapping_or_list() {
        let map = SourceMap::of("a: 1\nb: [1]\n");
        let root = map.root();
        assert_at(root.key("nothing"), 1, 1);
        assert_at(root.key("nothing").key("a"), 1, 1);
        assert_at(root.key("b").item(9), 2, 4);
        assert_at(SourceMap::of("").root().key("a").item(1), 1, 1);
    }

    #[test]
    fn duplicate_keys_and_documents() {
        let map = SourceMap::of("a: 1\nb: 1\na: 2\n---\nc: 3\n");
        assert_at(map.root().occurrence("a", 1).expect("given twice"), 3, 4);
        assert_eq!(map.second_document, Some(Position::new(4, 1)));
    }

    #[test]
    fn byte_offsets() {
        assert_eq!(Position::of_byte("a\n웹b", 5), Position::new(2, 2));
        assert_eq!(Position::of_byte("a", 99), Position::new(1, 2));
        assert_eq!(Position::of_byte("a\r\nb\rc", 6), Position::new(3, 2));
    }
}
