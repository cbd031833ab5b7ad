//! Replies that begin with a number of three digits, as in SMTP and FTP (RFC 5321, section 4.2.1; RFC 959, section 4.2).

use super::Failure;
use super::excerpt::quote;
use super::line_client::{LineClient, wrong};

/// Lines of one reply. Greetings can be long-winded.
const LINES: usize = 1000;

/// The number, and the line that ends the reply.
#[derive(Debug)]
pub(super) struct Reply {
    pub number: [u8; 3],
    pub line: Vec<u8>,
}

impl Reply {
    /// Of the class 2: what was asked is done.
    pub(super) fn is_good(&self) -> bool {
        self.number[0] == b'2'
    }

    pub(super) fn is(&self, number: &str) -> bool {
        self.number == number.as_bytes()
    }
}

/// Reads `what`, which should have the number `expected`, to its last line.
///
/// `220-` opens a reply of many lines, and one that begins with a number and a blank ends it. It is the same number, or that
/// of an error, if the server has second thoughts: other lines that look so are text, of which old FTP servers do not take
/// care.
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
                let words =
                    format!("no more of the {what} than {begins} within {within}: does it take its time?");
                return Err(Failure::Wrong(format!(
                    "{words} (raise `timeout`, or let this host pass at once)"
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

/// The number, and whether the line ends a reply.
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
