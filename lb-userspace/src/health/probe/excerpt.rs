//! The beginning of an answer, as an operator may see it: short, on one line, nothing that a terminal acts on.

/// Characters shown.
const SHOWN: usize = 40;
/// Enough bytes for that many characters, and to tell that there are more.
pub const EXCERPT_BYTES: usize = 4 * (SHOWN + 1);

/// In quotes and cut: `'It works!'`. Bytes that are no UTF-8 show as `�`.
pub fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(EXCERPT_BYTES)]);
    let text = text.trim_end();
    let mut shown = String::from("'");
    for character in text.chars().take(SHOWN) {
        match character {
            '\'' | '"' | '\\' => shown.push(character),
            other => shown.extend(other.escape_debug()),
        }
    }
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown.push('\'');
    shown
}

#[cfg(test)]
mod tests {
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
}
