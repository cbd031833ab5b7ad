//! Replies that begin with a number of three digits, as in SMTP and FTP (RFC 5321, section 4.2.1; RFC 959, section 4.2).

use super::Failure;
use super::conversation::{Conversation, wrong};

/// Lines of one reply. Greetings can be long-winded.
const LINES: usize = 200;

/// Reads `what` to its last line; it must have this number.
///
/// `220-` opens a reply of many lines, and the first that begins with a number and a space ends it. That may be another
/// number: a mail server that has second thoughts.
pub async fn expect(
    server: &mut Conversation<'_>,
    what: &'static str,
    number: &'static str,
) -> Result<(), Failure> {
    for count in 0..LINES {
        let line = server.line(what).await?;
        match numbered(&line) {
            Some((found, is_last)) if found == number.as_bytes() => {
                if is_last {
                    return Ok(());
                }
            }
            None | Some((_, false)) if count > 0 => {}
            _ => return Err(wrong(what, &line, number)),
        }
    }
    Err(Failure::Wrong(format!("the {what} has more than {LINES} lines")))
}

/// The number, and whether the line ends a reply.
fn numbered(line: &[u8]) -> Option<(&[u8], bool)> {
    let (number, rest) = line.split_at_checked(3)?;
    let is_last = match rest.first() {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    number.iter().all(u8::is_ascii_digit).then_some((number, is_last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_three_digits_and_an_end() {
        assert_eq!(numbered(b"220 hello"), Some((&b"220"[..], true)));
        assert_eq!(numbered(b"220-hello"), Some((&b"220"[..], false)));
        assert_eq!(numbered(b"220"), Some((&b"220"[..], true)));
        for line in [&b"22"[..], b"", b"2200 x", b"22o x", b" 220 x", b"hello"] {
            assert_eq!(numbered(line), None, "{line:?}");
        }
    }
}
