//! Changes of a file's text that keep the rest as it is, comments and layout included: entries of
//! lists are added and removed, keys of services and servers are set (`edit/keys.rs`).
//! `edit/cut.rs` is for many services at once, `edit/servers.rs` for many servers.

mod cut;
mod keys;
mod servers;

use std::collections::BTreeSet;
use std::ops::Range;

pub(crate) use self::cut::Cut;
pub(crate) use self::keys::{Owner, To, set};
pub(crate) use self::servers::servers_changed;

use super::source_map::{SourceMap, SourceSpan, behind_anchor, flow_end};

/// A place in a file's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    Services,
    /// Of the service with this index.
    Servers(usize),
}

/// The text with more entries at the list's end: mappings in flow style, such as
/// `{ address: 192.0.2.23 }`. What cannot be changed is told.
pub(crate) fn added(text: &str, list: List, entries: &[&str]) -> Result<String, String> {
    let map = SourceMap::of(text);
    let root = map.root();
    let (span, owner, key) = place(root, list);
    let text: Vec<char> = text.chars().collect();
    let Some(range) = span.own_text() else {
        if span.is_alias() {
            return Err(format!("`{key}` is an alias there, and whatever it stands for would change, too"));
        }
        return with_key(&text, owner, key, &format!("[{}]", entries.join(", ")));
    };
    let start = behind_anchor(&text, range.start);
    if text.get(start) == Some(&'[') {
        let entries = entries.join(", ");
        let Some(last) = span.items().checked_sub(1) else {
            return Ok(spliced(&text, start + 1, start + 1, &entries));
        };
        let Some(end) = span.item(last).leaf_end(&text) else {
            return Err(format!("`{key}` has no item there to stand beside"));
        };
        // Right behind the item: there may be a comment before the bracket.
        let last = text[..end].iter().rposition(|character| !character.is_whitespace());
        let end = last.map_or(end, |at| at + 1);
        return Ok(spliced(&text, end, end, &format!(", {entries}")));
    }
    let items = span.items();
    let (Some(first), Some(last)) = (span.item(0).own_text(), span.item(items - 1).leaf_end(&text)) else {
        return Err(format!("`{key}` has no item there to stand beside"));
    };
    let dash = text[..first.start].iter().rposition(|character| *character == '-').unwrap_or(first.start);
    let indent = dash - line_start(&text, dash);
    let end = comments_end(&text, line_end(&text, last), indent);
    let line = |entry: &&str| format!("\n{}- {entry}", " ".repeat(indent));
    Ok(spliced(&text, end, end, &entries.iter().map(line).collect::<String>()))
}

/// The text without these entries of the list, by one look at it.
pub(crate) fn removed(text: &str, list: List, indices: &BTreeSet<usize>) -> Result<String, String> {
    let map = SourceMap::of(text);
    let (span, _, key) = place(map.root(), list);
    let Some(last_left) = (0..span.items()).rev().find(|index| !indices.contains(index)) else {
        return emptied(text, list);
    };
    let text: Vec<char> = text.chars().collect();
    let Some(range) = span.own_text() else {
        return Err(format!("`{key}` is an alias there, and whatever it stands for would change, too"));
    };
    let none = |index: usize| format!("`{key}` has no entry {index}");
    let own = |index: usize| span.item(index).own_text().ok_or_else(|| none(index));
    let in_flow = text.get(behind_anchor(&text, range.start)) == Some(&'[');
    let mut gone = Vec::with_capacity(indices.len());
    for &index in indices {
        let begin = own(index)?.start;
        if !in_flow {
            let last = span.item(index).leaf_end(&text).ok_or_else(|| none(index))?;
            gone.push(entry_lines(&text, begin, last));
        } else if index < last_left {
            // With the comma behind it.
            gone.push(begin..own(index + 1)?.start);
        } else if index == last_left + 1 {
            // With the comma before it, and all that follow.
            let comma = text[..begin].iter().rposition(|one| !one.is_whitespace() && *one != ',');
            let last = own(span.items() - 1)?;
            let start = behind_anchor(&text, last.start);
            let is_flow = matches!(text.get(start), Some('[' | '{'));
            let end = if is_flow { flow_end(&text, start) } else { last.end };
            gone.push(comma.map_or(begin, |at| at + 1)..end);
        }
    }
    Ok(without(&text, gone))
}

/// The lines of an entry in block style, from its dash to the end of its comments; `own` and `last`
/// are where its content begins and ends.
fn entry_lines(text: &[char], own: usize, last: usize) -> Range<usize> {
    let dash = text[..own].iter().rposition(|character| *character == '-').unwrap_or(own);
    let start = line_start(text, dash);
    let end = comments_end(text, line_end(text, last), dash - start);
    // With the line's end.
    start..(end + 1).min(text.len())
}

/// The text without these ranges, which are in order.
fn without(text: &[char], ranges: impl IntoIterator<Item = Range<usize>>) -> String {
    let (mut left, mut at) = (String::new(), 0);
    for Range { start, end } in ranges {
        left.extend(&text[at..start]);
        at = end;
    }
    left.extend(&text[at..]);
    left
}

/// The text with nothing in the list.
pub(crate) fn emptied(text: &str, list: List) -> Result<String, String> {
    let map = SourceMap::of(text);
    let (span, _, key) = place(map.root(), list);
    let text: Vec<char> = text.chars().collect();
    let Some(range) = span.own_text() else {
        return Err(format!("`{key}` is an alias there, and whatever it stands for would change, too"));
    };
    let start = behind_anchor(&text, range.start);
    if text.get(start) == Some(&'[') {
        return Ok(spliced(&text, start, flow_end(&text, start), "[]"));
    }
    let (first, last) = (span.item(0).own_text(), span.leaf_end(&text));
    let (Some(first), Some(last)) = (first, last) else { return Err(format!("`{key}` has no entry")) };
    Ok(emptied_block(&text, first.start, last))
}

/// Without the items of a list in block style, of which the first begins at `first`. An empty list
/// has no other form than `[]`.
fn emptied_block(text: &[char], first: usize, last: usize) -> String {
    let start = text[..first].iter().rposition(|character| *character == '-').unwrap_or(first);
    let end = comments_end(text, line_end(text, last), start - line_start(text, start));
    let (begin, behind) = (line_start(text, start), (end + 1).min(text.len()));
    let key = content_end(text, begin);
    let rest: String = text[key..begin].iter().chain(&text[behind..]).collect();
    spliced(text, key, text.len(), " []") + &rest
}

/// The list, whose it is, and its key.
fn place(root: SourceSpan<'_>, list: List) -> (SourceSpan<'_>, SourceSpan<'_>, &'static str) {
    match list {
        List::Services => (root.key("services"), root, "services"),
        List::Servers(index) => {
            let service = root.key("services").item(index);
            (service.key("servers"), service, "servers")
        }
    }
}

/// A mapping gets the key that it lacks.
fn with_key(text: &[char], owner: SourceSpan<'_>, key: &str, value: &str) -> Result<String, String> {
    let (Some(range), Some(last)) = (owner.own_text(), owner.leaf_end(text)) else {
        return Err(format!("there is no place for `{key}`"));
    };
    let start = behind_anchor(text, range.start);
    if text.get(start) == Some(&'{') {
        let close = flow_end(text, start) - 1;
        let before: String = text[..close].iter().collect();
        let (head, blanks) = before.split_at(before.trim_end().len());
        let rest: String = text[close..].iter().collect();
        let head = head.strip_suffix(',').unwrap_or(head);
        let comma = if head.ends_with('{') { " " } else { ", " };
        return Ok(format!("{head}{comma}{key}: {value}{blanks}{rest}"));
    }
    let indent = range.start - line_start(text, range.start);
    let end = comments_end(text, line_end(text, last), indent);
    Ok(spliced(text, end, end, &format!("\n{}{key}: {value}", " ".repeat(indent))))
}

fn spliced(text: &[char], start: usize, end: usize, with: &str) -> String {
    text[..start].iter().copied().chain(with.chars()).chain(text[end..].iter().copied()).collect()
}

fn line_start(text: &[char], at: usize) -> usize {
    text[..at].iter().rposition(|character| *character == '\n').map_or(0, |found| found + 1)
}

fn line_end(text: &[char], at: usize) -> usize {
    text[at..].iter().position(|character| *character == '\n').map_or(text.len(), |found| at + found)
}

/// Where the last line before `at` that has more than a comment ends, its comment and blanks not
/// counted. `at` begins a line.
fn content_end(text: &[char], mut at: usize) -> usize {
    while at > 0 {
        let start = line_start(text, at - 1);
        let line: String = text[start..at].iter().collect();
        let comment = if line.trim_start().starts_with('#') { Some(0) } else { line.find(" #") };
        let content = line[..comment.unwrap_or(line.len())].trim_end();
        if !content.is_empty() {
            return start + content.chars().count();
        }
        at = start;
    }
    0
}

/// `end` is a line's. The end of the comments below that go on with that line's: they stand further
/// right than `indent`.
fn comments_end(text: &[char], mut end: usize, indent: usize) -> usize {
    while end < text.len() {
        let next = line_end(text, end + 1);
        let line = &text[end + 1..next];
        let begins = line.iter().position(|character| !character.is_whitespace());
        match begins {
            Some(column) if line[column] == '#' && column > indent => end = next,
            _ => break,
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: &str = "services:\n  - { vip: '192.0.2.10:80', servers: [{ address: 192.0.2.21 }, { address: 192.0.2.22 }] } # web\n";
    const BLOCK: &str = "\
services:
  # The web.
  - vip: 192.0.2.10:80
    servers:                    # both
      - address: 192.0.2.21     # the old one
        weight: 2               # it is faster
                                # than the others
      # The new one.
      - { address: 192.0.2.22 }
    drain: 30s
  - vip: 192.0.2.10:81
    fallback: local
";

    const ENTRY: &str = "{ address: 192.0.2.23 }";

    #[test]
    fn entries_are_added_where_lists_end() {
        assert_eq!(
            added(FLOW, List::Servers(0), &[ENTRY]).expect("a text"),
            FLOW.replace("192.0.2.22 }]", "192.0.2.22 }, { address: 192.0.2.23 }]")
        );
        assert_eq!(
            added(BLOCK, List::Servers(0), &[ENTRY]).expect("a text"),
            BLOCK.replace("192.0.2.22 }\n", "192.0.2.22 }\n      - { address: 192.0.2.23 }\n")
        );
        assert_eq!(
            added(BLOCK, List::Servers(1), &[ENTRY]).expect("a text"),
            BLOCK.to_owned() + "    servers: [{ address: 192.0.2.23 }]\n"
        );
        let service = "{ vip: '192.0.2.10:82' }";
        assert_eq!(
            added(BLOCK, List::Services, &[service]).expect("a text"),
            BLOCK.to_owned() + "  - { vip: '192.0.2.10:82' }\n"
        );
        let two = added(FLOW, List::Servers(0), &[ENTRY, "{ address: 192.0.2.24 }"]).expect("a text");
        assert!(two.contains("192.0.2.22 }, { address: 192.0.2.23 }, { address: 192.0.2.24 }]"), "{two}");
        let two = added(BLOCK, List::Servers(0), &[ENTRY, "{ address: 192.0.2.24 }"]).expect("a text");
        let lines = "192.0.2.22 }\n      - { address: 192.0.2.23 }\n      - { address: 192.0.2.24 }\n";
        assert_eq!(two, BLOCK.replace("192.0.2.22 }\n", lines));
        let none = "services: [{ vip: '192.0.2.10:80', servers: [] }]";
        assert_eq!(
            added(none, List::Servers(0), &[ENTRY]).expect("a text"),
            "services: [{ vip: '192.0.2.10:80', servers: [{ address: 192.0.2.23 }] }]"
        );
        let absent = "services: [{ vip: '192.0.2.10:80' }]";
        assert_eq!(
            added(absent, List::Servers(0), &[ENTRY]).expect("a text"),
            "services: [{ vip: '192.0.2.10:80', servers: [{ address: 192.0.2.23 }] }]"
        );
    }

    #[test]
    fn entries_of_flow_lists_stand_before_comments() {
        let text = "services:\n  - vip: 192.0.2.10:80\n    servers: [\n      { address: 192.0.2.21 }, # the old one\n    ]\n";
        assert_eq!(
            added(text, List::Servers(0), &[ENTRY]).expect("a text"),
            text.replace("192.0.2.21 },", "192.0.2.21 }, { address: 192.0.2.23 },")
        );
        let text = text.replace("},", "}");
        assert_eq!(
            added(&text, List::Servers(0), &[ENTRY]).expect("a text"),
            text.replace("192.0.2.21 }", "192.0.2.21 }, { address: 192.0.2.23 }")
        );
        let named = "services: &all [{ vip: '192.0.2.10:80', servers: &two [&one { address: 192.0.2.21 }] }]";
        assert_eq!(
            added(named, List::Servers(0), &[ENTRY]).expect("a text"),
            named.replace("192.0.2.21 }", "192.0.2.21 }, { address: 192.0.2.23 }")
        );
        let none = "services: [{ vip: '192.0.2.10:80', servers: [ # none\n  ] }]";
        assert_eq!(
            added(none, List::Servers(0), &[ENTRY]).expect("a text"),
            "services: [{ vip: '192.0.2.10:80', servers: [{ address: 192.0.2.23 } # none\n  ] }]"
        );
    }

    fn without_one(text: &str, list: List, index: usize) -> Result<String, String> {
        removed(text, list, &BTreeSet::from([index]))
    }

    #[test]
    fn entries_go_with_their_comments_and_nothing_else() {
        assert_eq!(
            without_one(FLOW, List::Servers(0), 0).expect("a text"),
            FLOW.replace("{ address: 192.0.2.21 }, ", "")
        );
        assert_eq!(
            without_one(FLOW, List::Servers(0), 1).expect("a text"),
            FLOW.replace(", { address: 192.0.2.22 }", "")
        );
        let first = "      - address: 192.0.2.21     # the old one\n        weight: 2               # it is faster\n                                # than the others\n";
        assert_eq!(without_one(BLOCK, List::Servers(0), 0).expect("a text"), BLOCK.replace(first, ""));
        assert_eq!(
            without_one(BLOCK, List::Servers(0), 1).expect("a text"),
            BLOCK.replace("      - { address: 192.0.2.22 }\n", "")
        );
        let gone = without_one(BLOCK, List::Services, 1).expect("a text");
        assert_eq!(gone, BLOCK.replace("  - vip: 192.0.2.10:81\n    fallback: local\n", ""));
        let first = without_one(BLOCK, List::Servers(0), 1).expect("a text");
        let last = without_one(&first, List::Servers(0), 0).expect("a text");
        assert!(last.contains("    servers: []                    # both\n"), "{last}");
        assert_eq!(SourceMap::of(&last).root().key("services").item(0).key("servers").items(), 0);
        assert!(last.contains("    drain: 30s\n  - vip: 192.0.2.10:81\n"), "{last}");
    }

    #[test]
    fn entries_go_together_as_they_go_one_by_one() {
        let flow = "services:\n  - servers: [ { address: a }, b ,\n      [c], { d: 1 } ] # all\n";
        let block = "services:\n- servers:\n  - a: 1 # one\n      # and more\n  # two\n  - b\n\n  - { c: 1 }\n  - d\n  drain: 1s\n";
        for text in [flow, block, BLOCK, FLOW] {
            let items = SourceMap::of(text).root().key("services").item(0).key("servers").items();
            for bits in 0..1_u32 << items {
                let indices: BTreeSet<usize> = (0..items).filter(|index| bits & (1 << index) != 0).collect();
                let together = removed(text, List::Servers(0), &indices).expect("a text");
                let one_by_one = indices
                    .iter()
                    .rev()
                    .try_fold(text.to_owned(), |text, index| without_one(&text, List::Servers(0), *index));
                match indices.len() == items {
                    true => assert_eq!(together, emptied(text, List::Servers(0)).expect("a text")),
                    false => assert_eq!(Ok(together), one_by_one, "{indices:?} of\n{text}"),
                }
            }
        }
        assert!(without_one(BLOCK, List::Servers(0), 7).is_err());
    }

    #[test]
    fn a_list_is_emptied() {
        let gone = emptied(BLOCK, List::Services).expect("a text");
        assert_eq!(gone, "services: []\n  # The web.\n");
        let gone = emptied(BLOCK, List::Servers(0)).expect("a text");
        assert!(gone.contains("    servers: []                    # both\n    drain: 30s\n"), "{gone}");
        let gone = emptied(FLOW, List::Servers(0)).expect("a text");
        assert_eq!(gone, "services:\n  - { vip: '192.0.2.10:80', servers: [] } # web\n");
    }

    #[test]
    fn what_others_share_is_left_alone() {
        let text = "services:\n  - { vip: '192.0.2.10:80', servers: &all [{ address: 192.0.2.21 }] }\n  - { vip: '192.0.2.10:81', servers: *all }\n";
        let error = added(text, List::Servers(1), &[ENTRY]).expect_err("an alias");
        assert!(error.contains("is an alias"), "{error}");
        assert!(without_one(text, List::Servers(1), 0).is_err());
    }
}
