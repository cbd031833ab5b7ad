//! A command's output as lines for the log, limited in number and length.

/// Maximum number of logged lines per command.
const LINES: usize = 100;
/// Maximum length of a line in bytes; the rest is dropped.
const LENGTH: usize = 500;

/// Splits output into lines. Dropping it passes on the last line.
pub(super) struct Lines<F: FnMut(&[u8])> {
    on_line: F,
    line: Vec<u8>,
}

impl<F: FnMut(&[u8])> Lines<F> {
    pub(super) fn new(on_line: F) -> Self {
        Self { on_line, line: Vec::new() }
    }

    pub(super) fn feed(&mut self, output: &[u8]) {
        for part in output.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let room = LENGTH.saturating_sub(self.line.len());
            self.line.extend(text.iter().take(room));
            if text.len() < part.len() {
                self.emit();
            }
        }
    }

    fn emit(&mut self) {
        (self.on_line)(&self.line);
        self.line.clear();
    }
}

impl<F: FnMut(&[u8])> Drop for Lines<F> {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.emit();
        }
    }
}

/// Converts lines for the log and passes them to `on_line`.
pub(super) fn for_log(mut on_line: impl FnMut(&str)) -> impl FnMut(&[u8]) {
    let mut count = 0;
    move |line| {
        count += 1;
        match count {
            ..=LINES => {
                // Control characters must not change how the log looks on a terminal.
                let line = String::from_utf8_lossy(line).replace(char::is_control, " ");
                on_line(line.trim_end());
            }
            count if count == LINES + 1 => on_line("(and more, which is not logged)"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let mut on_line = Vec::new();
        let mut lines = Lines::new(for_log(|line| on_line.push(line.to_owned())));
        parts.iter().for_each(|part| lines.feed(part));
        drop(lines);
        on_line
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
