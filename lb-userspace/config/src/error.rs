//! Mistakes in a configuration, and their display with source line and caret.

use std::fmt::{self, Write as _};
use std::io;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::files::Document;
use super::source_map::{self, Position};

/// Why a configuration was refused.
///
/// `Display` gives one paragraph per mistake: `FILE:LINE:COLUMN: MESSAGE`, the line itself, and a
/// caret below it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{origin}: {cause}")]
    Unreadable { origin: String, cause: io::Error },
    #[error("{}", Report { origin, mistakes })]
    Mistakes {
        /// Name of the file that includes the others.
        origin: String,
        /// Sorted by file and position; never empty.
        mistakes: Vec<Mistake>,
    },
}

/// One mistake: its position, and what was found and expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Name of the file, as it was asked for or found.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    pub message: String,
    /// The line of the file, for display.
    pub source_line: String,
}

/// A mistake as parser and validator report it.
pub(super) type Found = (Position, String);

impl ConfigError {
    /// Empty for a file that could not be read.
    pub fn mistakes(&self) -> &[Mistake] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Mistakes { mistakes, .. } => mistakes,
        }
    }

    /// `documents` must not be empty.
    pub(super) fn of(found: Vec<Found>, documents: &[Document]) -> Self {
        let origin = documents.first().map_or_else(String::new, Document::name);
        Self::Mistakes { origin, mistakes: Mistake::of(found, documents) }
    }
}

impl Mistake {
    /// Sorted, each once.
    pub(super) fn of(mut found: Vec<Found>, documents: &[Document]) -> Vec<Self> {
        found.sort();
        // A mistake at an anchor is reported again for every alias.
        found.dedup();
        let all: Vec<Vec<&str>> =
            documents.iter().map(|document| source_map::lines(&document.text).collect()).collect();
        let mistakes = found.into_iter().map(|(at, message)| {
            let lines = &all[at.file];
            // As in YAML 1.1, libyaml also ends lines at U+0085, U+2028 and U+2029, so it may count
            // more lines.
            let line = at.line.min(lines.len());
            let source_line = lines[line - 1].to_owned();
            let column = at.column.min(source_line.chars().count() + 1);
            Self { file: documents[at.file].name(), line, column, message, source_line }
        });
        mistakes.collect()
    }
}

/// `FILE:LINE:COLUMN: MESSAGE`, without the line.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, source_line: _ } = self;
        write!(f, "{file}:{line}:{column}: {message}")
    }
}

/// Mistakes that are displayed; the others are only counted. A wrong first line can cause
/// thousands.
const LISTED: usize = 50;

/// Maximum number of characters that a message quotes of a value.
pub(super) const SHOWN: usize = 80;

struct Report<'a> {
    origin: &'a str,
    mistakes: &'a [Mistake],
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().take(LISTED).enumerate() {
            if index > 0 {
                f.write_char('\n')?;
            }
            let Mistake { line, column, source_line, .. } = mistake;
            let (shown, before_caret) = excerpt(&without_secrets(source_line), *column);
            let gutter = line.to_string();
            write!(f, "{mistake}")?;
            if !shown.is_empty() {
                writeln!(f, "\n  {gutter} | {shown}")?;
                write!(f, "  {:1$} | {2:3$}^", "", gutter.len(), "", before_caret)?;
            }
        }
        match self.mistakes.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => write!(f, "\n{}: {more} more mistakes", self.origin),
        }
    }
}

/// Maximum number of terminal columns shown of a source line.
const EXCERPT: usize = 100;

/// Digits of a key that are as many as a secret has.
const SECRET: usize = 32;

/// The line with stars in place of secrets: a configuration is shown to others when it has a
/// mistake.
fn without_secrets(line: &str) -> String {
    SECRET_KEYS.iter().fold(without_digits(line), |line, key| without_value(&line, key))
}

/// Keys whose values are secrets.
const SECRET_KEYS: [&str; 3] = ["password:", "token:", "url:"];

/// The line with stars in place of the value of `key`, unless that is a reference.
fn without_value(line: &str, key: &str) -> String {
    let starts_word = |at: usize| !line[..at].ends_with(|char: char| char.is_alphanumeric() || char == '_');
    let Some((at, _)) = line.match_indices(key).find(|(at, _)| starts_word(*at)) else {
        return line.to_owned();
    };
    let (before, value) = line.split_at(at + key.len());
    let bare = value.trim_start();
    let end = match bare.chars().next() {
        Some(quote @ ('"' | '\'')) => bare[1..].find(quote).map(|at| at + 2),
        _ => bare.find([',', '}']).or_else(|| bare.find(" #")),
    };
    let (secret, rest) = bare.split_at(end.unwrap_or(bare.len()));
    if secret.trim_start_matches(['"', '\'']).starts_with("${") {
        return line.to_owned();
    }
    let blanks = &value[..value.len() - bare.len()];
    format!("{before}{blanks}{}{rest}", "*".repeat(secret.chars().count()))
}

/// The line with stars in place of keys.
fn without_digits(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if digits == SECRET {
            shown.extend(std::iter::repeat_n('*', digits));
        } else {
            shown.push_str(&rest[..digits]);
        }
        let others = rest[digits..].find(|char: char| char.is_ascii_hexdigit());
        let (between, next) = rest[digits..].split_at(others.unwrap_or(rest.len() - digits));
        shown.push_str(between);
        rest = next;
    }
    shown
}

/// The part of `line` around `column`, safe to print, and the number of terminal columns in front
/// of the caret.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    let caret = column.saturating_sub(1);
    let start = caret.saturating_sub(EXCERPT / 2);
    let start = if line.width() <= EXCERPT { 0 } else { start };
    let mut shown = String::from(if start > 0 { "…" } else { "" });
    let mut before_caret = shown.width();
    let mut width = 0;
    for (index, char) in line.chars().enumerate().skip(start) {
        let char = printable(char);
        width += char.width().unwrap_or(0);
        if width > EXCERPT {
            shown.push('…');
            break;
        }
        if index < caret {
            before_caret += char.width().unwrap_or(0);
        }
        shown.push(char);
    }
    (shown.trim_end().to_owned(), before_caret)
}

/// Replaces a tab by one blank, so that the caret stays in place, and control characters, which a
/// terminal would obey.
fn printable(char: char) -> char {
    match char {
        '\t' => ' ',
        char if char.is_control() => '\u{fffd}',
        char => char,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_shown() {
        let key = "8f95f09245765f80256934e50c66207f";
        let line = format!("quic_lb: [{{ rotation: 9, key: {key}, nonce_length: \"é\" }}]");
        assert_eq!(without_secrets(&line), line.replace(key, &"*".repeat(32)));
        for line in ["vip: 2001:db8::10", "deadbeef", "", "ünïcode", &key[1..]] {
            assert_eq!(without_secrets(line), line);
        }
    }

    #[test]
    fn values_of_secrets_are_not_shown() {
        for (line, shown) in [
            ("    password: abc", "    password: ***"),
            ("email: { password: 'a, b}', from: c }", "email: { password: *******, from: c }"),
            ("{ token: abc } # why", "{ token: ****} # why"),
            ("url: https://chat/abc # why", "url: **************** # why"),
            ("password: ${file:/etc/lb/p}", "password: ${file:/etc/lb/p}"),
            ("tokens: /etc/lb/tokens", "tokens: /etc/lb/tokens"),
        ] {
            assert_eq!(without_secrets(line), shown);
        }
    }

    fn shown(source_line: &str, column: usize) -> Vec<String> {
        let file = "lb.yaml".to_owned();
        let mistakes =
            vec![Mistake { file, line: 7, column, message: "wrong".into(), source_line: source_line.into() }];
        let error = ConfigError::Mistakes { origin: "lb.yaml".into(), mistakes };
        error.to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_caret_stands_below_the_column() {
        assert_eq!(shown("weight: x", 9), ["lb.yaml:7:9: wrong", "  7 | weight: x", "    |         ^"]);
    }

    #[test]
    fn wide_characters_before_the_caret_count_twice() {
        assert_eq!(shown("{ name: 웹, weight: x }", 20)[2], format!("    | {}^", " ".repeat(20)));
    }

    #[test]
    fn control_characters_are_not_printed() {
        assert_eq!(shown("\ta\u{1b}[2J", 2)[1..], ["  7 |  a\u{fffd}[2J", "    |  ^"]);
    }

    #[test]
    fn a_long_line_is_cut_on_both_sides_of_the_caret() {
        let line = format!("{}!{}", "a".repeat(5000), "b".repeat(5000));
        let [_, excerpt, caret] = &shown(&line, 5001)[..] else { panic!("three lines") };
        assert_eq!(excerpt.chars().nth(caret.chars().count() - 1), Some('!'));
        assert!(excerpt.chars().count() < 120, "{excerpt}");
    }
}
