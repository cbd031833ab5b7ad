//! A command's output, cut into lines for the log, and cut short where it is too much.

/// Lines of one command; more are not told.
const LINES: usize = 100;
/// Bytes of a line; more are not told.
const LENGTH: usize = 500;

/// Hands lines on, and with its end the last one.
pub struct Lines<F: FnMut(&str)> {
    told: F,
    line: Vec<u8>,
    count: usize,
}

impl<F: FnMut(&str)> Lines<F> {
    pub fn new(told: F) -> Self {
        Self { told, line: Vec::new(), count: 0 }
    }

    pub fn feed(&mut self, output: &[u8]) {
        for part in output.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let room = LENGTH.saturating_sub(self.line.len());
            self.line.extend(text.iter().take(room));
            if text.len() < part.len() {
                self.tell();
            }
        }
    }

    fn tell(&mut self) {
        self.count += 1;
        match self.count {
            ..=LINES => {
                // What moves a cursor must not make the log say something else.
                let line = String::from_utf8_lossy(&self.line).replace(char::is_control, " ");
                (self.told)(line.trim_end());
            }
            count if count == LINES + 1 => (self.told)("(and more, which is not logged)"),
            _ => {}
        }
        self.line.clear();
    }
}

impl<F: FnMut(&str)> Drop for Lines<F> {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let mut told = Vec::new();
        let mut lines = Lines::new(|line: &str| told.push(line.to_owned()));
        parts.iter().for_each(|part| lines.feed(part));
        drop(lines);
        told
    }

    #[test]
    fn lines_are_told_however_they_arrive() {
        assert_eq!(lines(&[b"one\ntwo\n"]), ["one", "two"]);
        assert_eq!(lines(&[b"on", b"e\n\nth", b"ree"]), ["one", "", "three"]);
        assert_eq!(lines(&[b"\x1b[2Jgone\r\n", b"\xff\n"]), [" [2Jgone", "\u{fffd}"]);
        assert!(lines(&[]).is_empty());
    }

    #[test]
    fn too_much_is_cut_short() {
        let many = lines(&[&b"x\n".repeat(LINES + 50)]);
        assert_eq!(
            (many.len(), many.last().map(String::as_str)),
            (LINES + 1, Some("(and more, which is not logged)"))
        );
        let long = lines(&[&b"x".repeat(LENGTH), b"yz\nnext\n"]);
        assert_eq!(long, ["x".repeat(LENGTH), "next".to_owned()]);
    }
}
