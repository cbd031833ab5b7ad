//! A table whose columns are as wide as their widest cell.

use lb_api::{status, words};
use unicode_width::UnicodeWidthStr as _;

use super::Tone;

/// Text of one cell, without control characters.
pub(super) struct Cell {
    pub text: String,
    tone: Tone,
}

impl Cell {
    pub(super) fn new(text: &str, tone: Tone) -> Self {
        Self { text: words::printable(text), tone }
    }

    pub(super) fn plain(text: &str) -> Self {
        Self::new(text, Tone::Plain)
    }

    pub(super) fn of((tone, text): (status::Tone, impl AsRef<str>)) -> Self {
        Self::new(text.as_ref(), tone.into())
    }

    /// In columns of a terminal: some characters take two, some none.
    fn width(&self) -> usize {
        self.text.width()
    }
}

/// Rows of `N` cells.
pub(super) struct Table<const N: usize> {
    /// What each line begins with.
    indent: &'static str,
    colour: bool,
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(indent: &'static str, colour: bool) -> Self {
        Self { indent, colour, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// The rows as lines, with no blanks at their ends. A column with nothing in it takes no room.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let widths: [usize; N] =
            std::array::from_fn(|column| self.rows.iter().map(|row| row[column].width()).max().unwrap_or(0));
        self.rows.iter().map(move |row| self.line(row, &widths))
    }

    fn line(&self, row: &[Cell; N], widths: &[usize; N]) -> String {
        let mut line = self.indent.to_owned();
        let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
        for (column, cell) in row.iter().enumerate().take(last + 1).filter(|(column, _)| widths[*column] > 0)
        {
            line += &cell.tone.paint(&cell.text, self.colour);
            if column < last {
                // Padding follows the escape sequences: they have no width.
                line += &" ".repeat(widths[column] - cell.width() + 1);
            }
        }
        line + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_a_terminal_shows_them() {
        let mut table = Table::new("", false);
        for name in ["網站", "web1", "e\u{301}"] {
            table.row([Cell::plain(name), Cell::plain("up")]);
        }
        let lines: Vec<String> = table.lines().collect();
        assert_eq!(lines, ["網站 up\n", "web1 up\n", "e\u{301}    up\n"]);
    }
}
