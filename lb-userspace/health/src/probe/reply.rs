//! Replies with a three-digit code, as in SMTP and FTP (RFC 5321, section 4.2.1; RFC 959, section
//! 4.2).

use super::Failure;
use super::excerpt::quote;
use super::line_client::{LineClient, wrong};

/// Maximum number of lines of a reply; greetings can be long.
const LINES: usize = 1000;

/// The code, and the last line of the reply.
#[derive(Debug)]
pub(super) struct Reply {
    pub number: [u8; 3],
    pub line: Vec<u8>,
}

impl Reply {
    /// Whether the code is of class 2: success.
    pub(super) fn is_good(&self) -> bool {
        self.number[0] == b'2'
    }

    pub(super) fn is(&self, number: &str) -> bool {
        self.number == number.as_bytes()
    }
}

/// Reads the reply `what`, which should have the code `expected`, to its last line.
///
/// `220-` begins a reply of several lines; a line with a code and a blank ends it. That code must
/// be the first one, or an error's, if the server has changed its mind. Other lines that begin with
/// a number are text: old FTP servers do not escape them.
pub(super) async fn read(
    server: &mut LineClient<'_>,
    what: &'static str,
    expected: &'static str,
) -> Result<Reply, Failure> {
    let mut first: Option<([u8; 3], Vec<u8>)> = None;
    for _ in 0..LINES {
        let line = match (server.line(what).await, &first) {
            (Err(Failure::Late { within, .. }), Some((_, line))) => {
                let (within, begins) = (humantime::format_duration(within), quote(line));
                let message =
                    format!("no more of the {what} than {begins} within {within}: does the server delay it?");
                return Err(Failure::Wrong(format!(
                    "{message} (raise `timeout`, or exempt this host from the delay)"
                )));
            }
            (line, _) => line?,
        };
        match (numbered(&line), &first) {
            (None, None) if line.is_empty() => {}
            (None, None) => return Err(wrong(what, &line, expected)),
            (Some((number, false)), None) => first = Some((number, line)),
            (Some((number, true)), None) => return Ok(Reply { number, line }),
            (Some((number, true)), Some((opened, _)))
                if number == *opened || matches!(number[0], b'4' | b'5') =>
            {
                return Ok(Reply { number, line });
            }
            (_, Some(_)) => {}
        }
    }
    Err(Failure::Wrong(format!("the {what} has more than {LINES} lines")))
}

/// The code, and whether the line ends a reply.
fn numbered(line: &[u8]) -> Option<([u8; 3], bool)> {
    let (number, rest) = line.split_first_chunk::<3>()?;
    let is_last = match rest.first() {
        Some(b'-') => false,
        Some(byte) if byte.is_ascii_alphanumeric() => return None,
        _ => true,
    };
    number.iter().all(u8::is_ascii_digit).then_some((*number, is_last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_three_digits_and_an_end() {
        assert_eq!(numbered(b"220 hello"), Some((*b"220", true)));
        assert_eq!(numbered(b"220-hello"), Some((*b"220", false)));
        assert_eq!(numbered(b"220"), Some((*b"220", true)));
        assert_eq!(numbered(b"220\thello"), Some((*b"220", true)));
        for line in [&b"22"[..], b"", b"2200 x", b"22o x", b" 220 x", b"hello"] {
            assert_eq!(numbered(line), None, "{line:?}");
        }
    }
}
