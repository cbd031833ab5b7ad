//! Excerpts of answers for operators: short, on one line, without control characters.

/// Maximum number of characters in an excerpt.
const SHOWN: usize = 40;
/// Bytes for that many characters and one more.
pub(super) const EXCERPT_BYTES: usize = 4 * (SHOWN + 1);

/// Maximum number of characters of a text such as an error.
const LONGEST_TEXT: usize = 80;

/// Quoted and truncated: `'It works!'`. Bytes that are not UTF-8 become `�`.
pub fn excerpt(bytes: &[u8]) -> String {
    format!("'{}'", shown(&bytes[..bytes.len().min(EXCERPT_BYTES)], SHOWN))
}

/// Quoted.
pub(super) fn quote(bytes: &[u8]) -> String {
    format!("'{}'", clean(bytes))
}

pub(super) fn clean(bytes: &[u8]) -> String {
    shown(bytes, LONGEST_TEXT)
}

/// At most `most` characters, escaped.
fn shown(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let (mut shown, mut count) = (String::new(), 0);
    for character in text.trim_end().chars() {
        let before = shown.len();
        match character {
            '\'' | '"' | '\\' => shown.push(character),
            other => shown.extend(other.escape_debug()),
        }
        count += shown[before..].chars().count();
        if count > most {
            shown.replace_range(before.., "…");
            break;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_short_and_harmless() {
        let long = "x".repeat(41);
        let cut = format!("'{}…'", "x".repeat(40));
        let cases: [(&[u8], &str); 7] = [
            (b"", "''"),
            (b"It works!\r\n", "'It works!'"),
            (b"<p>\n it's", r"'<p>\n it's'"),
            (b"\x1b[2J\xff\0", r"'\u{1b}[2J�\0'"),
            ("gr\u{fc}n \u{202e}".as_bytes(), r"'grün \u{202e}'"),
            (long.as_bytes(), &cut),
            (&[b'x'; 100_000], &cut),
        ];
        for (bytes, shown) in cases {
            assert_eq!(excerpt(bytes), shown, "{bytes:?}");
        }
    }
    #[test]
    fn words_have_more_room() {
        assert_eq!(clean(&[b'x'; LONGEST_TEXT]), "x".repeat(LONGEST_TEXT));
        assert_eq!(quote(&[b'x'; LONGEST_TEXT + 1]), format!("'{}…'", "x".repeat(LONGEST_TEXT)));
        assert_eq!(clean(&[0; LONGEST_TEXT]), "\\0".repeat(LONGEST_TEXT / 2) + "…");
    }

    proptest! {
        #[test]
        fn whatever_is_said_stays_one_short_line(words in prop::collection::vec(any::<u8>(), 0..400)) {
            let text = quote(&words);
            prop_assert!(text.chars().count() <= LONGEST_TEXT + "'…'".chars().count());
            prop_assert!(!text.contains(char::is_control));
        }
    }
}
