//! The file of tokens: who may give orders.
//!
//! ```text
//! # NAME TOKEN, one per line: whose token it is, and at least 32 characters without blanks.
//! # Make one with: openssl rand -hex 32
//! alice 5b1f0e…
//! ```

use std::path::Path;

use lb_system::private_file::{self, PrivateFileError};
use subtle::ConstantTimeEq as _;

/// No file of tokens is longer, in bytes.
const MOST: u64 = 64 * 1024;
const SHORTEST: usize = 32;
const LONGEST_NAME: usize = 64;

/// Why there are no tokens. None of these shows any of a token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokensError {
    #[error(transparent)]
    File(#[from] PrivateFileError),
    #[error("{path}:{line}: {wrong}")]
    Line { path: String, line: usize, wrong: &'static str },
    #[error("{path}: no token in it: add a line `NAME TOKEN`, make a token with: openssl rand -hex 32")]
    Empty { path: String },
}

/// Names and their tokens.
pub(crate) struct Tokens(Vec<(String, String)>);

impl Tokens {
    pub(crate) fn read(path: &Path) -> Result<Self, TokensError> {
        let text = private_file::read(path, MOST)?;
        let path = path.display().to_string();
        match parse(&String::from_utf8_lossy(&text)) {
            Ok(tokens) if tokens.0.is_empty() => Err(TokensError::Empty { path }),
            Ok(tokens) => Ok(tokens),
            Err((line, wrong)) => Err(TokensError::Line { path, line, wrong }),
        }
    }

    /// Whose token it is. All are compared, so that the time tells nothing.
    pub(crate) fn owner(&self, token: &str) -> Option<&str> {
        let mut owner = None;
        for (name, known) in &self.0 {
            if bool::from(known.as_bytes().ct_eq(token.as_bytes())) {
                owner = Some(&**name);
            }
        }
        owner
    }
}

fn parse(text: &str) -> Result<Tokens, (usize, &'static str)> {
    let mut tokens: Vec<(String, String)> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let mut words = content.split_whitespace();
        let (Some(name), Some(token), None) = (words.next(), words.next(), words.next()) else {
            return Err((line, "expected `NAME TOKEN`, two words"));
        };
        if name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
            return Err((line, "the name has control characters in it, or more than 64 characters"));
        }
        if token.len() < SHORTEST {
            return Err((
                line,
                "the token has fewer than 32 characters: make one with: openssl rand -hex 32",
            ));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err((line, "the token has other characters than letters, digits and ASCII's signs"));
        }
        if tokens.iter().any(|(_, other)| other == token) {
            return Err((line, "another line has this token: the event log could not tell who it was"));
        }
        tokens.push((name.to_owned(), token.to_owned()));
    }
    Ok(Tokens(tokens))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_token_tells_its_owner() {
        let text = format!("# who\n\n alice {TOKEN} \nbob {}\n", TOKEN.to_uppercase());
        let tokens = parse(&text).expect("tokens");
        assert_eq!(tokens.owner(TOKEN), Some("alice"));
        assert_eq!(tokens.owner(&TOKEN.to_uppercase()), Some("bob"));
        for wrong in ["", "alice", &TOKEN[1..], &format!("{TOKEN}0")] {
            assert_eq!(tokens.owner(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_bad_line_is_named_and_shows_no_token() {
        for (text, line) in [
            (format!("alice {TOKEN}\nalice"), 2),
            (format!("a b {TOKEN}"), 1),
            ("alice short".to_owned(), 1),
            (format!("alice {TOKEN}\n\nbob {TOKEN}"), 3),
            (format!("alice {TOKEN}ä"), 1),
            (format!("{} {TOKEN}", "x".repeat(65)), 1),
        ] {
            let (found, wrong) = parse(&text).err().expect("a mistake");
            assert_eq!(found, line, "{text}: {wrong}");
            assert!(!wrong.contains("0123"), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        let read_with = |text: &str, mode| {
            std::fs::write(&path, text).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
            Tokens::read(&path).err().map(|error| error.to_string())
        };
        let line = format!("alice {TOKEN}\n");
        assert!(read_with(&line, 0o640).expect("an error").contains("chmod 600"));
        assert_eq!(read_with(&line, 0o600), None);
        assert!(read_with("# nobody", 0o600).expect("an error").contains("no token in it"));
        assert!(read_with("alice x", 0o600).expect("an error").contains("tokens:1: "));
    }
}
