//! Parts of documents that commands write: tables, and text between two markers.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// A table in Markdown, aligned for reading as plain text. The first line is its header; columns of
/// `left` begin at the left, all others end at the right.
pub(crate) fn table(lines: &[Vec<String>], left: &[usize]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widest = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| widest(column).unwrap_or_default().max(2)).collect();
    let mut table = String::new();
    for (number, line) in lines.iter().enumerate() {
        table += &framed(line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            match left.contains(&column) {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            }
        }));
        if number == 0 {
            table += &framed(widths.iter().enumerate().map(|(column, width)| match left.contains(&column) {
                true => "-".repeat(*width),
                false => "-".repeat(width - 1) + ":",
            }));
        }
    }
    table
}

fn framed(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

fn markers(name: &str) -> [String; 2] {
    ["begin", "end"].map(|end| format!("<!-- {name}:{end} -->"))
}

/// What stands in the text between the markers of this name.
#[cfg(test)]
pub(crate) fn between<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let [begin, end] = markers(name);
    let (_, rest) = text.split_once(&begin)?;
    Some(rest.split_once(&end)?.0.trim_start_matches('\n'))
}

/// The text with this between the markers. `None`: it has no such markers.
pub(crate) fn with(text: &str, name: &str, content: &str) -> Option<String> {
    let [begin, end] = markers(name);
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{content}{end}{after}"))
}

/// Replaces what stands in the document between the markers of this name.
pub(crate) fn write(document: &Path, name: &str, content: &str) -> Result<()> {
    let text = fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))?;
    let text = with(&text, name, content)
        .with_context(|| format!("{} has no lines {}", document.display(), markers(name).join(" and ")))?;
    fs::write(document, text).with_context(|| format!("cannot write {}", document.display()))
}

/// 596,732
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_gets_what_is_new_between_its_markers() {
        let document = "# lb\n\n<!-- x:begin -->\n| old |\n<!-- x:end -->\n\nMore.\n";
        let once = with(document, "x", "| new |\n").expect("it has markers");
        assert_eq!(once, "# lb\n\n<!-- x:begin -->\n| new |\n<!-- x:end -->\n\nMore.\n");
        assert_eq!(with(&once, "x", "| new |\n"), Some(once.clone()), "a second time changes nothing");
        assert_eq!(between(&once, "x"), Some("| new |\n"));
        assert_eq!((with("# lb\n", "x", "| new |\n"), between("# lb\n", "x")), (None, None));
        assert_eq!(with(document, "y", "| new |\n"), None, "other markers are others'");
    }

    #[test]
    fn tables_are_aligned() {
        let lines = [["case", "ns"], ["known", "1,234"]].map(|line| line.map(str::to_owned).to_vec());
        let wanted = "| case  |    ns |\n| ----- | ----: |\n| known | 1,234 |\n";
        assert_eq!(table(&lines, &[0]), wanted);
    }

    #[test]
    fn numbers_have_commas() {
        assert_eq!(
            [2, 999, 1_000, 596_732, 1_000_001].map(grouped),
            ["2", "999", "1,000", "596,732", "1,000,001"]
        );
    }
}
