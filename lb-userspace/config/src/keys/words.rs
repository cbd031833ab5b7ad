//! What each key means, in the words of deploy/examples/full.yaml: the comment beside or above it.

use std::collections::HashMap;

use super::Name;
use super::shape::{self, Shape};

/// By structure and key.
pub(super) struct Words(HashMap<Name, String>);

/// A key of the file under way, and how far it is indented.
struct Open<'a> {
    indent: usize,
    shape: Option<&'a Shape>,
}

impl Words {
    pub(super) fn of(text: &str) -> Self {
        let file = shape::of_file();
        let mut words = Self(HashMap::new());
        let mut open: Vec<Open<'_>> = Vec::new();
        // The comment above, until something else comes.
        let mut above = String::new();
        // Whom a comment belongs to that goes on below, and where it began.
        let mut beside: Option<(Name, usize)> = None;
        for line in text.lines() {
            let (content, comment) = cut(line);
            if content.trim().is_empty() {
                match (comment, &beside) {
                    (Some((at, text)), Some((key, column))) if at >= *column => words.add(*key, text),
                    (Some((_, text)), _) => {
                        beside = None;
                        above = format!("{above} {}", text.trim_start());
                    }
                    (None, _) => (above, beside) = (String::new(), None),
                }
                continue;
            }
            // `- key:` is a key of the item, two columns further right.
            let dashes = content.trim_start().strip_prefix("- ").map_or(0, |rest| content.len() - rest.len());
            let indent = content.len() - content.trim_start().len();
            let (indent, entry) =
                if dashes > 0 { (dashes, &content[dashes..]) } else { (indent, &content[indent..]) };
            open.retain(|one| one.indent < indent);
            beside = None;
            let Some((key, _)) = entry.split_once(':') else { continue };
            let parent = match open.last() {
                None => Some(&file),
                Some(open) => open.shape,
            };
            let found = parent.and_then(|parent| field(parent, key.trim()));
            if let Some((owner, key, _)) = found
                && words.own((owner, key)).is_none()
            {
                words.add((owner, key), above.trim());
                words.add((owner, key), comment.map_or("", |(_, text)| text));
                // One that has no room beside a long value stands below.
                beside = Some(((owner, key), comment.map_or(indent + 1, |(at, _)| at)));
            }
            above.clear();
            open.push(Open { indent, shape: found.map(|(_, _, shape)| shape) });
        }
        let one =
            "The network interface that clients' packets come in by: the same as `interfaces` with one.";
        words.add(("File", "interface"), one);
        words
    }

    /// What a server has in place of its service's is explained there, and what a service has in
    /// place of the file's.
    pub(super) fn get(&self, owner: &'static str, key: &'static str) -> Option<&str> {
        let general = match owner {
            "Server" => Some("Service"),
            "Clients" => Some("EveryClient"),
            _ => None,
        };
        self.own((owner, key)).or_else(|| self.own((general?, key)))
    }

    fn own(&self, name: Name) -> Option<&str> {
        self.0.get(&name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// What the example calls the key's own default, in its words: it may begin with a value.
    pub(super) fn default_of(&self, name: Name) -> Option<&str> {
        let text = self.0.get(&name)?;
        let mut mentions = text.match_indices("efault").map(|(at, word)| &text[at + word.len()..]);
        let rest = mentions.find_map(|rest| rest.strip_prefix(':').unwrap_or(rest).strip_prefix(' '))?;
        let ends = ["; ", " (", ". "].iter().filter_map(|end| rest.find(end));
        let default = rest[..ends.min().unwrap_or(rest.len())].trim_end_matches(['.', ';', ',', ':']);
        (!default.is_empty()).then_some(default)
    }

    /// `comment`: what stands behind its sign. An entry of a list of words stands further right.
    fn add(&mut self, key: Name, comment: &str) {
        let known = self.0.entry(key).or_default();
        let text = comment.trim_start();
        let is_entry = comment.len() - text.len() == 3;
        if !known.is_empty() && !text.is_empty() {
            known.push_str(match is_entry {
                true if known.ends_with("one of") => ": ",
                true => "; ",
                false => " ",
            });
        }
        match text.split_once("  ").filter(|_| is_entry) {
            Some((word, meaning)) => known.extend([word, ": ", meaning.trim_start()]),
            None => known.push_str(text),
        }
    }
}

/// Content, and the comment with its column.
fn cut(line: &str) -> (&str, Option<(usize, &str)>) {
    let start =
        if line.trim_start().starts_with('#') { line.find('#') } else { line.find(" # ").map(|at| at + 1) };
    match start {
        Some(at) => (line[..at].trim_end(), Some((at, line[at + 1..].trim_end()))),
        None => (line.trim_end(), None),
    }
}

/// The structure's name, its key, and what that holds.
fn field<'a>(shape: &'a Shape, key: &str) -> Option<(&'static str, &'static str, &'a Shape)> {
    match shape {
        Shape::Structure { name, fields } => {
            let (key, shape) = fields.iter().find(|(field, _)| *field == key)?;
            Some((name, key, shape))
        }
        Shape::List(item) => field(item, key),
        Shape::Either(shapes) => shapes.iter().find_map(|shape| field(shape, key)),
        Shape::Scalar | Shape::ByName => None,
    }
}
