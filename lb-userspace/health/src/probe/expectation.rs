//! Matches an answer, received in pieces, against the check's expectation.
//!
//! The search for a text works across pieces and needs no more memory than the text's length. A
//! regular expression needs the whole answer, so that `^` and `$` match the answer's ends and not a
//! piece's; the caller limits the answer's length.

use lb_model::Expectation;
use memchr::memmem;
use regex::bytes::Regex;

use super::Failure;
use super::excerpt::{EXCERPT_BYTES, excerpt};

/// An expectation that the answer does not meet.
#[derive(Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The expectation, for "no …" in messages.
    pub sought: String,
    /// Number of searched bytes.
    pub seen: usize,
    /// The beginning of the answer.
    pub begins: String,
}

/// A search in one answer.
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

    /// Searches the next piece.
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

    /// Whether the expectation is met, whatever may follow.
    pub(super) fn is_settled(&mut self) -> bool {
        self.text.as_ref().is_none_or(|text| text.found)
            && self.pattern.as_mut().is_none_or(Pattern::is_settled)
    }

    /// Like [`Search::is_settled`], but searches again however little has come since the last time.
    pub(super) fn settle(&mut self) -> bool {
        self.pattern.as_mut().is_none_or(Pattern::settle) && self.text.as_ref().is_none_or(|text| text.found)
    }

    /// Whether it stores what it is fed, for an expression that is not settled.
    pub(super) fn stores(&self) -> bool {
        self.pattern.as_ref().is_some_and(|pattern| !pattern.settled)
    }

    /// The unmet expectation, if the answer ends here.
    pub(super) fn mismatch(&self) -> Option<Mismatch> {
        let mismatch = |sought| Mismatch { sought, seen: self.seen, begins: excerpt(&self.begins) };
        if let Some(text) = self.text.as_ref().filter(|text| !text.found) {
            return Some(mismatch(format!("'{}'", text.text)));
        }
        let pattern = self.pattern.as_ref().filter(|pattern| !pattern.is_met())?;
        Some(mismatch(format!("match for '{}'", pattern.regex)))
    }

    /// Converts a `failure` in the middle of an answer.
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

/// Searches for a text; stores no more of the answer than the text's length.
struct Text<'a> {
    text: &'a str,
    /// The end of the searched bytes, for a text across two pieces; shorter than the text.
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

/// Searches for a match of a regular expression in the answer so far.
struct Pattern<'a> {
    regex: &'a Regex,
    came: Vec<u8>,
    /// Length of the answer at the last search of [`Pattern::is_settled`].
    searched: usize,
    settled: bool,
}

/// Bytes after a match that a regular expression may look at: a line end or one character, for `$`
/// and `\b`.
const CONTEXT: usize = 4;
/// Up to this many bytes every piece causes a new search. Beyond, the answer must have grown by an
/// eighth; otherwise an answer of many small pieces would cost the square of its length.
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

    /// Whether a match ends far enough before the end of the bytes so far to stay a match.
    fn is_settled(&mut self) -> bool {
        let due = self.came.len() <= SEARCHED_OFTEN || self.came.len() >= self.searched + self.searched / 8;
        if due { self.settle() } else { self.settled }
    }

    fn settle(&mut self) -> bool {
        if !self.settled {
            self.searched = self.came.len();
            let end = self.regex.shortest_match(&self.came);
            self.settled = end.is_some_and(|end| end + CONTEXT <= self.came.len());
        }
        self.settled
    }

    /// `$` matches at the end of the answer and before its final line end, as in Perl and grep:
    /// most answers end with one.
    fn is_met(&self) -> bool {
        let line = self.came.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        self.settled || self.regex.is_match(&self.came) || line.is_some_and(|line| self.regex.is_match(line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::probe::test_servers::expected;

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

    /// As in Perl, whose expressions ldirectord's `receive` takes, and as in grep.
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
    fn a_last_search_is_made_however_little_came() {
        let expected = expected(None, Some("ready"));
        let mut search = fed(&expected, &[&"x".repeat(2 * SEARCHED_OFTEN)[..]]);
        assert!(!search.is_settled() && search.stores());
        search.feed(b"ready, and more");
        assert!(!search.is_settled(), "too little came for another search");
        assert!(search.settle() && search.is_settled() && !search.stores());
    }

    #[test]
    fn an_empty_expectation_is_met_by_an_empty_answer() {
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

        /// A search that is settled early has the same result on the whole answer.
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
