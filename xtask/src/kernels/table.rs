//! The tables of kernels: on standard output and, between two markers, in docs/limits.md the whole
//! one, in README.md a short one.

use anyhow::Result;

use super::outcome::Outcome;
use crate::markdown::{self, grouped};
use crate::workspace::root;

/// Of the markers.
const NAME: &str = "kernels";

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

const SHORT_HEADER: [&str; 4] = ["Debian's Linux", "programs loaded", "tests passed", "failed"];

/// All that is known.
pub(crate) fn render(outcomes: &[Outcome]) -> String {
    table(HEADER, outcomes.iter().map(row))
}

/// What says whether a kernel will do.
fn render_short(outcomes: &[Outcome]) -> String {
    table(
        SHORT_HEADER,
        outcomes.iter().map(|outcome| {
            let [version, _, _, _, loaded, passed, failed, _] = row(outcome);
            [version, loaded, passed, failed]
        }),
    )
}

fn table<const COLUMNS: usize>(
    header: [&str; COLUMNS],
    rows: impl Iterator<Item = [String; COLUMNS]>,
) -> String {
    let lines: Vec<Vec<String>> =
        std::iter::once(header.map(str::to_owned)).chain(rows).map(Vec::from).collect();
    markdown::table(&lines, &[0])
}

/// Replaces the tables in the documents.
pub(crate) fn write(outcomes: &[Outcome]) -> Result<()> {
    markdown::write(&root().join("docs/limits.md"), NAME, &render(outcomes))?;
    markdown::write(&root().join("README.md"), NAME, &render_short(outcomes))
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
        let outcomes = [good, dead];
        let short = render_short(&outcomes);
        let first = short.lines().nth(2).expect("a kernel");
        assert_eq!(first.split_whitespace().collect::<String>(), "|6.1.192-2|3of3|1of3|1|", "{short}");
        let table = render(&outcomes);
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
    fn the_documents_have_tables_of_the_same_kernels() {
        let kernels = |document: &str, header: &[&str]| {
            let text = std::fs::read_to_string(root().join(document)).expect("a document");
            let table = markdown::between(&text, NAME).unwrap_or_else(|| panic!("{document} has no table"));
            let mut lines = table.lines().take_while(|line| line.starts_with('|'));
            let cells =
                |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
            let first: Vec<String> = cells(lines.next().expect("a header"));
            assert_eq!(first, header, "{document}");
            let rows: Vec<Vec<String>> = lines.skip(1).map(cells).collect();
            assert!(rows.len() > 1, "{document}: {table}");
            rows
        };
        let long = kernels("docs/limits.md", &HEADER).into_iter();
        let long: Vec<_> = long.map(|row| [0, 4, 5, 6].map(|column| row[column].clone()).to_vec()).collect();
        assert_eq!(kernels("README.md", &SHORT_HEADER), long);
    }
}
