//! Looks for what is expected in an answer that comes in pieces.
//!
//! A text is found across the borders of pieces with no more memory than the text is long. A regular expression needs
//! all that came, so that `^` and `$` mean the answer's ends and not a piece's: whoever feeds a search sets the bound.

use lb_model::Expectation;
use memchr::memmem;
use regex::bytes::Regex;

use super::Failure;
use super::excerpt::{EXCERPT_BYTES, excerpt};

/// What was expected and has not come.
#[derive(Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// As in "no …".
    pub sought: String,
    /// Bytes looked through.
    pub seen: usize,
    /// How the answer begins.
    pub begins: String,
}

/// A search through one answer.
pub(super) struct Search<'a> {
    text: Option<Text<'a>>,
    pattern: Option<Pattern<'a>>,
    begins: Vec<u8>,
    /// Bytes fed so far.
    seen: usize,
}

impl<'a> Search<'a> {
    pub(super) fn new(expected: &'a Expectation) -> Self {
        Self {
            text: expected.text.as_deref().map(Text::new),
            pattern: expected.pattern.as_ref().map(|pattern| Pattern::new(&pattern.0)),
            begins: Vec::new(),
            seen: 0,
        }
    }

    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// Takes the next piece.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        let room = EXCERPT_BYTES - self.begins.len();
        self.begins.extend_from_slice(&piece[..piece.len().min(room)]);
        self.seen += piece.len();
        if let Some(text) = &mut self.text {
            text.feed(piece);
        }
        if let Some(pattern) = &mut self.pattern {
            pattern.feed(piece);
        }
    }

    /// All that is expected was there, whatever may follow.
    pub(super) fn is_settled(&mut self) -> bool {
        self.text.as_ref().is_none_or(|text| text.found)
            && self.pattern.as_mut().is_none_or(Pattern::is_settled)
    }

    /// What is expected and was not there, if nothing follows.
    pub(super) fn mismatch(&self) -> Option<Mismatch> {
        let mismatch = |sought| Mismatch { sought, seen: self.seen, begins: excerpt(&self.begins) };
        if let Some(text) = self.text.as_ref().filter(|text| !text.found) {
            return Some(mismatch(format!("'{}'", text.text)));
        }
        let pattern = self.pattern.as_ref().filter(|pattern| !pattern.is_met())?;
        Some(mismatch(format!("match for '{}'", pattern.regex)))
    }

    /// What `failure` means in the middle of an answer.
    pub(super) fn cut_short(&self, failure: Failure) -> Failure {
        match (self.mismatch(), failure) {
            (Some(mismatch), Failure::Late { expected: _, within }) => {
                Failure::MismatchAtTimeout { mismatch, within }
            }
            (Some(mismatch), Failure::Closed { .. } | Failure::Reset { .. }) => {
                Failure::MismatchAtClose { mismatch }
            }
            (_, failure) => failure,
        }
    }
}

/// Looks for a text; keeps no more of the answer than the text is long.
struct Text<'a> {
    text: &'a str,
    /// The end of what was seen, for a text across the border of two pieces: less than the text's length.
    tail: Vec<u8>,
    found: bool,
}

impl<'a> Text<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, tail: Vec::new(), found: text.is_empty() }
    }

    fn feed(&mut self, piece: &[u8]) {
        if self.found {
            return;
        }
        let keep = self.text.len() - 1;
        self.tail.extend_from_slice(&piece[..piece.len().min(keep)]);
        let text = self.text.as_bytes();
        self.found = memmem::find(&self.tail, text).is_some() || memmem::find(piece, text).is_some();
        if piece.len() >= keep {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - keep..]);
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(keep));
        }
    }
}

/// Looks for a match of a regular expression in all that came.
struct Pattern<'a> {
    regex: &'a Regex,
    came: Vec<u8>,
    /// How much of it was searched by [`Pattern::is_settled`].
    searched: usize,
    settled: bool,
}

/// What an expression may look at behind its match: a line's end or one character, for `$` and `\b`.
const CONTEXT: usize = 4;
/// Up to so many bytes each piece is reason to search again. Behind them an eighth more is, or an answer of many small
/// pieces would cost the square of its length.
const SEARCHED_OFTEN: usize = 4096;

impl<'a> Pattern<'a> {
    fn new(regex: &'a Regex) -> Self {
        Self { regex, came: Vec::new(), searched: 0, settled: false }
    }

    fn feed(&mut self, piece: &[u8]) {
        if !self.settled {
            self.came.extend_from_slice(piece);
        }
    }

    /// A match that ends well before the end of what came stays one.
    fn is_settled(&mut self) -> bool {
        let due = self.came.len() <= SEARCHED_OFTEN || self.came.len() >= self.searched + self.searched / 8;
        if !self.settled && due {
            self.searched = self.came.len();
            let end = self.regex.shortest_match(&self.came);
            self.settled = end.is_some_and(|end| end + CONTEXT <= self.came.len());
        }
        self.settled
    }

    /// `$` is the end of the answer, or before the line's end that ends it, as in Perl and as for grep: few answers end
    /// without one.
    fn is_met(&self) -> bool {
        let line = self.came.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        self.settled || self.regex.is_match(&self.came) || line.is_some_and(|line| self.regex.is_match(line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::probe::servers::expected;

    fn fed<'a>(expected: &'a Expectation, pieces: &[&str]) -> Search<'a> {
        let mut search = Search::new(expected);
        for piece in pieces {
            search.feed(piece.as_bytes());
        }
        search
    }

    #[test]
    fn text_and_pattern_must_both_be_there() {
        let expected = expected(Some("ready"), Some("^220 "));
        assert_eq!(fed(&expected, &["22", "0 mail is re", "ady\r\n"]).mismatch(), None);
        let mismatch = |pieces: &[&str]| fed(&expected, pieces).mismatch().map(|mismatch| mismatch.sought);
        assert_eq!(mismatch(&["220 mail"]).as_deref(), Some("'ready'"));
        assert_eq!(mismatch(&["re", "ady"]).as_deref(), Some("match for '^220 '"));
        assert_eq!(
            mismatch(&["ready ", "220 "]).as_deref(),
            Some("match for '^220 '"),
            "no piece's beginning"
        );
    }

    #[test]
    fn an_end_is_an_end_only_when_nothing_follows() {
        let expected = expected(None, Some("ok$"));
        let mut search = fed(&expected, &["all ok"]);
        assert!(!search.is_settled());
        assert_eq!(search.mismatch(), None);
        search.feed(b", not at all");
        assert!(!search.is_settled());
        assert!(search.mismatch().is_some());
    }

    /// As Perl has it, in which ldirectord's `receive` is written, and grep.
    #[test]
    fn c3_a_line_end_behind_the_end_is_passed_over() {
        for (pattern, answer, met) in [
            ("ready$", "ready", true),
            ("ready$", "ready\n", true),
            ("ready$", "ready\r\n", true),
            ("^ready$", "ready\r\n", true),
            ("ready\n$", "ready\n", true),
            ("ready$", "ready\n\n", false),
            ("ready$", "ready\nor not\n", false),
            ("(?m)ready$", "ready\nor not\n", true),
            ("ready$", "readyness\n", false),
        ] {
            let expected = expected(None, Some(pattern));
            assert_eq!(fed(&expected, &[answer]).mismatch().is_none(), met, "'{pattern}' in {answer:?}");
        }
    }

    #[test]
    fn nothing_wanted_is_met_by_nothing() {
        let expected = expected(None, None);
        let mut search = fed(&expected, &[]);
        assert!(search.is_settled());
        assert_eq!(search.mismatch(), None);
    }

    #[test]
    fn what_came_is_shown() {
        let expected = expected(Some("x"), None);
        let mismatch = fed(&expected, &["It", " works!"]).mismatch().expect("no x");
        assert_eq!(mismatch, Mismatch { sought: "'x'".into(), seen: 9, begins: "'It works!'".into() });
    }

    proptest! {
        #[test]
        fn text_is_found_wherever_pieces_are_cut(
            pieces in prop::collection::vec("[ab]{0,6}", 0..8),
            text in "[ab]{1,5}",
        ) {
            let expected = expected(Some(&text), None);
            let mut search = Search::new(&expected);
            for piece in &pieces {
                search.feed(piece.as_bytes());
            }
            prop_assert_eq!(search.is_settled(), pieces.concat().contains(&text));
        }

        /// Whatever is taken for settled early holds for the whole.
        #[test]
        fn patterns_do_not_depend_on_how_pieces_are_cut(
            pieces in prop::collection::vec("[ab\nü]{0,6}", 0..8),
            pattern in prop::sample::select(vec!["^ab", "ab$", r"\bab\b", "(?m)^a+$", "a.*b", "b{3}|a$", r"\Ba"]),
        ) {
            let whole = pieces.concat();
            let expected = expected(None, Some(pattern));
            let mut search = Search::new(&expected);
            let settled = pieces.iter().any(|piece| {
                search.feed(piece.as_bytes());
                search.is_settled()
            });
            let line = whole.strip_suffix('\n').unwrap_or(&whole);
            let regex = Regex::new(pattern).expect("an expression");
            let matches = [&whole[..], line].iter().any(|text| regex.is_match(text.as_bytes()));
            prop_assert!(matches || !settled, "'{}' in {:?}", pattern, pieces);
            if !settled {
                prop_assert_eq!(search.mismatch().is_none(), matches, "'{}' in {:?}", pattern, pieces);
            }
        }
    }
}
