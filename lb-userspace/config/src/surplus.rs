//! All mistakes of a file whose shape is wrong. serde stops at the first one; so the entry that is wrong is blanked out, which
//! leaves everything else where it was, and the text is read again, until nothing is wrong with its shape. Then its values
//! are checked as those of any other file.

use serde::de::IgnoredAny;

use super::error::Found;
use super::places::{EntryText, Places};
use super::syntax::{Surplus, explain};
use super::{check, yaml};

/// Mistakes of shape that are looked for; more is another kind of file.
const MOST: usize = 50;

/// What is wrong with `text`, whose shape is; `host` is this host's name.
pub(crate) fn mistakes(text: &str, host: &str) -> Vec<Found> {
    let mut reading = Reading { text: text.to_owned(), found: Vec::new(), touched: Vec::new() };
    let mut values_count = true;
    while reading.found.len() < MOST {
        let cause = match serde_yaml::from_str::<yaml::File>(&reading.text) {
            Ok(file) if values_count => {
                reading.check_values(&file, host);
                break;
            }
            Ok(_) => break,
            Err(cause) => cause,
        };
        let places = Places::of(&reading.text);
        let (mistake, surplus) = explain(&cause, &reading.text, &places);
        // A blanked entry can leave a list's item or a mapping empty, which is no mistake of the file's.
        let follows = mistake.1.contains("found nothing") && !reading.found.is_empty();
        if follows || reading.found.contains(&mistake) {
            break;
        }
        let entry = places.entry_at(mistake.0);
        reading.found.push(mistake);
        values_count &= surplus != Surplus::Value { single: false };
        let blanked = entry.is_some_and(|entry| reading.blank(entry, surplus));
        if !blanked {
            break;
        }
    }
    reading.found
}

struct Reading {
    /// The file's, with blanks where it was wrong.
    text: String,
    found: Vec<Found>,
    /// Keys that the text lacks now although its author meant to give them.
    touched: Vec<String>,
}

impl Reading {
    /// `false` if the text cannot go without the entry.
    fn blank(&mut self, EntryText { key, span }: EntryText, surplus: Surplus) -> bool {
        match surplus {
            Surplus::Nothing => return false,
            Surplus::Entry { meant } => self.touched.extend(meant),
            Surplus::Value { .. } => self.touched.push(key),
        }
        let after = self.text.chars().skip(span.end);
        // In `{ a: 1, b: 2 }` the comma goes with the entry before it.
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

    fn check_values(&mut self, file: &yaml::File, host: &str) {
        let places = Places::of(&self.text);
        let Err(found) = check::check(file, places.root(), host) else { return };
        // Something seems to be absent where it was blanked out.
        const ABSENCE: [&str; 5] =
            [" is missing", " without ", "no command", "expected at least", "nothing to "];
        let is_due_to_a_blank = |message: &str| {
            ABSENCE.iter().any(|absence| message.contains(absence))
                || self.touched.iter().any(|key| message.contains(&format!("`{key}`")))
        };
        let found: Vec<Found> =
            found.into_iter().filter(|(_, message)| !is_due_to_a_blank(message)).collect();
        self.found.extend(found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[track_caller]
    fn assert_mistakes(text: &str, wanted: &[&str]) {
        let error = parse(text, "lb.yaml").expect_err("it has mistakes");
        let found: Vec<String> = error
            .mistakes()
            .iter()
            .map(|mistake| format!("{}:{}: {}", mistake.line, mistake.column, mistake.message))
            .collect();
        assert_eq!(found.len(), wanted.len(), "{found:#?}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found.starts_with(wanted), "{found}\nis not\n{wanted}");
        }
    }

    #[test]
    fn c10_an_unknown_key_hides_no_wrong_value() {
        assert_mistakes(
            "intreface: eth0\nservices:\n  - vip: 192.0.2.10:80\n    shceduler: rr\n    drain: soon\n    \
             servers: [{ wieght: 1, address: 192.0.2.21:81 }, { address: 192.0.2.22, bogus: 1, weight: x }]\n",
            &[
                "1:1: unknown field `intreface`, did you mean `interface`?",
                "4:5: unknown field `shceduler`, did you mean `scheduler`?",
                "5:12: drain \"soon\"",
                "6:17: unknown field `wieght`, did you mean `weight`?",
                "6:37: address \"192.0.2.21:81\"",
                "6:77: unknown field `bogus`",
                "6:95: weight \"x\"",
            ],
        );
    }

    #[test]
    fn c10_wrong_types_doubled_keys_and_wrong_values_are_told_together() {
        assert_mistakes(
            "interface: eth0\ninterface: eth1\nconnections: [1]\nservices:\n  - vip: 192.0.2.10:80\n    \
             scheduler: rrr\n    servers: [{ address: 192.0.2.21 }]\n",
            &[
                "2:1: duplicate field `interface`, first given in line 1",
                "3:14: connections: found a list, expected a single value",
                "6:16: scheduler \"rrr\"",
            ],
        );
    }

    #[test]
    fn c10_a_mapping_where_a_list_belongs_hides_no_other_mistake_of_shape() {
        assert_mistakes(
            "interface: eth0\ngroups: { vips: [192.0.2.10/24] }\nbogus: 1\nservices: []\n",
            &["2:9: groups: found a mapping, expected a list", "3:1: unknown field `bogus`"],
        );
    }

    #[test]
    fn what_is_no_yaml_has_one_mistake() {
        let error = parse("bogus: 1\nservices: [\n", "lb.yaml").expect_err("it is no YAML");
        assert_eq!(error.mistakes().len(), 1, "{error}");
    }
}
