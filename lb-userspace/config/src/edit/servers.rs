//! Servers of a service: each is changed by itself, and all of them by one look at the text.

use std::collections::BTreeMap;

use super::{behind_anchor, entry_lines};
use crate::source_map::SourceMap;

/// The text with what `change` makes of these servers of its first service. Each comes to it as the
/// only one of a text. What cannot be changed is told.
pub(crate) fn servers_changed<T>(
    text: &str,
    servers: &BTreeMap<usize, T>,
    change: impl Fn(&str, usize, &T) -> Result<String, String>,
) -> Result<String, String> {
    const NOT_ALONE: &str = "the file's layout does not let that be changed alone";
    let map = SourceMap::of(text);
    let list = map.root().key("services").item(0).key("servers");
    let characters: Vec<char> = text.chars().collect();
    let start = behind_anchor(&characters, list.own_text().ok_or(NOT_ALONE)?.start);
    let in_flow = characters.get(start) == Some(&'[');
    let (head, tail) =
        if in_flow { ("services: [{ servers: [", "] }]\n") } else { ("services:\n- servers:\n", "") };
    let (mut whole, mut at) = (String::new(), 0);
    for (&index, value) in servers {
        let item = list.item(index);
        let (own, last) = item.own_text().zip(item.leaf_end(&characters)).ok_or(NOT_ALONE)?;
        let range = if in_flow { own.start..last } else { entry_lines(&characters, own.start, last) };
        let piece: String = characters[range.clone()].iter().collect();
        let changed = change(&format!("{head}{piece}{tail}"), index, value)?;
        let piece = changed.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail)).ok_or(NOT_ALONE)?;
        whole.extend(&characters[at..range.start]);
        whole.push_str(piece);
        at = range.end;
    }
    whole.extend(&characters[at..]);
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::super::{Owner, To, set};
    use super::*;

    /// Weights of servers, by index.
    fn weights(text: &str, of: &[(usize, &str)]) -> Result<String, String> {
        let of = of.iter().copied().collect();
        servers_changed(text, &of, |alone, _, weight| {
            set(alone, Owner::Server(0, 0), "weight", To::Value(weight))
        })
    }

    #[test]
    fn servers_change_where_they_stand() {
        for text in [
            "services:\n  - vip: 192.0.2.10:80\n    servers: # all\n      - address: 192.0.2.21 # one\n        weight: 1\n      \
             # two\n      - { address: 192.0.2.22, weight: 1 } # fast\n      - address: 192.0.2.23\n        weight: 1",
            "services:\n- servers:\n  - address: 192.0.2.21\n    weight: 1\n  - { address: 192.0.2.22,\n      weight: 1 }\n  \
             - weight: 1\n    address: 192.0.2.23\n",
            "services:\n  - servers: [ { address: 192.0.2.21, weight: 1 }, # one\n      { address: 192.0.2.22, weight: 1 },\n      \
             {weight: 1, address: 192.0.2.23} ]\n",
        ] {
            for bits in 0..8_usize {
                let of: Vec<_> =
                    (0..3).filter(|index| bits & (1 << index) != 0).map(|at| (at, "7")).collect();
                let together = weights(text, &of).unwrap_or_else(|error| panic!("{error}: {text}"));
                let one_by_one = of.iter().fold(text.to_owned(), |text, (index, weight)| {
                    set(&text, Owner::Server(0, *index), "weight", To::Value(weight)).expect("a text")
                });
                assert_eq!(together, one_by_one);
                assert_eq!(together.matches("weight: 7").count(), of.len(), "{together}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_told() {
        assert!(weights("services:\n  - vip: 192.0.2.10:80\n", &[(0, "2")]).is_err());
        assert!(weights("services: [{ servers: [{ address: 192.0.2.21 }] }]\n", &[(1, "2")]).is_err());
        let alias = "services:\n  - { servers: &all [{ address: 192.0.2.21 }] }\n  - { servers: *all }\n";
        assert!(weights(alias, &[(0, "2")]).is_ok_and(|text| text.contains("weight: 2")));
    }
}
