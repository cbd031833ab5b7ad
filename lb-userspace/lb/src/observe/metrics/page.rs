//! The text of a scrape: families of series, written one after the other.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::slice;

use anyhow::{Context as _, Result};
use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// The values of a row's labels.
pub(super) type Labels<'a, const N: usize> = [Cow<'a, str>; N];

/// The families that are written so far.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// Families that something else has collected.
    pub(super) fn families(&mut self, families: &[MetricFamily]) -> Result<()> {
        TextEncoder::new().encode_utf8(families, &mut self.0).context("encoding the metrics")
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// Rows with labels, of which one metric after the other is written: the labels, most of the work,
/// are made once.
///
/// Rows with the same labels are one series, with the sum of their values: a server that drains may
/// have a successor of its name.
pub(super) struct Series<T> {
    family: MetricFamily,
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
        let mut metrics = Vec::new();
        let mut placed = Vec::new();
        for (labels, item) in rows {
            let place = match known.entry(labels) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    let pairs = order.iter().map(|&place| pair(names[place], &entry.key()[place]));
                    metrics.push(Metric::from_label(pairs.collect()));
                    *entry.insert(metrics.len() - 1)
                }
            };
            placed.push((place, item));
        }
        let mut family = MetricFamily::default();
        family.set_metric(metrics);
        Self { family, rows: placed }
    }

    pub(super) fn counter(
        &mut self,
        page: &mut Page,
        name: &str,
        help: &str,
        value: impl Fn(&T) -> f64,
    ) -> Result<()> {
        let sums = self.sums(value);
        for (metric, sum) in self.family.mut_metric().iter_mut().zip(sums) {
            let mut counter = Counter::default();
            counter.set_value(sum);
            metric.set_counter(counter);
        }
        self.write(page, name, help, MetricType::COUNTER)
    }

    pub(super) fn gauge(
        &mut self,
        page: &mut Page,
        name: &str,
        help: &str,
        value: impl Fn(&T) -> f64,
    ) -> Result<()> {
        let sums = self.sums(value);
        self.set_gauges(sums);
        self.write(page, name, help, MetricType::GAUGE)
    }

    /// What is told stands in the labels; the value is 1.
    pub(super) fn info(&mut self, page: &mut Page, name: &str, help: &str) -> Result<()> {
        self.set_gauges(std::iter::repeat(1.0));
        self.write(page, name, help, MetricType::GAUGE)
    }

    fn sums(&self, value: impl Fn(&T) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; self.family.get_metric().len()];
        for (place, item) in &self.rows {
            sums[*place] += value(item);
        }
        sums
    }

    fn set_gauges(&mut self, values: impl IntoIterator<Item = f64>) {
        for (metric, value) in self.family.mut_metric().iter_mut().zip(values) {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
    }

    /// Nothing where there is no row.
    fn write(&mut self, page: &mut Page, name: &str, help: &str, kind: MetricType) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.family.set_name(name.to_owned());
        self.family.set_help(help.to_owned());
        self.family.set_field_type(kind);
        page.families(slice::from_ref(&self.family))
    }
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
