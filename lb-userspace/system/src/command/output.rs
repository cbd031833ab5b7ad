//! A command's output, cut into lines for the log, and cut short where it is too much.

/// Lines of one command that are logged.
const LINES: usize = 100;
/// Bytes of a line; more are not told.
const LENGTH: usize = 500;

/// Hands lines on, and with its end the last one.
pub(super) struct Lines<F: FnMut(&[u8])> {
    told: F,
    line: Vec<u8>,
}

impl<F: FnMut(&[u8])> Lines<F> {
    pub(super) fn new(told: F) -> Self {
        Self { told, line: Vec::new() }
    }

    pub(super) fn feed(&mut self, output: &[u8]) {
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
        (self.told)(&self.line);
        self.line.clear();
    }
}

impl<F: FnMut(&[u8])> Drop for Lines<F> {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.tell();
        }
    }
}

/// Takes lines for `told` to log.
pub(super) fn for_log(mut told: impl FnMut(&str)) -> impl FnMut(&[u8]) {
    let mut count = 0;
    move |line| {
        count += 1;
        match count {
            ..=LINES => {
                // What moves a cursor must not make the log say something else.
                let line = String::from_utf8_lossy(line).replace(char::is_control, " ");
                told(line.trim_end());
            }
            count if count == LINES + 1 => told("(and more, which is not logged)"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let mut told = Vec::new();
        let mut lines = Lines::new(for_log(|line| told.push(line.to_owned())));
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
