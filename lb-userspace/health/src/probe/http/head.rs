//! Parses a response's header as leniently as curl, browsers and ldirectord's library.
//!
//! The header is not forwarded, so ambiguities in it are harmless: lines may end without a carriage
//! return, may be folded, may have blanks before the colon or no colon at all.

/// The parts of a header that a check needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub status: u16,
    /// Reason phrase.
    pub phrase: Vec<u8>,
    pub location: Option<Vec<u8>>,
    /// Content-Encoding.
    pub coding: Option<Vec<u8>>,
    length: Option<u64>,
    chunked: bool,
    last: Option<Field>,
}

/// What determines the end of the body (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Nothing,
    Length(u64),
    Chunks,
    UntilClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Length,
    Coding,
    Transfer,
    Location,
}

const FIELDS: [(&[u8], Field); 4] = [
    (b"content-length", Field::Length),
    (b"content-encoding", Field::Coding),
    (b"transfer-encoding", Field::Transfer),
    (b"location", Field::Location),
];

impl Head {
    /// Parses a status line; `None` if `line` is none. `HTTP/` may be in lower case with any
    /// version, and the reason phrase may be missing; old streaming servers send `ICY`.
    pub(super) fn begin(line: &[u8]) -> Option<Self> {
        let blank = line.iter().position(|byte| *byte == b' ')?;
        let (protocol, rest) = (&line[..blank], line[blank..].trim_ascii_start());
        let is_version = |version: &[u8]| {
            version.first().is_some_and(u8::is_ascii_digit)
                && version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        };
        let is_http = match protocol.split_at_checked(5) {
            Some((name, version)) => name.eq_ignore_ascii_case(b"HTTP/") && is_version(version),
            None => protocol.eq_ignore_ascii_case(b"ICY"),
        };
        let (digits, phrase) = rest.split_first_chunk::<3>().filter(|_| is_http)?;
        let is_status = digits[0] != b'0'
            && digits.iter().all(u8::is_ascii_digit)
            && phrase.first().is_none_or(|byte| *byte == b' ');
        is_status.then(|| Self {
            // Subtract only after the check: other characters may be smaller than a digit.
            status: digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')),
            phrase: phrase.trim_ascii().to_vec(),
            location: None,
            coding: None,
            length: None,
            chunked: false,
            last: None,
        })
    }

    /// Parses a header line without its end.
    pub(super) fn line(&mut self, line: &[u8]) {
        if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            // Continues the previous line (obs-fold, RFC 9112 section 5.2).
            if let Some(field) = self.last {
                self.set(field, line.trim_ascii());
            }
            return;
        }
        self.last = None;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        self.last =
            FIELDS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, field)| *field);
        if let Some(field) = self.last {
            self.set(field, value);
        }
    }

    fn set(&mut self, field: Field, value: &[u8]) {
        match field {
            // Of several lengths the last valid one counts. `9 bytes` and `9, 9` are 9.
            Field::Length => self.length = leading_number(value).or(self.length),
            Field::Transfer => {
                let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
                self.chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            }
            Field::Coding if !value.is_empty() => self.coding = Some(value.to_vec()),
            Field::Location if !value.is_empty() => self.location = Some(value.to_vec()),
            Field::Coding | Field::Location => {}
        }
    }

    /// Whether the response is interim, so that another header follows. Of class 1 only 101 is
    /// final.
    pub(super) fn is_interim(&self) -> bool {
        matches!(self.status, 100..=199) && self.status != 101
    }

    /// A response to HEAD has no body, whatever its header says.
    pub(super) fn framing(&self, to_head: bool) -> Framing {
        match self.status {
            _ if to_head => Framing::Nothing,
            100..=199 | 204 | 304 => Framing::Nothing,
            _ if self.chunked => Framing::Chunks,
            _ => self.length.map_or(Framing::UntilClose, Framing::Length),
        }
    }
}

/// The number at the beginning; `None` without a digit.
fn leading_number(value: &[u8]) -> Option<u64> {
    let value = value.strip_prefix(b"+").unwrap_or(value);
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    let mut number = None;
    for digit in digits {
        number = Some(number.unwrap_or(0_u64).saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Option<Head> {
        let mut lines = text.split("\r\n");
        let mut head = Head::begin(lines.next()?.as_bytes())?;
        lines.for_each(|line| head.line(line.as_bytes()));
        Some(head)
    }

    #[test]
    fn a2_a_status_that_is_no_number_is_no_status() {
        for line in ["HTTP/1.1 \"00 OK", "HTTP/1.1 2 0 OK", "HTTP/1.1 20! OK", "HTTP/1.1 \u{1}\u{1}\u{1} OK"]
        {
            assert!(head(line).is_none(), "{line}");
        }
    }

    #[test]
    fn status_lines_of_many_kinds_are_read() {
        for (line, status, phrase) in [
            ("HTTP/1.1 200 OK", 200, "OK"),
            ("HTTP/1.1 200", 200, ""),
            ("HTTP/1.0 404 ", 404, ""),
            ("http/1.1 200 ok", 200, "ok"),
            ("HTTP/2 503 Back at 5", 503, "Back at 5"),
            ("HTTP/1.1  200  OK", 200, "OK"),
            ("ICY 200 OK", 200, "OK"),
            ("HTTP/1.1 999 Odd", 999, "Odd"),
        ] {
            let head = head(line).expect(line);
            assert_eq!((head.status, &head.phrase[..]), (status, phrase.as_bytes()), "{line}");
        }
    }

    /// curl refuses these, too.
    #[test]
    fn other_lines_are_none() {
        for line in [
            "",
            "HTTP/1.1",
            "HTTP/1.1 ",
            "HTTP/1.1 20",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 000 OK",
            "HTTP/1.1 abc OK",
            "HTTP/ 200 OK",
            "HTTP 200 OK",
            "HTTPS/1.1 200 OK",
            "HTTP/1.1\t200 OK",
            "SSH-2.0-OpenSSH_9.2p1",
            "220 mail ESMTP",
            "<html>",
        ] {
            assert_eq!(head(line), None, "{line}");
        }
    }

    #[test]
    fn framings_are_found_however_written() {
        use Framing::{Chunks, Length, Nothing, UntilClose};
        for (fields, framing) in [
            ("Content-Length: 9", Length(9)),
            ("content-length:9", Length(9)),
            ("Content-Length : 9", Length(9)),
            ("Content-Length:\r\n 9", Length(9)),
            ("Content-Length: 9\r\nContent-Length: 9", Length(9)),
            ("Content-Length: 9, 9", Length(9)),
            ("Content-Length: +9", Length(9)),
            ("Content-Length: 9 bytes", Length(9)),
            ("Content-Length: 99999999999999999999999", Length(u64::MAX)),
            ("Content-Length: -1", UntilClose),
            ("Content-Length:", UntilClose),
            ("Content-Length", UntilClose),
            ("Transfer-Encoding: chunked", Chunks),
            ("Transfer-Encoding: Chunked\r\nContent-Length: 3", Chunks),
            ("Transfer-Encoding: identity, chunked", Chunks),
            ("Transfer-Encoding: identity\r\nContent-Length: 3", Length(3)),
            ("Transfer-Encoding: foo", UntilClose),
            ("X: y\r\n Content-Length: 9", UntilClose),
            ("no colon\r\n: no name\r\nX(y): odd\r\nContent-Length: 9", Length(9)),
        ] {
            let head = head(&format!("HTTP/1.1 200 OK\r\n{fields}")).expect("a header");
            assert_eq!(head.framing(false), framing, "{fields}");
            assert_eq!(head.framing(true), Nothing, "{fields}");
        }
        for status in ["204 No Content", "304 Not Modified", "101 Switching Protocols"] {
            let head = head(&format!("HTTP/1.1 {status}\r\nContent-Length: 9")).expect("a header");
            assert_eq!(head.framing(false), Nothing, "{status}");
        }
    }
}
