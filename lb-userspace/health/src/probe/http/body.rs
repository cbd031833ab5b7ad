//! Decodes a response body: length, chunked, or until the end of the connection.

use super::head::Framing;

/// Decodes bytes as they arrive, and detects the end of the body.
#[derive(Debug)]
pub(super) struct Decoder(State);

#[derive(Debug)]
enum State {
    /// Remaining bytes; `None`: until the connection ends.
    Data(Option<u64>),
    Chunks(Chunks),
    Done,
}

#[derive(Debug)]
enum Chunks {
    /// In a chunk's size line: the size so far, and whether there was a digit.
    Size { size: u64, digits: bool },
    /// After the size, up to the line end: extensions.
    Extension(u64),
    /// Remaining bytes of this chunk.
    Data(u64),
    /// The line end after a chunk.
    End,
    /// After the last chunk: trailers, up to an empty line. `true`: at the beginning of a line.
    Trailers(bool),
}

impl Decoder {
    pub(super) fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Nothing | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Data(Some(length)),
            Framing::UntilClose => State::Data(None),
            Framing::Chunks => State::Chunks(Chunks::Size { size: 0, digits: false }),
        })
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// Whether the body is complete if nothing follows. The empty line after the last chunk may be
    /// missing, as some servers forget it.
    pub(super) fn may_end(&self) -> bool {
        matches!(
            self.0,
            State::Done
                | State::Data(None)
                | State::Chunks(
                    Chunks::Trailers(_) | Chunks::Extension(0) | Chunks::Size { size: 0, digits: true }
                )
        )
    }

    /// Decodes `bytes` and appends the body's bytes to `data`. The error is a message.
    pub(super) fn feed(&mut self, mut bytes: &[u8], data: &mut Vec<u8>) -> Result<(), String> {
        while !bytes.is_empty() {
            match &mut self.0 {
                State::Done => return Ok(()),
                State::Data(None) => {
                    data.extend_from_slice(bytes);
                    return Ok(());
                }
                State::Data(Some(left)) => {
                    bytes = take(bytes, left, data);
                    if *left == 0 {
                        self.0 = State::Done;
                    }
                }
                State::Chunks(Chunks::Data(left)) => {
                    bytes = take(bytes, left, data);
                    if *left == 0 {
                        self.0 = State::Chunks(Chunks::End);
                    }
                }
                State::Chunks(chunks) => {
                    let is_last = chunks.step(bytes[0])?;
                    bytes = &bytes[1..];
                    if is_last {
                        self.0 = State::Done;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Appends up to `left` of `bytes` to `data`; returns the rest.
fn take<'a>(bytes: &'a [u8], left: &mut u64, data: &mut Vec<u8>) -> &'a [u8] {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    let (taken, rest) = bytes.split_at(count);
    data.extend_from_slice(taken);
    *left -= count as u64;
    rest
}

impl Chunks {
    /// Processes a byte outside of the data; returns whether it was the body's last one. Lines may
    /// end without a carriage return.
    fn step(&mut self, byte: u8) -> Result<bool, String> {
        *self = match (&self, byte) {
            (Self::Size { size, digits: _ }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = u64::from((byte as char).to_digit(16).unwrap_or_default());
                let longer = size.checked_mul(16).and_then(|size| size.checked_add(digit));
                let size = longer.ok_or("a chunk claims to be longer than 64 bits can say")?;
                Self::Size { size, digits: true }
            }
            (Self::Size { size, digits: true } | Self::Extension(size), b'\n') => match *size {
                0 => Self::Trailers(true),
                size => Self::Data(size),
            },
            (Self::Size { size, digits: true }, b'\r' | b' ' | b'\t' | b';') | (Self::Extension(size), _) => {
                Self::Extension(*size)
            }
            (Self::End, b'\n') => Self::Size { size: 0, digits: false },
            (Self::End, b'\r') => Self::End,
            (Self::Trailers(true), b'\n') => return Ok(true),
            (Self::Trailers(_), b'\n') => Self::Trailers(true),
            (Self::Trailers(empty), b'\r') => Self::Trailers(*empty),
            (Self::Trailers(_), _) => Self::Trailers(false),
            (Self::Size { .. }, byte) => {
                return Err(format!("a chunk's length begins with byte {byte:#04x}"));
            }
            (Self::End, byte) => {
                return Err(format!("byte {byte:#04x} behind a chunk, in place of a line's end"));
            }
            (Self::Data(_), _) => return Err("a chunk's data outside of it".into()),
        };
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHUNKED: &[u8] = b"4\r\nTest\r\n5;a=b\r\n Page\r\n0\r\nX: y\r\n\r\nmore";

    /// The body of these pieces, whether it is complete, and whether it may end there.
    fn decoded(framing: Framing, pieces: &[&[u8]]) -> Result<(String, bool, bool), String> {
        let (mut decoder, mut data) = (Decoder::new(framing), Vec::new());
        for piece in pieces {
            decoder.feed(piece, &mut data)?;
        }
        Ok((String::from_utf8_lossy(&data).into_owned(), decoder.is_done(), decoder.may_end()))
    }

    #[test]
    fn bodies_end_where_they_should() {
        let page = |done, may_end| Ok(("Test Page".to_owned(), done, may_end));
        assert_eq!(decoded(Framing::Length(9), &[b"Test", b" Page and more"]), page(true, true));
        assert_eq!(decoded(Framing::Length(10), &[b"Test Page"]), page(false, false));
        assert_eq!(decoded(Framing::UntilClose, &[b"Test Page"]), page(false, true));
        assert_eq!(decoded(Framing::Nothing, &[b"Test Page"]), Ok((String::new(), true, true)));
        assert_eq!(decoded(Framing::Length(0), &[]), Ok((String::new(), true, true)));
        assert_eq!(decoded(Framing::Chunks, &[CHUNKED]), page(true, true));
    }

    /// Rows of chunks, and whether the body is complete.
    #[test]
    fn chunks_of_many_kinds_are_read() {
        for (chunks, done, may_end) in [
            ("9\r\nTest Page\r\n0\r\n\r\n", true, true),
            ("9\nTest Page\n0\n\n", true, true),
            ("9   \r\nTest Page\r\n0\r\n\r\n", true, true),
            ("0000000000000000000009\r\nTest Page\r\n000\r\n\r\n", true, true),
            ("9;x=\"1\"\r\nTest Page\r\n0;last\r\nA: b\r\nC: d\r\n\r\n", true, true),
            ("9\r\nTest Page\r\n0\r\nA: b\r\n", false, true),
            ("9\r\nTest Page\r\n0\r\n", false, true),
            ("9\r\nTest Page\r\n0\r", false, true),
            ("9\r\nTest Page\r\n0", false, true),
            // The rest may be missing.
            ("9\r\nTest Page\r\n", false, false),
            ("9\r\nTest Page", false, false),
            ("A\r\nTest Page", false, false),
        ] {
            let expected = Ok(("Test Page".to_owned(), done, may_end));
            assert_eq!(decoded(Framing::Chunks, &[chunks.as_bytes()]), expected, "{chunks:?}");
        }
    }

    /// curl refuses these, too.
    #[test]
    fn chunks_that_are_none_are_told_of() {
        for (chunks, words) in [
            ("xyz\r\n", "a chunk's length begins with byte 0x78"),
            ("Test Page", "a chunk's length begins with byte 0x54"),
            ("0x9\r\n", "a chunk's length begins with byte 0x78"),
            ("\r\n", "a chunk's length begins with byte 0x0d"),
            ("4\r\nTest Page", "byte 0x20 behind a chunk, in place of a line's end"),
            ("11111111111111111\r\n", "a chunk claims to be longer than 64 bits can say"),
        ] {
            assert_eq!(decoded(Framing::Chunks, &[chunks.as_bytes()]), Err(words.into()), "{chunks:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_decoded_does_not_depend_on_how_it_is_cut(
            bytes in prop_oneof![
                Just(CHUNKED.to_vec()),
                prop::collection::vec(prop::sample::select(&b"0123aF\r\n; x"[..]), 0..60),
                prop::collection::vec(any::<u8>(), 0..60),
            ],
            cut: prop::sample::Index,
        ) {
            let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
            for framing in [Framing::Chunks, Framing::Length(7), Framing::UntilClose] {
                prop_assert_eq!(decoded(framing, &[first, second]), decoded(framing, &[&bytes]));
            }
        }
    }
}
