//! All mistakes of a file whose shape is wrong.
//!
//! serde stops at the first mistake. So [`read`] overwrites the wrong entry with blanks, which
//! keeps all other positions, and parses the text again, until its shape is right. Then the values
//! are validated as of any other file.

use std::iter;

use serde::de::{DeserializeOwned, IgnoredAny};

use super::error::Found;
use super::source_map::{EntryText, SourceMap};
use super::syntax::{Surplus, explain};

/// Maximum number of mistakes of shape; a file with more is probably no configuration.
const MOST: usize = 50;

/// Keys whose lists have what other values refer to by name: without them nothing can be said of
/// the others.
const NAMING: [&str; 3] = ["nodes", "interfaces", "include"];

/// A file that was read as a `T`.
pub(crate) struct Read<T> {
    /// `None`: the shape is so wrong that values mean nothing.
    pub shape: Option<T>,
    /// Of the text that was read in the end.
    pub map: SourceMap,
    /// Mistakes of shape.
    pub found: Vec<Found>,
    /// Keys that the author gave and that were left out.
    pub touched: Vec<String>,
}

/// Reads `text`, and what is wrong with its shape. A text without content is a `T` without keys.
pub(crate) fn read<T: DeserializeOwned + Default>(text: &str) -> Read<T> {
    let mut map = SourceMap::of(text);
    let mut reading = Reading { text: text.to_owned(), found: Vec::new(), touched: Vec::new() };
    let mut shape = None;
    let mut values_count = true;
    if map.is_blank() && map.second_document.is_none() {
        shape = Some(T::default());
    }
    while shape.is_none() && reading.found.len() < MOST {
        let cause = match serde_yaml::from_str::<T>(&reading.text) {
            Ok(read) => {
                shape = Some(read);
                break;
            }
            Err(cause) => cause,
        };
        let (mistake, surplus) = explain(&cause, &reading.text, &map);
        // A blanked entry can leave a mapping or a list's item empty, which is not the author's
        // mistake.
        let follows = mistake.1.contains("found nothing") && !reading.found.is_empty();
        if follows || reading.found.contains(&mistake) {
            break;
        }
        let entry = map.entry_at(mistake.0);
        reading.found.push(mistake);
        let is_naming = entry.as_ref().is_some_and(|entry| NAMING.contains(&entry.key.as_str()));
        values_count &= !is_naming || surplus != Surplus::Value { single: false };
        let blanked = entry.is_some_and(|entry| reading.blank(entry, surplus));
        if !blanked {
            break;
        }
        map = SourceMap::of(&reading.text);
    }
    let Reading { text: _, found, touched } = reading;
    Read { shape: shape.filter(|_| values_count), map, found, touched }
}

/// Whether the message is about an absent value that may have been left out: `touched` are such
/// keys.
pub(crate) fn is_due_to_a_blank(message: &str, touched: &[String]) -> bool {
    const ABSENCE: [&str; 7] = [
        " is missing",
        "a service without ",
        "a cluster without ",
        "no command",
        "expected at least",
        "no server of this service has",
        "no other service of this VIP",
    ];
    ABSENCE.iter().any(|absence| message.contains(absence))
        || touched.iter().any(|key| message.contains(&format!("`{key}`")))
}

/// The key and those in it that messages about other places name.
pub(crate) fn within(key: String) -> impl Iterator<Item = String> {
    let vips = (key == "groups").then(|| "vips".to_owned());
    iter::once(key).chain(vips)
}

struct Reading {
    /// The file's text, with blanks in place of wrong entries.
    text: String,
    found: Vec<Found>,
    /// Keys that the author gave and that are blanked out now.
    touched: Vec<String>,
}

impl Reading {
    /// Overwrites the entry with blanks; returns whether the text is still YAML.
    fn blank(&mut self, EntryText { key, span }: EntryText, surplus: Surplus) -> bool {
        match surplus {
            Surplus::Nothing => return false,
            Surplus::Entry { meant } => self.touched.extend(meant),
            Surplus::Value { .. } => self.touched.extend(within(key)),
        }
        let after = self.text.chars().skip(span.end);
        // In `{ a: 1, b: 2 }` the comma belongs to the entry in front of it.
        let comma =
            after.take_while(|char| char.is_whitespace() || *char == ',').position(|char| char == ',');
        let end = span.end + comma.map_or(0, |comma| comma + 1);
        let blank = |(index, char): (usize, char)| match char {
            _ if !(span.start..end).contains(&index) => char,
            '\n' | '\r' => char,
            _ => ' ',
        };
        let text: String = self.text.chars().enumerate().map(blank).collect();
        let is_yaml = serde_yaml::from_str::<IgnoredAny>(&text).is_ok();
        self.text = text;
        is_yaml
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[track_caller]
    fn assert_mistakes(text: &str, expected: &[&str]) {
        let error = parse(text, "lb.yaml").expect_err("it has mistakes");
        let found: Vec<String> = error
            .mistakes()
            .iter()
            .map(|mistake| format!("{}:{}: {}", mistake.line, mistake.column, mistake.message))
            .collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\nis not\n{expected}");
        }
    }

    #[test]
    fn c10_an_unknown_key_hides_no_wrong_value() {
        assert_mistakes(
            "intreface: eth0\nservices:\n  - vip: 192.0.2.10:80\n    shceduler: rr\n    drain: soon\n    \
             servers: [{ wieght: 1, address: 192.0.2.21:81 }, { address: 192.0.2.22, bogus: 1, weight: x }]\n",
            &[
                "1:1: unknown key `intreface`, did you mean `interface`?",
                "4:5: unknown key `shceduler`, did you mean `scheduler`?",
                "5:12: drain \"soon\"",
                "6:17: unknown key `wieght`, did you mean `weight`?",
                "6:37: address \"192.0.2.21:81\"",
                "6:77: unknown key `bogus`",
                "6:95: weight \"x\"",
            ],
        );
    }

    #[test]
    fn c10_wrong_types_duplicate_keys_and_wrong_values_are_reported_together() {
        assert_mistakes(
            "interface: eth0\ninterface: eth1\nconnections: [1]\nservices:\n  - vip: 192.0.2.10:80\n    \
             scheduler: rrr\n    servers: [{ address: 192.0.2.21 }]\n",
            &[
                "2:1: duplicate key `interface`, first given in line 1",
                "3:14: connections: found a list, expected a single value",
                "6:16: scheduler \"rrr\"",
            ],
        );
    }

    #[test]
    fn c10_a_mapping_where_a_list_belongs_hides_no_other_mistake() {
        assert_mistakes(
            "interface: eth0\ngroups: { vips: [192.0.2.10/24] }\nbogus: 1\nservices: []\ndrain: soon\n",
            &[
                "2:9: groups: found a mapping, expected a list",
                "3:1: unknown key `bogus`",
                "5:1: unknown key `drain`",
            ],
        );
        assert_mistakes(
            "interface: a/b\nservices:\n  - vip: 192.0.2.10:80\n    scheduler: rrr\n    drain: soon\n    \
             servers: { address: 192.0.2.21 }\n  - vip: 192.0.2.10:81\n    source_nat: [192.0.2.99]\n    \
             servers: [192.0.2.21]\n  - { vip: 192.0.2.10:82, servers: [{ address: x }] }\n",
            &[
                "1:12: interface \"a/b\"",
                "4:16: scheduler \"rrr\"",
                "5:12: drain \"soon\"",
                "6:14: servers: found a mapping, expected a list",
                "9:15: ",
                "10:48: address \"x\"",
            ],
        );
    }

    /// Of each group of directors one name would be wrong, if the list of them were empty.
    #[test]
    fn c10_what_refers_to_a_list_of_the_wrong_shape_is_not_called_wrong() {
        assert_mistakes(
            "interface: eth0\ngroups: [{ vips: [192.0.2.10/24], nodes: [ha1] }]\ncluster:\n  node: ha1\n  \
             nodes: { name: ha1 }\nservices: [{ vip: 192.0.2.10:80, servers: [{ address: 192.0.2.21 }] }]\n",
            &["5:10: nodes: found a mapping, expected a list"],
        );
    }

    #[test]
    fn a_message_with_the_word_without_is_not_taken_for_one_about_an_absent_value() {
        assert_mistakes(
            "interface: a/b\nbogus: 1\nservices: [{ vip: 192.0.2.10:80, servers: [{ address: 192.0.2.21 }] }]\n",
            &["1:12: interface \"a/b\": expected the name", "2:1: unknown key `bogus`"],
        );
    }

    #[test]
    fn what_is_no_yaml_has_one_mistake() {
        let error = parse("bogus: 1\nservices: [\n", "lb.yaml").expect_err("it is no YAML");
        assert_eq!(error.mistakes().len(), 1, "{error}");
    }
}
