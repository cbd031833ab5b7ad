//! `cargo xtask bench --plot`: reports that `--json` has written, as pictures (SVG) beside them.
//!
//! | report | picture |
//! |---|---|
//! | of packets | `-known`: nanoseconds against known connections; `-new`: against servers |
//! | of take-overs | `-gaps`: each gap of each case |

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use lb_lab::statistics::median;
use serde_json::Value;

use super::figures::origin;
use crate::markdown::grouped;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Room around the field: for labels of lines and ticks.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 590.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 360.0;

const STYLE: &str = "\
text { font: 13px system-ui, \"DejaVu Sans\", sans-serif; fill: #1f2328; }
.title { font-size: 15px; font-weight: 600; } .run { font-size: 11px; }
.grid { stroke: #d0d7de; } .line { fill: none; stroke-width: 2; } .median { stroke: #1f2328; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .grid { stroke: #30363d; } .median { stroke: #e6edf3; }
}";

/// Colours that are told apart on white, on black, and by most of those who see few.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#8250df", "#808080"];

/// A logarithmic axis over whole powers of ten.
struct Axis {
    low: i32,
    high: i32,
    /// Where these are in the picture.
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value.log10()), high.max(value.log10()))
        });
        let low = low.floor() as i32;
        Self { low, high: (high.ceil() as i32).max(low + 1), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    /// Places and labels.
    fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        (self.low..=self.high).map(|power| {
            let value = 10_f64.powi(power);
            let label = if power < 0 { format!("{value}") } else { grouped(value as u64) };
            (self.place(value), label)
        })
    }
}

struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Draws the reports, and prints the names of the pictures.
pub(super) fn draw(files: &[PathBuf]) -> Result<()> {
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let report: Value =
            serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))?;
        for (what, picture) in pictures(&report).with_context(|| file.display().to_string())? {
            let to = beside(file, what);
            fs::write(&to, picture).with_context(|| format!("cannot write {}", to.display()))?;
            println!("{}", to.display());
        }
    }
    Ok(())
}

fn beside(file: &Path, what: &str) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{stem}-{what}.svg"))
}

/// What the pictures of a report show, in a word, and they themselves.
pub(super) fn pictures(report: &Value) -> Result<Vec<(&'static str, String)>> {
    let cases = report["cases"].as_array().map_or(&[][..], Vec::as_slice);
    if cases.iter().any(|case| case["gaps_ms"].is_array()) {
        let run = origin(report).unwrap_or_default();
        return Ok(vec![("gaps", strips("Gaps that clients see at a take-over", &run, &gaps(cases)))]);
    }
    let (known, new) = (known(cases), new(cases));
    if known.is_empty() && new.is_empty() {
        bail!("this is no report of `cargo xtask bench --json` or `cargo xtask bench failover --json`");
    }
    // Older reports do not say it.
    let run = origin(report).unwrap_or_default();
    let mut pictures = Vec::new();
    if !known.is_empty() {
        pictures.push((
            "known",
            lines("Nanoseconds per packet, by known connections", &run, "connections", &known),
        ));
    }
    if !new.is_empty() {
        pictures.push(("new", lines("Nanoseconds per new connection, by servers", &run, "servers", &new)));
    }
    Ok(pictures)
}

/// Adds a point to the line of this name.
fn add(lines: &mut Vec<Line>, name: &str, point: (f64, f64)) {
    match lines.iter_mut().find(|line| line.name == name) {
        Some(line) => line.points.push(point),
        None => lines.push(Line { name: name.to_owned(), points: vec![point] }),
    }
}

/// Name, number of connections and nanoseconds of each case of packets.
fn timed(cases: &[Value]) -> impl Iterator<Item = (&str, f64, f64)> {
    cases
        .iter()
        .filter_map(|case| Some((case["name"].as_str()?, case["flows"].as_f64()?, case["ns"].as_f64()?)))
}

/// Cases that were timed at several numbers of connections.
fn known(cases: &[Value]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (name, flows, ns) in timed(cases) {
        if name == "known-tcp" || name == "known-udp" || name.starts_with("floor-lru") {
            add(&mut lines, name, (flows, ns));
        }
    }
    lines.retain(|line: &Line| line.points.len() > 1);
    lines
}

/// `new-SCHEDULER-SERVERS`, by scheduler.
fn new(cases: &[Value]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (name, _, ns) in timed(cases) {
        let parts = name.strip_prefix("new-").and_then(|rest| rest.split_once('-'));
        if let Some((scheduler, servers)) = parts
            && let Ok(servers) = servers.parse::<u32>()
        {
            add(&mut lines, scheduler, (servers.into(), ns));
        }
    }
    lines
}

/// Each case with its gaps; points have no second number.
fn gaps(cases: &[Value]) -> Vec<Line> {
    let line = |case: &Value| {
        let gaps = case["gaps_ms"].as_array()?.iter().filter_map(Value::as_f64);
        // Requests go each millisecond: what is shorter is none.
        Some(Line {
            name: case["name"].as_str()?.to_owned(),
            points: gaps.map(|gap| (gap.max(0.1), 0.0)).collect(),
        })
    };
    cases.iter().filter_map(line).collect()
}

/// A processor's name may have what XML takes for itself.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The picture around what is in its field.
fn framed(title: &str, run: &str, label: &str, x: &Axis, field: &str) -> String {
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n<style>\n{STYLE}\n</style>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"24\">{title}</text>\n<text class=\"run\" x=\"{LEFT}\" y=\"40\">{}</text>\n",
        escaped(run)
    );
    for (place, tick) in x.ticks() {
        let _ = writeln!(text, "<path class=\"grid\" d=\"M{place:.1} {TOP}V{BOTTOM}\"/>");
        let _ = writeln!(
            text,
            "<text x=\"{place:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>",
            BOTTOM + 18.0
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 42.0
    );
    text + field + "</svg>\n"
}

fn lines(title: &str, run: &str, label: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x = Axis::over(points().map(|point| point.0), LEFT, RIGHT);
    let y = Axis::over(points().map(|point| point.1), BOTTOM, TOP);
    let mut field = String::new();
    for (place, tick) in y.ticks() {
        let _ = writeln!(field, "<path class=\"grid\" d=\"M{LEFT} {place:.1}H{RIGHT}\"/>");
        let _ = writeln!(
            field,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick} ns</text>",
            LEFT - 8.0,
            place + 4.0
        );
    }
    // The highest end first; a name stands below the one before.
    let mut order: Vec<usize> = (0..lines.len()).collect();
    let end = |index: &usize| lines[*index].points.last().map_or(0.0, |point| point.1);
    order.sort_by(|one, other| end(other).total_cmp(&end(one)));
    let mut lowest = f64::NEG_INFINITY;
    for index in order {
        let (Line { name, points }, colour) = (&lines[index], COLOURS[index % COLOURS.len()]);
        let way: Vec<String> =
            points.iter().map(|point| format!("{:.1},{:.1}", x.place(point.0), y.place(point.1))).collect();
        let _ =
            writeln!(field, "<polyline class=\"line\" stroke=\"{colour}\" points=\"{}\"/>", way.join(" "));
        lowest = (y.place(end(&index)) + 4.0).max(lowest + 16.0);
        let _ = writeln!(
            field,
            "<text x=\"{}\" y=\"{lowest:.1}\" style=\"fill: {colour}\">{name}</text>",
            RIGHT + 8.0
        );
    }
    framed(title, run, label, &x, &field)
}

fn strips(title: &str, run: &str, cases: &[Line]) -> String {
    let x = Axis::over(cases.iter().flat_map(|case| &case.points).map(|point| point.0), LEFT, RIGHT);
    let pitch = (BOTTOM - TOP) / cases.len().max(1) as f64;
    let mut field = String::new();
    for (row, Line { name, points }) in cases.iter().enumerate() {
        let (y, colour) = (TOP + (row as f64 + 0.5) * pitch, COLOURS[row % COLOURS.len()]);
        let _ = writeln!(
            field,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            LEFT - 8.0,
            y + 4.0
        );
        for (gap, _) in points {
            let place = x.place(*gap);
            let _ = writeln!(
                field,
                "<circle cx=\"{place:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\" fill-opacity=\"0.5\"/>"
            );
        }
        if !points.is_empty() {
            let place = x.place(median(points.iter().map(|point| point.0).collect()));
            let _ =
                writeln!(field, "<path class=\"median\" d=\"M{place:.1} {:.1}V{:.1}\"/>", y - 8.0, y + 8.0);
        }
    }
    framed(title, run, "milliseconds", &x, &field)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn packets_have_a_line_for_each_case_and_scheduler() {
        let case = |name: &str, flows: u32, ns: f64| json!({ "name": name, "flows": flows, "ns": ns });
        let report = json!({ "cases": [
            case("floor-swap", 1, 25.0), case("known-tcp", 1, 38.0), case("known-tcp", 1 << 20, 160.0),
            case("floor-lru", 1, 60.0), case("floor-lru", 1 << 20, 390.0), case("new-rr-16", 1 << 20, 240.0),
            case("new-wlc-16", 1 << 20, 260.0), case("new-wlc-4096", 1 << 20, 320.0), case("new-rr-16-full", 1, 250.0)
        ] });
        let pictures = pictures(&report).expect("a report");
        let names: Vec<&str> = pictures.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["known", "new"]);
        for (name, wanted) in [(0, ["known-tcp", "floor-lru"]), (1, ["rr", "wlc"])] {
            let picture = &pictures[name].1;
            assert_eq!(picture.matches("<polyline").count(), 2, "{picture}");
            assert!(wanted.iter().all(|line| picture.contains(&format!(">{line}</text>"))), "{picture}");
            assert!(
                picture.starts_with("<svg ") && picture.ends_with("</svg>\n") && !picture.contains("NaN")
            );
        }
    }

    #[test]
    fn take_overs_have_a_point_for_each_gap() {
        let report = json!({ "cases": [
            { "name": "kill", "gaps_ms": [60.0, 72.5, 66.0] }, { "name": "hand-over", "gaps_ms": [0.0, 2.0] }
        ], "run": { "date": "2026-12-01", "processor": "A & B", "processors": 1, "kernel": "6.1" } });
        let pictures = pictures(&report).expect("a report");
        assert_eq!(pictures.len(), 1);
        let (name, picture) = &pictures[0];
        assert_eq!(
            (*name, picture.matches("<circle").count(), picture.matches("median\" d").count()),
            ("gaps", 5, 2)
        );
        assert!(picture.contains(">2026-12-01, 1 processor (A &amp; B), Linux 6.1</text>"), "{picture}");
        assert_eq!(beside(Path::new("/tmp/one.json"), name), Path::new("/tmp/one-gaps.svg"));
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for report in [json!({}), json!({ "cases": [] }), json!({ "resilience": [] })] {
            assert!(pictures(&report).is_err(), "{report}");
        }
    }

    #[test]
    fn axes_have_whole_powers_of_ten() {
        let axis = Axis::over([3.0, 450.0].into_iter(), 0.0, 300.0);
        let ticks: Vec<(f64, String)> = axis.ticks().collect();
        let labels: Vec<&str> = ticks.iter().map(|(_, label)| &**label).collect();
        assert_eq!(labels, ["1", "10", "100", "1,000"]);
        assert!((axis.place(10.0) - 100.0).abs() < 1e-9);
        let small = Axis::over([0.1].into_iter(), 0.0, 1.0);
        assert_eq!(small.ticks().map(|(_, label)| label).collect::<Vec<_>>(), ["0.1", "1"]);
    }
}
