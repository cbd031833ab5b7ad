//! What somebody else has said, as part of a reason: cut short, and without characters that would make the log or the
//! terminal say something else.

/// Bytes of a quotation; what is longer ends with dots.
const LENGTH: usize = 160;

/// In quotation marks.
pub fn quote(words: &[u8]) -> String {
    format!("'{}'", clean(words))
}

/// Unprintable characters as Rust writes them, and bytes that are not UTF-8 as `\xff`.
pub fn clean(words: &[u8]) -> String {
    let mut text = String::new();
    for chunk in words.utf8_chunks() {
        let bytes = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
        for piece in chunk.valid().chars().map(printable).chain(bytes) {
            if text.len() + piece.len() > LENGTH {
                return text + "…";
            }
            text.push_str(&piece);
        }
    }
    text
}

fn printable(character: char) -> String {
    match character {
        '\'' | '"' => character.to_string(),
        other => other.escape_debug().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_printed_is_written_out() {
        let cases: [(&[u8], &str); 5] = [
            (b"554 can't \"serve\"", "'554 can't \"serve\"'"),
            (b"\x1b[2J\r\n\0", "'\\u{1b}[2J\\r\\n\\0'"),
            (b"\xff\xfe2", "'\\xff\\xfe2'"),
            ("grüße \u{202e}sdrawkcab".as_bytes(), "'grüße \\u{202e}sdrawkcab'"),
            (b"", "''"),
        ];
        for (words, wanted) in cases {
            assert_eq!(quote(words), wanted);
        }
    }

    #[test]
    fn what_is_long_is_cut() {
        assert_eq!(clean(&[b'x'; LENGTH]), "x".repeat(LENGTH));
        assert_eq!(clean(&[b'x'; LENGTH + 1]), "x".repeat(LENGTH) + "…");
    }

    proptest! {
        #[test]
        fn whatever_is_said_stays_one_short_line(words in prop::collection::vec(any::<u8>(), 0..400)) {
            let text = quote(&words);
            prop_assert!(text.len() <= LENGTH + "'…'".len());
            prop_assert!(!text.contains(char::is_control));
        }
    }
}
