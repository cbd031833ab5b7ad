//! Keys of a service or a server, and keys within one of these: set, added where they are not
//! there, and taken away.

use super::{behind_anchor, comments_end, line_end, line_start, spliced, with_key};
use crate::source_map::{SourceMap, SourceSpan};

/// What becomes of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To<'a> {
    Value(&'a str),
    /// These keys of the mapping that it has, each with a value; others stay.
    Keys(&'a [(&'a str, &'a str)]),
    /// It is not there.
    Nothing,
}

/// Whose key it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner {
    /// The service with this index.
    Service(usize),
    /// The server with the second index, of the service with the first one.
    Server(usize, usize),
}

impl Owner {
    fn span(self, map: &SourceMap) -> SourceSpan<'_> {
        let services = map.root().key("services");
        match self {
            Self::Service(index) => services.item(index),
            Self::Server(service, index) => services.item(service).key("servers").item(index),
        }
    }
}

/// The text with this for a key of its owner. What cannot be changed is told.
pub(crate) fn set(text: &str, owner: Owner, key: &str, to: To<'_>) -> Result<String, String> {
    let map = SourceMap::of(text);
    let whose = owner;
    let owner = owner.span(&map);
    let characters: Vec<char> = text.chars().collect();
    let place = Place::of(&characters, owner, key)?;
    match (to, place) {
        (To::Nothing, None) => Ok(text.to_owned()),
        (To::Nothing, Some(place)) => place.removed(&characters),
        (To::Value(value), None) => with_key(&characters, owner, key, value),
        (To::Value(value), Some(place)) => place.replaced(&characters, key, value),
        (To::Keys(keys), None) => with_key(&characters, owner, key, &mapping(keys)),
        (To::Keys(keys), Some(place)) if place.is_blank() => place.replaced(&characters, key, &mapping(keys)),
        (To::Keys(keys), Some(place)) => {
            place.is_its_own(&characters, key)?;
            let mut text = text.to_owned();
            for (inner, value) in keys {
                text = set_inner(&text, whose, key, inner, value)?;
            }
            Ok(text)
        }
    }
}

fn set_inner(text: &str, owner: Owner, key: &str, inner: &str, value: &str) -> Result<String, String> {
    let map = SourceMap::of(text);
    let owner = owner.span(&map).key(key);
    let text: Vec<char> = text.chars().collect();
    match Place::of(&text, owner, inner)? {
        None => with_key(&text, owner, inner, value),
        Some(place) => place.replaced(&text, inner, value),
    }
}

fn mapping(keys: &[(&str, &str)]) -> String {
    let entries = keys.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>();
    format!("{{ {} }}", entries.join(", "))
}

/// Where a key stands in its mapping.
#[derive(Debug, Clone, Copy)]
struct Place<'m> {
    value: SourceSpan<'m>,
    /// Of the key.
    start: usize,
    /// Behind the key's colon.
    colon: usize,
    /// Of the key behind it.
    next: Option<usize>,
    /// The mapping is in flow style.
    in_flow: bool,
}

impl<'m> Place<'m> {
    /// `None`: the mapping has no such key.
    fn of(text: &[char], owner: SourceSpan<'m>, key: &str) -> Result<Option<Self>, String> {
        let Some(range) = owner.own_text() else {
            return Err(
                "what has the key is an alias there, and whatever it stands for would change, too".into()
            );
        };
        let Some((start, next)) = owner.key_starts(key) else { return Ok(None) };
        let colon = text[start..].iter().position(|character| *character == ':');
        let colon = start + colon.ok_or_else(|| format!("`{key}` has no value"))? + 1;
        let in_flow = text.get(behind_anchor(text, range.start)) == Some(&'{');
        Ok(Some(Self { value: owner.key(key), start, colon, next, in_flow }))
    }

    fn is_blank(&self) -> bool {
        self.value.own_text().is_none() && !self.value.is_alias()
    }

    /// Whether nothing else in the file refers to the value.
    fn is_its_own(&self, text: &[char], key: &str) -> Result<(), String> {
        let anchored = |begin: usize| {
            let between: String = text[self.colon..=begin].iter().collect();
            between.lines().any(|line| line.split('#').next().is_some_and(|line| line.contains('&')))
        };
        if self.value.is_alias() || self.value.own_text().is_some_and(|range| anchored(range.start)) {
            return Err(format!("`{key}` has an anchor or an alias there, and others would change, too"));
        }
        Ok(())
    }

    /// Where the value ends. The parser counts what stands behind a quote as its text, up to the
    /// end of the comment.
    fn end(&self, text: &[char]) -> usize {
        let quoted = self.value.own_text().and_then(|range| quoted_end(text, range.start));
        let leaf = || self.value.leaf_end(text).filter(|_| !self.is_blank());
        quoted.or_else(leaf).unwrap_or(self.colon)
    }

    fn replaced(&self, text: &[char], key: &str, value: &str) -> Result<String, String> {
        if self.value.is_alias() {
            // Nothing else goes by what stands here.
            return Ok(spliced(text, self.colon, self.end(text), &format!(" {value}")));
        }
        self.is_its_own(text, key)?;
        Ok(match self.value.own_text() {
            Some(range) => spliced(text, range.start, self.end(text), value),
            None => spliced(text, self.colon, self.colon, &format!(" {value}")),
        })
    }

    fn removed(&self, text: &[char]) -> Result<String, String> {
        let end = self.end(text);
        if self.in_flow {
            return Ok(match self.next {
                Some(next) => spliced(text, self.start, next, ""),
                None => {
                    let head: String = text[..self.start].iter().collect();
                    let rest: String = text[end..].iter().collect();
                    head.trim_end().trim_end_matches(',').to_owned() + &rest
                }
            });
        }
        let begin = line_start(text, self.start);
        if text[begin..self.start].iter().all(|character| character.is_whitespace()) {
            let end = comments_end(text, line_end(text, end), self.start - begin);
            return Ok(spliced(text, begin, (end + 1).min(text.len()), ""));
        }
        // Behind the dash of the list.
        let next = self.next.ok_or("it has nothing else")?;
        Ok(spliced(text, self.start, next, ""))
    }
}

/// Behind the closing quote of the text that begins at `start`, if that is quoted.
fn quoted_end(text: &[char], start: usize) -> Option<usize> {
    let quote = text.get(start).copied().filter(|first| matches!(first, '"' | '\''))?;
    let mut at = start + 1;
    loop {
        let next = text.get(at + 1);
        match *text.get(at)? {
            '\\' if quote == '"' => at += 2,
            '\'' if quote == '\'' && next == Some(&'\'') => at += 2,
            character if character == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "\
services:
  - name: web
    vip: 192.0.2.10:80
    scheduler: 'rr'             # one after the other
    persistence:
      timeout: 300s             # five minutes
      group: shop
    # The servers.
    servers:
      - address: 192.0.2.21     # the old one
  - persistence: { timeout: 60s }
    vip: 192.0.2.10:81
";
    const FLOW: &str =
        "services: [{ vip: '192.0.2.10:80', scheduler: rr, persistence: { timeout: 60s, prefix: 24 } }]\n";

    const BOUND: [(&str, &str); 2] = [("timeout", "600s"), ("prefix", "24")];

    #[track_caller]
    fn after(text: &str, service: usize, key: &str, to: To<'_>) -> String {
        set(text, Owner::Service(service), key, to).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn values_change_in_their_place() {
        let wrr = To::Value("wrr");
        assert_eq!(after(BLOCK, 0, "scheduler", wrr), BLOCK.replace("'rr'", "wrr"));
        assert_eq!(after(FLOW, 0, "scheduler", wrr), FLOW.replace("rr", "wrr"));
        let added = after(BLOCK, 0, "scheduler", wrr);
        assert_eq!(
            after(&added, 0, "ops", To::Value("on")),
            added.replace("# the old one\n", "# the old one\n    ops: on\n")
        );
        assert_eq!(after(BLOCK, 1, "scheduler", wrr), BLOCK.to_owned() + "    scheduler: wrr\n");
        let blank = "services:\n  - vip: 192.0.2.10:80\n    scheduler:\n    persistence:   # none\n";
        assert_eq!(after(blank, 0, "scheduler", wrr), blank.replace("scheduler:", "scheduler: wrr"));
        assert_eq!(
            after(blank, 0, "persistence", To::Keys(&BOUND)),
            blank.replace("persistence:", "persistence: { timeout: 600s, prefix: 24 }")
        );
    }

    #[test]
    fn keys_of_a_mapping_change_and_its_others_stay() {
        assert_eq!(
            after(BLOCK, 0, "persistence", To::Keys(&BOUND)),
            BLOCK.replace("300s", "600s").replace("shop\n", "shop\n      prefix: 24\n")
        );
        assert_eq!(after(FLOW, 0, "persistence", To::Keys(&BOUND)), FLOW.replace("60s", "600s"));
        assert_eq!(
            after(BLOCK, 1, "hash", To::Keys(&[("port", "on")])),
            BLOCK.to_owned() + "    hash: { port: on }\n"
        );
        let empty = FLOW.replace(" timeout: 60s, prefix: 24 ", "");
        assert_eq!(
            after(&empty, 0, "persistence", To::Keys(&BOUND[..1])),
            empty.replace("{}", "{ timeout: 600s}")
        );
    }

    #[test]
    fn keys_go_and_nothing_else() {
        let lines = "    persistence:\n      timeout: 300s             # five minutes\n      group: shop\n";
        assert_eq!(after(BLOCK, 0, "persistence", To::Nothing), BLOCK.replace(lines, ""));
        assert_eq!(
            after(BLOCK, 1, "persistence", To::Nothing),
            BLOCK.replace("persistence: { timeout: 60s }\n    vip", "vip")
        );
        let gone = FLOW.replace(", persistence: { timeout: 60s, prefix: 24 }", "");
        assert_eq!(after(FLOW, 0, "persistence", To::Nothing), gone);
        assert_eq!(after(FLOW, 0, "scheduler", To::Nothing), FLOW.replace("scheduler: rr, ", ""));
        assert_eq!(after(FLOW, 0, "ops", To::Nothing), FLOW);
    }

    #[test]
    fn what_stands_behind_quotes_stays() {
        for quoted in ["'rr'", "\"rr\"", "'r''r'", "\"r\\\"r\""] {
            let text = format!("services:\n  - scheduler: {quoted}   # one & all\n    vip: 192.0.2.10:80\n");
            let changed = after(&text, 0, "scheduler", To::Value("wrr"));
            assert_eq!(changed, text.replace(quoted, "wrr"), "{quoted}");
        }
        let text = "services:\n  - vip: 192.0.2.10:80\n    persistence:   # one & all\n      timeout: '60s'   # a minute\n";
        let changed = after(text, 0, "persistence", To::Keys(&BOUND[..1]));
        assert_eq!(changed, text.replace("'60s'", "600s"));
    }

    #[test]
    fn what_others_share_is_left_alone() {
        let text = "services:\n  - { vip: '192.0.2.10:80', scheduler: &s rr, persistence: &p { timeout: 60s } }\n  \
                    - { vip: '192.0.2.10:81', scheduler: *s, persistence: *p }\n";
        assert!(set(text, Owner::Service(0), "scheduler", To::Value("wrr")).is_err());
        assert!(set(text, Owner::Service(0), "persistence", To::Keys(&BOUND)).is_err());
        assert!(set(text, Owner::Service(1), "persistence", To::Keys(&BOUND)).is_err());
        assert_eq!(after(text, 1, "scheduler", To::Value("wrr")), text.replace("*s", "wrr"));
        assert_eq!(after(text, 1, "persistence", To::Nothing), text.replace(", persistence: *p", ""));
    }

    #[test]
    fn keys_of_a_server_change_alone() {
        let with = |text: &str, service: usize, server: usize, key: &str, to: To<'_>| {
            set(text, Owner::Server(service, server), key, to).unwrap_or_else(|error| panic!("{error}"))
        };
        let text = "services:\n  - vip: 192.0.2.10:80\n    servers:\n      - { address: 192.0.2.21, weight: 2 } # fast\n      \
                    - address: 192.0.2.22   # slow\n        weight: 1\n    drain: 30s\n";
        let three = To::Value("3");
        assert_eq!(with(text, 0, 0, "weight", three), text.replace("weight: 2", "weight: 3"));
        assert_eq!(with(text, 0, 1, "weight", three), text.replace("weight: 1", "weight: 3"));
        let full = with(text, 0, 0, "upper_threshold", three);
        assert_eq!(full, text.replace("weight: 2", "weight: 2, upper_threshold: 3"));
        let full = with(text, 0, 1, "upper_threshold", three);
        assert_eq!(full, text.replace("weight: 1\n", "weight: 1\n        upper_threshold: 3\n"));
        assert_eq!(with(text, 0, 1, "weight", To::Nothing), text.replace("        weight: 1\n", ""));
        assert_eq!(with(text, 0, 0, "weight", To::Nothing), text.replace(", weight: 2", ""));
        let shared = "services:\n  - { vip: '192.0.2.10:80', servers: [&one { address: 192.0.2.21 }] }\n  \
                      - { vip: '192.0.2.10:81', servers: [*one] }\n";
        assert!(set(shared, Owner::Server(1, 0), "weight", three).is_err_and(|why| why.contains("alias")));
        assert!(set(text, Owner::Server(0, 2), "weight", three).is_err());
    }
}
