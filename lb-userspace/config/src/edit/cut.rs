//! A file's text, cut at its services: each is changed by itself, without a look at the others.

use std::collections::BTreeMap;

use super::{behind_anchor, entry_lines};
use crate::source_map::SourceMap;

/// What stands before the service in the text of [`Cut::alone`].
const HEAD: &str = "services:\n";

#[derive(Debug, Clone)]
pub(crate) struct Cut {
    /// How many services there are.
    count: usize,
    /// `None`: the services do not stand in lines of their own, or have something in common.
    pieces: Option<Pieces>,
}

#[derive(Debug, Clone, Default)]
struct Pieces {
    /// What stands before each service, and behind the last one.
    between: Vec<String>,
    /// The lines of each service, with its comments.
    services: Vec<String>,
}

impl Cut {
    pub(crate) fn of(text: &str) -> Self {
        let map = SourceMap::of(text);
        Self { count: map.root().key("services").items(), pieces: Pieces::of(text, &map) }
    }

    /// How many services there are.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Whether services can be changed by themselves.
    pub(crate) const fn is_possible(&self) -> bool {
        self.pieces.is_some()
    }

    /// A text with nothing but this service, of which it is the first one.
    pub(crate) fn alone(&self, index: usize) -> Option<String> {
        let lines = self.pieces.as_ref()?.services.get(index)?;
        Some(format!("{HEAD}{lines}"))
    }

    /// The text with only this service, and all that is no service.
    pub(crate) fn with_only(&self, index: usize) -> Option<String> {
        let Pieces { between, services } = self.pieces.as_ref()?;
        let (head, tail) = between.split_first()?;
        Some(format!("{head}{}{}", services.get(index)?, tail.concat()))
    }

    /// The text with others in place of some services, as texts of [`Self::alone`]; `None`: the
    /// service goes. What cannot be put there is told.
    pub(crate) fn with(&self, others: &BTreeMap<usize, Option<String>>) -> Result<String, String> {
        const NOT_ALONE: &str = "the file's layout does not let that be changed alone";
        let Pieces { between, services } = self.pieces.as_ref().ok_or(NOT_ALONE)?;
        let (last, before) = between.split_last().ok_or(NOT_ALONE)?;
        let mut text = String::new();
        for (index, (before, lines)) in before.iter().zip(services).enumerate() {
            text.push_str(before);
            match others.get(&index) {
                None => text.push_str(lines),
                Some(None) => {}
                Some(Some(other)) => text.push_str(other.strip_prefix(HEAD).ok_or(NOT_ALONE)?),
            }
        }
        text.push_str(last);
        Ok(text)
    }
}

impl Pieces {
    fn of(text: &str, map: &SourceMap) -> Option<Self> {
        if map.has_aliases() || map.second_document.is_some() {
            return None;
        }
        let list = map.root().key("services");
        let text: Vec<char> = text.chars().collect();
        let (mut pieces, mut at) = (Self::default(), 0);
        for index in 0..list.items() {
            if text.get(behind_anchor(&text, list.own_text()?.start)) == Some(&'[') {
                return None;
            }
            let item = list.item(index);
            let lines = entry_lines(&text, item.own_text()?.start, item.leaf_end(&text)?);
            pieces.between.push(text.get(at..lines.start)?.iter().collect());
            at = lines.end;
            pieces.services.push(text.get(lines)?.iter().collect());
        }
        pieces.between.push(text.get(at..)?.iter().collect());
        Some(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
interface: eth0
services:
  # The web.
  - vip: 192.0.2.10:80
    fallback: local             # as long as
                                # it lasts

  # The mail.
  - { vip: '192.0.2.10:25', fallback: local }
timeouts: { udp: 5m }
";

    #[test]
    fn a_text_is_cut_at_its_services_and_joined() {
        let cut = Cut::of(FILE);
        assert!(cut.count() == 2 && cut.is_possible());
        assert_eq!(cut.with(&BTreeMap::new()).as_deref(), Ok(FILE));
        let mail = "services:\n  - { vip: '192.0.2.10:25', fallback: local }\n";
        assert_eq!(cut.alone(1).as_deref(), Some(mail));
        let others = BTreeMap::from([(0, None), (1, Some(mail.replace("local", "none")))]);
        let wanted = "interface: eth0\nservices:\n  # The web.\n\n  # The mail.\n  - { vip: '192.0.2.10:25', \
                      fallback: none }\ntimeouts: { udp: 5m }\n";
        assert_eq!(cut.with(&others).as_deref(), Ok(wanted));
        let only = cut.with_only(0).expect("a service");
        assert!(only.contains("it lasts\n\n  # The mail.\ntimeouts:"), "{only}");
        assert!(cut.with(&BTreeMap::from([(0, Some(String::new()))])).is_err());
    }

    #[test]
    fn what_stands_otherwise_is_not_cut() {
        let none = Cut::of("interface: eth0\ninclude: [a.yaml]\n");
        assert!(none.is_possible() && none.count() == 0 && none.alone(0).is_none());
        for (text, count) in [
            ("services: [{ vip: '192.0.2.10:80' }]\n", 1),
            ("services:\n  - &one { vip: '192.0.2.10:80' }\n  - *one\n", 2),
            ("services:\n  - vip: 192.0.2.10:80\n---\nservices: []\n", 1),
        ] {
            let cut = Cut::of(text);
            assert!(!cut.is_possible() && cut.alone(0).is_none() && cut.with_only(0).is_none(), "{text}");
            assert_eq!(cut.count(), count, "{text}");
            assert!(cut.with(&BTreeMap::from([(0, None)])).is_err(), "{text}");
        }
    }
}
