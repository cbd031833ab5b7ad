//! The table of kernels, on standard output and between two markers in docs/limits.md.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::outcome::Outcome;

const BEGIN: &str = "<!-- kernels:begin -->";
const END: &str = "<!-- kernels:end -->";

const HEADER: [&str; 8] = [
    "Debian's Linux",
    "boots in, s",
    "steps of the largest program of `lb`",
    "loads all of them in, s",
    "programs loaded",
    "tests passed",
    "failed",
    "without result",
];

/// A table in Markdown, aligned for reading as plain text.
pub(crate) fn render(outcomes: &[Outcome]) -> String {
    let rows = outcomes.iter().map(row);
    let lines: Vec<[String; 8]> = [HEADER.map(str::to_owned)].into_iter().chain(rows).collect();
    let widths: [usize; 8] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    });
    let mut table = String::new();
    for (number, line) in lines.iter().enumerate() {
        table += &framed(line.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        }));
        if number == 0 {
            let ruler = widths.iter().enumerate().map(|(column, width)| match column {
                0 => "-".repeat(*width),
                _ => "-".repeat(width - 1) + ":",
            });
            table += &framed(ruler);
        }
    }
    table
}

fn framed(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

fn row(outcome: &Outcome) -> [String; 8] {
    let Outcome { version, boot, programs, together, tests, .. } = outcome;
    let unknown = || "?".to_owned();
    let lb = outcome.of_lb();
    let largest = lb.iter().max_by_key(|program| program.steps);
    let steps = match largest.and_then(|program| Some((&program.name, program.steps?))) {
        _ if lb.iter().any(|program| program.refused.is_some()) => "refused".to_owned(),
        Some((name, steps)) => format!("{} (`{name}`)", grouped(u64::from(steps))),
        None => unknown(),
    };
    [
        version.clone(),
        boot.map_or_else(unknown, |time| format!("{:.1}", time.as_secs_f64())),
        steps,
        together.as_ref().map_or_else(unknown, |all| format!("{:.1}", all.together_ms / 1e3)),
        format!("{} of {}", outcome.loaded(), programs.len()),
        format!("{} of {}", tests.passed.len(), tests.announced),
        tests.failed.len().to_string(),
        (tests.ignored.len() + tests.without_result()).to_string(),
    ]
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

/// Replaces the table in the document.
pub(crate) fn write(document: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))?;
    let text = with(&text, table)
        .with_context(|| format!("{} has no lines {BEGIN} and {END}", document.display()))?;
    fs::write(document, text).with_context(|| format!("cannot write {}", document.display()))
}

fn with(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_table_names_what_failed_and_what_is_unknown() {
        let said = r#"version #1 SMP Debian 6.1.192-2 (2026-11-16)
{"name":"lb","shipped":true,"steps":732,"stack":null,"load_ms":123.5,"refused":null}
{"name":"lb_slow","shipped":true,"steps":596732,"stack":null,"load_ms":8000,"refused":null}
{"name":"floor_pass","shipped":false,"steps":2,"stack":null,"load_ms":3.5,"refused":null}
{"programs":2,"together_ms":8100.0,"processor_ms":9000.5}
running 3 tests
test cpus::even ... ok
test table::flood ... FAILED
"#;
        let good = Outcome::of(said).booted_in(Duration::from_millis(3_440));
        let mut dead = Outcome::default();
        dead.version = "7.3.4+deb13-cloud-amd64".to_owned();
        let table = render(&[good, dead]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{table}");
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(
            cells(lines[2])[1..9],
            ["6.1.192-2", "3.4", "596,732 (`lb_slow`)", "8.1", "3 of 3", "1 of 3", "1", "1"]
        );
        assert_eq!(
            cells(lines[3])[1..9],
            ["7.3.4+deb13-cloud-amd64", "?", "?", "?", "0 of 0", "0 of 0", "0", "0"]
        );
    }

    #[test]
    fn a_document_gets_the_table_between_its_markers() {
        let document = format!("# lb\n\n{BEGIN}\n| old |\n{END}\n\nMore.\n");
        let once = with(&document, "| new |\n").expect("it has markers");
        assert_eq!(once, format!("# lb\n\n{BEGIN}\n| new |\n{END}\n\nMore.\n"));
        assert_eq!(with(&once, "| new |\n"), Some(once.clone()), "a second time changes nothing");
        assert_eq!(with("# lb\n", "| new |\n"), None);
    }

    #[test]
    fn numbers_have_commas() {
        assert_eq!(
            [2, 999, 1_000, 596_732, 1_000_001].map(grouped),
            ["2", "999", "1,000", "596,732", "1,000,001"]
        );
    }
}
