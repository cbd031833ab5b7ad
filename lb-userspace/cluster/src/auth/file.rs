//! The key file.
//!
//! ```text
//! # ID KEY, one per line: an id of 0 to 255 and a key of 32 or more hexadecimal digits, or 16 or
//! # more other characters without blanks. Make one with: openssl rand -hex 32
//! 1 5b1f0e…
//! 2 90c4d2…
//! # Optional: which key to sign with; without it the first one.
//! sign 2
//! ```
//!
//! Whoever reads the file can take the cluster over, so it must belong to root or to the user `lb`
//! runs as, and be readable by nobody else.

use std::path::{Path, PathBuf};

use lb_system::private_file::{self, PrivateFileError};

use super::{KeyId, Keys};

/// No key file is larger.
const MAX_SIZE: u64 = 64 * 1024;
const MIN_HEX_DIGITS: usize = 32;
const MIN_CHARACTERS: usize = 16;
const MAKE_ONE: &str = "make one with: openssl rand -hex 32";

/// Why the key file was refused, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error(transparent)]
    File(#[from] PrivateFileError),
    #[error("{}: not UTF-8, this is not a key file", path.display())]
    NotText { path: PathBuf },
    #[error("{}:{line}: {wrong}", path.display())]
    Line { path: PathBuf, line: usize, wrong: Wrong },
    #[error("{}: no key in it: add a line `1 KEY`, {MAKE_ONE}", path.display())]
    Empty { path: PathBuf },
}

/// What is wrong with a line. None of these shows any of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("expected `ID KEY` or `sign ID`, with an ID from 0 to 255")]
    Syntax,
    #[error("the key has blanks in it; a key is one word, {MAKE_ONE}")]
    Blanks,
    #[error(
        "the key has {0} hexadecimal digits, an even number of at least {MIN_HEX_DIGITS} is needed: {MAKE_ONE}"
    )]
    HexLength(usize),
    #[error("the key has {0} characters, at least {MIN_CHARACTERS} are needed: {MAKE_ONE}")]
    TooShort(usize),
    #[error("key {0} is there twice, first on line {1}")]
    Twice(u8, usize),
    #[error("`sign` is there twice, first on line {0}")]
    SignTwice(usize),
    #[error("there is no key {0} in this file to sign with")]
    NoSuchKey(u8),
    #[error(
        "this is Heartbeat's authkeys, whose `{0}` is no protection today (crc has no secret at all, md5 and sha1 \
         are given up): heartbeats are signed with HMAC-SHA-256 here. Write `ID KEY` with a new key for all nodes, {MAKE_ONE}"
    )]
    Authkeys(String),
    #[error("`auth ID` is of Heartbeat's authkeys: write `sign ID`, and keys as `ID KEY` without a method")]
    AuthkeysAuth,
}

/// Reads and checks the file.
pub fn read(path: &Path) -> Result<Keys, KeyFileError> {
    let text = private_file::read(path, MAX_SIZE)?;
    let text = String::from_utf8(text).map_err(|_| KeyFileError::NotText { path: path.to_owned() })?;
    parse(&text).map_err(|error| match error {
        ParseError::Line(line, wrong) => KeyFileError::Line { path: path.to_owned(), line, wrong },
        ParseError::Empty => KeyFileError::Empty { path: path.to_owned() },
    })
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ParseError {
    /// The line's number, from 1.
    Line(usize, Wrong),
    Empty,
}

/// A key as it stands in the file, and where.
struct Entry {
    id: KeyId,
    secret: Vec<u8>,
    line: usize,
}

pub(super) fn parse(text: &str) -> Result<Keys, ParseError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut sign: Option<(KeyId, usize)> = None;
    for (index, content) in text.lines().enumerate() {
        let (content, line) = (content.trim(), index + 1);
        let wrong = |wrong| ParseError::Line(line, wrong);
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        match parse_line(content).map_err(wrong)? {
            Line::Sign(id) => match sign.replace((id, line)) {
                None => {}
                Some((_, first)) => return Err(wrong(Wrong::SignTwice(first))),
            },
            Line::Key(id, secret) => match entries.iter().find(|entry| entry.id == id) {
                None => entries.push(Entry { id, secret, line }),
                Some(first) => return Err(wrong(Wrong::Twice(id.0, first.line))),
            },
        }
    }
    let first = entries.first().ok_or(ParseError::Empty)?;
    let (sign_with, line) = sign.unwrap_or((first.id, first.line));
    Keys::new(entries.iter().map(|entry| (entry.id, entry.secret.as_slice())), sign_with)
        .ok_or(ParseError::Line(line, Wrong::NoSuchKey(sign_with.0)))
}

enum Line {
    Sign(KeyId),
    Key(KeyId, Vec<u8>),
}

fn parse_line(content: &str) -> Result<Line, Wrong> {
    let (first, rest) = content.split_once(char::is_whitespace).ok_or(Wrong::Syntax)?;
    let rest = rest.trim();
    match first {
        "sign" => Ok(Line::Sign(parse_id(rest)?)),
        "auth" => Err(Wrong::AuthkeysAuth),
        id => Ok(Line::Key(parse_id(id)?, parse_secret(rest)?)),
    }
}

fn parse_id(text: &str) -> Result<KeyId, Wrong> {
    text.parse().map(KeyId).map_err(|_| Wrong::Syntax)
}

fn parse_secret(text: &str) -> Result<Vec<u8>, Wrong> {
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default();
    if ["crc", "md5", "sha1", "sha"].contains(&first.to_ascii_lowercase().as_str()) {
        return Err(Wrong::Authkeys(first.to_owned()));
    }
    if words.next().is_some() {
        return Err(Wrong::Blanks);
    }
    if first.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return parse_hex(first);
    }
    match first.chars().count() {
        length if length < MIN_CHARACTERS => Err(Wrong::TooShort(length)),
        _ => Ok(first.as_bytes().to_vec()),
    }
}

fn parse_hex(digits: &str) -> Result<Vec<u8>, Wrong> {
    if digits.len() < MIN_HEX_DIGITS || !digits.len().is_multiple_of(2) {
        return Err(Wrong::HexLength(digits.len()));
    }
    hex::decode(digits).map_err(|_| Wrong::Syntax)
}
