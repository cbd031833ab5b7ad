//! The text of a scrape: families of series, written one after the other.
//!
//! A server's labels are made once and stand in the lines of all its metrics. The crate's encoder
//! takes and escapes the labels of each sample by themselves, so it only writes what the crate
//! itself has collected. `cargo xtask bench scrape` measures what a scrape takes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

/// What a family may be, as its `TYPE` line names it.
pub(super) const COUNTER: &str = "counter";
pub(super) const GAUGE: &str = "gauge";

/// The values of a row's labels.
pub(super) type Labels<'a, const N: usize> = [Cow<'a, str>; N];

/// The families that are written so far.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// Families that the crate has collected.
    pub(super) fn families(&mut self, families: &[MetricFamily]) -> Result<()> {
        TextEncoder::new().encode_utf8(families, &mut self.0).context("encoding the metrics")
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.0.extend(["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"]);
    }

    fn sample(&mut self, name: &str, labels: &str, value: f64) {
        self.0.extend([name, labels, " "]);
        // Writing to a string cannot fail.
        let _ = match value {
            whole if whole.fract() == 0.0 && whole.abs() < 1e15 => writeln!(self.0, "{}", whole as i64),
            value if value.is_infinite() => writeln!(self.0, "{}Inf", if value > 0.0 { '+' } else { '-' }),
            value => writeln!(self.0, "{value}"),
        };
    }
}

/// Rows with labels, of which one metric after the other is written: the labels, most of the work,
/// are made once.
///
/// Rows with the same labels are one series, with the sum of their values: a server that drains may
/// have a successor of its name.
pub(super) struct Series<T> {
    /// Of each series, as they stand in its line: `{server="www1",service="web"}`, or nothing.
    labels: Vec<String>,
    /// With the place of its series.
    rows: Vec<(usize, T)>,
}

impl<T> Series<T> {
    pub(super) fn new<'a, const N: usize>(
        names: [&str; N],
        rows: impl IntoIterator<Item = (Labels<'a, N>, T)>,
    ) -> Self {
        let mut order: [usize; N] = std::array::from_fn(|place| place);
        order.sort_by_key(|&place| names[place]);
        let mut known: HashMap<Labels<'a, N>, usize> = HashMap::new();
        let mut series = Self { labels: Vec::new(), rows: Vec::new() };
        for (values, item) in rows {
            let place = match known.entry(values) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    series.labels.push(text(order.map(|place| (names[place], &*entry.key()[place]))));
                    *entry.insert(series.labels.len() - 1)
                }
            };
            series.rows.push((place, item));
        }
        series
    }

    pub(super) fn counter(&self, page: &mut Page, name: &str, help: &str, value: impl Fn(&T) -> f64) {
        self.write(page, (name, help, COUNTER), self.sums(value));
    }

    pub(super) fn gauge(&self, page: &mut Page, name: &str, help: &str, value: impl Fn(&T) -> f64) {
        self.write(page, (name, help, GAUGE), self.sums(value));
    }

    /// A family with a further label; `value` tells the value for each of the label's values.
    pub(super) fn by_label<V>(
        &self,
        page: &mut Page,
        (name, help, kind): (&str, &str, &str),
        (label, values): (&str, &[(&str, V)]),
        value: impl Fn(&T, &V) -> f64,
    ) {
        if self.labels.is_empty() {
            return;
        }
        page.head(name, help, kind);
        for (word, key) in values {
            let end = format!(",{label}=\"{word}\"}}");
            for (labels, value) in self.labels.iter().zip(self.sums(|item| value(item, key))) {
                page.0.extend([name, labels.trim_end_matches('}')]);
                page.sample("", &end, value);
            }
        }
    }

    /// What is told stands in the labels; the value is 1.
    pub(super) fn info(&self, page: &mut Page, name: &str, help: &str) {
        self.write(page, (name, help, GAUGE), std::iter::repeat(1.0));
    }

    fn sums(&self, value: impl Fn(&T) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; self.labels.len()];
        for (place, item) in &self.rows {
            sums[*place] += value(item);
        }
        sums
    }

    /// Nothing where there is no row.
    fn write(
        &self,
        page: &mut Page,
        (name, help, kind): (&str, &str, &str),
        values: impl IntoIterator<Item = f64>,
    ) {
        if self.labels.is_empty() {
            return;
        }
        page.head(name, help, kind);
        self.labels.iter().zip(values).for_each(|(labels, value)| page.sample(name, labels, value));
    }
}

/// As they stand in a line.
fn text<const N: usize>(pairs: [(&str, &str); N]) -> String {
    let mut text = String::new();
    for (place, (name, value)) in pairs.into_iter().enumerate() {
        text.extend([if place == 0 { "{" } else { "," }, name, "=\""]);
        for char in value.chars() {
            match char {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                char => text.push(char),
            }
        }
        text.push('"');
    }
    if N > 0 {
        text.push('}');
    }
    text
}
