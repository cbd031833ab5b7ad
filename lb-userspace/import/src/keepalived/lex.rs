//! keepalived.conf as words and braces: comments, quotes, definitions, conditional lines, includes.

use std::collections::BTreeMap;

use crate::Find;
use crate::ledger::Ledger;
use crate::report::At;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    Open,
    Close,
    /// The end of a line.
    End,
}

/// Definitions name others: so many times, and so much text, that no real file needs more.
const DEEPEST: usize = 16;
const LONGEST: usize = 100_000;
const MOST_FILES: usize = 100;

pub(super) struct Lexer<'l, 'f> {
    pub ledger: &'l mut Ledger,
    pub find: &'l mut Find<'f>,
    /// keepalived's `--config-id`.
    pub id: Option<String>,
    pub tokens: Vec<(Token, At)>,
    definitions: BTreeMap<String, Vec<String>>,
    files: usize,
}

impl<'l, 'f> Lexer<'l, 'f> {
    pub(super) fn new(ledger: &'l mut Ledger, find: &'l mut Find<'f>, id: Option<String>) -> Self {
        Self { ledger, find, id, tokens: Vec::new(), definitions: BTreeMap::new(), files: 0 }
    }

    pub(super) fn file(&mut self, file: usize) {
        let mut lines = self.ledger.lines(file).into_iter();
        while let Some((at, line)) = lines.next() {
            let Some(text) = self.conditional(at, &line) else { continue };
            let mut text = self.without_comment(at, &text);
            // A line that ends with a backslash goes on in the next one.
            let (mut pieces, mut from) = (Vec::new(), vec![at]);
            while let Some(piece) = text.trim_end().strip_suffix('\\') {
                pieces.push(piece.trim().to_owned());
                let Some((at, line)) = lines.next() else { break };
                from.push(at);
                text = self.without_comment(at, &line);
            }
            if from.len() > 1 {
                if text.trim_end().ends_with('\\') {
                    text.clear();
                }
                pieces.push(text.trim().to_owned());
                from.iter().skip(1).for_each(|at| self.ledger.kept(*at, "goes on with the line before"));
            } else {
                pieces = vec![text];
            }
            self.logical(at, pieces);
        }
    }

    /// The line, if it is for this `--config-id`.
    fn conditional(&mut self, at: At, line: &str) -> Option<String> {
        let Some(rest) = line.strip_prefix('@') else { return Some(line.to_owned()) };
        let (name, body) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let (negated, name) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
        let Some(id) = &self.id else {
            let what = format!(
                "a line for one `--config-id` of keepalived: say which one to import by `--id {name}`"
            );
            self.ledger.lost(at, what);
            return None;
        };
        if (id == name) == negated {
            self.ledger.needless(at, format!("not for `--id {id}`"));
            return None;
        }
        Some(body.to_owned())
    }

    fn without_comment(&mut self, at: At, line: &str) -> String {
        let mut quote = None;
        let mut escaped = false;
        for (index, char) in line.char_indices() {
            match (quote, char) {
                _ if escaped => escaped = false,
                (Some(_), '\\') => escaped = true,
                (Some(open), char) if open == char => quote = None,
                (None, '"' | '\'') => quote = Some(char),
                (None, '#' | '!') => {
                    self.ledger.comment(at, &line[index + 1..]);
                    return line[..index].to_owned();
                }
                _ => {}
            }
        }
        line.to_owned()
    }

    fn logical(&mut self, at: At, pieces: Vec<String>) {
        let first = pieces.first().map_or("", |piece| piece.trim_start());
        if let Some((name, value)) = definition(first) {
            let mut lines = vec![value.to_owned()];
            lines.extend(pieces[1..].iter().cloned());
            lines.retain(|line| !line.trim().is_empty());
            self.definitions.insert(name.to_owned(), lines);
            self.ledger.kept(at, "put in where it is used");
            return;
        }
        let text = pieces.join(" ");
        if text.contains("~SEQ") || text.contains("~LST") {
            self.ledger
                .lost(at, "`lb import` does not repeat lines as ~SEQ and ~LST want it: write them out");
            return;
        }
        let mut budget = LONGEST;
        for line in self.expand(&text, DEEPEST, &mut budget) {
            self.words(at, &line);
            self.tokens.push((Token::End, at));
        }
        self.include(at);
    }

    /// Puts definitions in; a definition of several lines makes several lines.
    fn expand(&self, text: &str, depth: usize, budget: &mut usize) -> Vec<String> {
        *budget = budget.saturating_sub(text.len());
        let Some(start) = text.find('$').filter(|_| depth > 0 && *budget > 0) else {
            return vec![text.to_owned()];
        };
        let rest = &text[start + 1..];
        let braced =
            rest.strip_prefix('{').and_then(|inner| inner.find('}').map(|end| (&inner[..end], end + 2)));
        let plain = || {
            let end = rest.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(rest.len());
            (&rest[..end], end)
        };
        let (name, length) = braced.unwrap_or_else(plain);
        let (before, after) = (&text[..start], &rest[length..]);
        let Some(lines) = self.definitions.get(name) else {
            // What is not defined stays as it is.
            let tails = self.expand(after, depth, budget).into_iter();
            let head = &text[..start + 1 + length];
            return tails.map(|tail| format!("{head}{tail}")).collect();
        };
        let mut all = Vec::new();
        let last = lines.len().saturating_sub(1);
        for (index, line) in lines.iter().enumerate() {
            let head = if index == 0 { before } else { "" };
            let tail = if index == last { after } else { "" };
            all.extend(self.expand(&format!("{head}{line}{tail}"), depth - 1, budget));
        }
        if lines.is_empty() { self.expand(&format!("{before}{after}"), depth - 1, budget) } else { all }
    }

    /// Splits a line into words and braces.
    fn words(&mut self, at: At, line: &str) {
        let mut chars = line.chars().peekable();
        while let Some(char) = chars.peek().copied() {
            match char {
                '{' => {
                    chars.next();
                    self.tokens.push((Token::Open, at));
                }
                '}' => {
                    chars.next();
                    self.tokens.push((Token::Close, at));
                }
                char if char.is_whitespace() => {
                    chars.next();
                }
                _ => {
                    let word = word(&mut chars);
                    self.tokens.push((Token::Word(word), at));
                }
            }
        }
    }

    /// Replaces a line that includes files by what they say.
    fn include(&mut self, at: At) {
        let begin = self.tokens.iter().rposition(|(token, place)| *place != at || *token == Token::Open);
        let line = self.tokens.get(begin.map_or(0, |index| index + 1)..).unwrap_or_default();
        let [(Token::Word(name), _), (Token::Word(pattern), _), (Token::End, _)] = line else { return };
        if !matches!(
            name.as_str(),
            "include" | "includer" | "includem" | "includew" | "includeb" | "includea"
        ) {
            return;
        }
        let (pattern, here) = (pattern.clone(), self.ledger.name(at.file).to_owned());
        self.tokens.truncate(self.tokens.len() - 3);
        match (self.find)(&pattern, &here) {
            Ok(_) if self.files >= MOST_FILES => self.ledger.lost(at, "too many files include each other"),
            Ok(files) => {
                let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
                self.ledger
                    .changed(at, format!("what it includes stands in the one file: {}", names.join(", ")));
                for file in &files {
                    self.files += 1;
                    let number = self.ledger.add(file);
                    self.file(number);
                }
            }
            Err(why) => self.ledger.lost(at, format!("{pattern} was not imported: {why}")),
        }
    }
}

/// `$NAME=value`
fn definition(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('$')?.split_once('=')?;
    let name = name.trim();
    let fits = !name.is_empty() && name.chars().all(|char| char.is_alphanumeric() || char == '_');
    fits.then(|| (name, value.trim()))
}

/// A word; quotes inside it join, escapes are those of C.
fn word(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut word = String::new();
    let mut quote = None;
    while let Some(char) = chars.peek().copied() {
        match (quote, char) {
            (None, char) if char.is_whitespace() || "{}".contains(char) => break,
            (None, '"' | '\'') => quote = Some(char),
            (Some(open), char) if open == char => quote = None,
            (Some(_), '\\') => {
                chars.next();
                match chars.peek() {
                    Some('n') => word.push('\n'),
                    Some('t') => word.push('\t'),
                    Some('r') => word.push('\r'),
                    // Expressions have escapes of their own, which stay.
                    Some(other) if "\"'\\".contains(*other) => word.push(*other),
                    Some(other) => word.extend(['\\', *other]),
                    None => break,
                }
            }
            _ => word.push(char),
        }
        chars.next();
    }
    word
}
