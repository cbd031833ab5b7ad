//! What is drawn: SVG without scripts. Each drawing has its figures in words, too.

use lb_api::http::{Point, Share};
use lb_model::millis;
use maud::{Markup, html};

use crate::history::{POINTS, STEP};

/// Units of a chart's own coordinates.
const HEIGHT: f32 = 40.0;

/// Three charts of the last 15 minutes.
pub(super) fn charts(points: &[Point]) -> Markup {
    let values = |value: fn(&Point) -> f32| -> Vec<f32> { points.iter().map(value).collect() };
    html! {
        div class="charts" {
            (chart("New connections a second", &values(|point| point.connections_per_s), &rate))
            (chart("Active connections", &values(|point| point.active as f32), &whole))
            (chart("Bits a second", &values(|point| point.bytes_per_s * 8.0), &bits))
        }
    }
}

fn chart(what: &str, values: &[f32], words: &dyn Fn(f32) -> String) -> Markup {
    let most = values.iter().copied().fold(0.0_f32, f32::max);
    let now = values.last().copied().unwrap_or(0.0);
    let minutes = (POINTS as u64 * STEP.as_secs()) / 60;
    let text = format!("{what}: {} now, {} at most in {minutes} minutes", words(now), words(most));
    let first = POINTS.saturating_sub(values.len());
    let mut line = String::new();
    for (index, value) in values.iter().enumerate() {
        let height = if most > 0.0 { value / most * (HEIGHT - 2.0) } else { 0.0 };
        line += &format!("{},{:.1} ", first + index, HEIGHT - 1.0 - height);
    }
    let area = format!("{first},{HEIGHT} {line}{},{HEIGHT}", POINTS - 1);
    html! {
        figure {
            figcaption { (what) ": " strong { (words(now)) } ", at most " (words(most)) }
            svg class="chart" role="img" aria-label=(text) viewBox=(format!("0 0 {} {HEIGHT}", POINTS - 1))
                preserveAspectRatio="none" {
                line class="base" x1="0" x2=(POINTS - 1) y1=(HEIGHT - 0.5) y2=(HEIGHT - 0.5) {}
                @if values.len() > 1 {
                    polygon class="area" points=(area) {}
                    polyline class="line" points=(line.trim_end()) {}
                }
            }
        }
    }
}

fn whole(value: f32) -> String {
    lb_api::words::grouped(value as u64)
}

/// With a digit where that tells something.
pub(super) fn rate(value: f32) -> String {
    if value > 0.0 && value < 10.0 { format!("{value:.1}") } else { whole(value) }
}

pub(super) fn bits(value: f32) -> String {
    const UNITS: [(f32, &str); 3] = [(1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")];
    match UNITS.iter().find(|(unit, _)| value >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", value / unit),
        None => format!("{value:.0} bit/s"),
    }
}

/// What a server got of its service's new connections, and a mark where its fair share ends.
pub(super) fn share(share: Option<Share>) -> Markup {
    let Some(share) = share else { return html! { span class="dim" { "–" } } };
    let percent = |part: Option<f64>| part.map_or("–".to_owned(), |part| format!("{:.0} %", part * 100.0));
    let (got, fair) = (share.got.unwrap_or(0.0) * 100.0, share.fair.unwrap_or(0.0) * 100.0);
    let text = format!(
        "{} of the new connections of the last minute, {} are its fair share",
        percent(share.got),
        percent(share.fair)
    );
    html! {
        svg class="bar" role="img" aria-label=(text) viewBox="0 0 100 10" preserveAspectRatio="none" {
            rect class="whole" x="0" y="3" width="100" height="4" {}
            rect class="got" x="0" y="1" width=(format!("{got:.1}")) height="8" {}
            rect class="fair" x=(format!("{:.1}", (fair - 1.0).clamp(0.0, 98.0))) y="0" width="2" height="10" {}
        }
        " " (percent(share.got)) " / " (percent(share.fair))
    }
}

/// Latencies in microseconds, the newest first; drawn with the newest on the right.
pub(super) fn latencies(what: &str, newest_first: &[u64]) -> Markup {
    let Some(last) = newest_first.first() else { return html! { span class="dim" { "–" } } };
    let shown: Vec<u64> = newest_first.iter().take(10).rev().copied().collect();
    let most = shown.iter().copied().max().unwrap_or(0).max(1);
    let words: Vec<String> = shown.iter().rev().map(|micros| millis(*micros)).collect();
    let text = format!("Last latencies of {what}, the newest first: {}", words.join(", "));
    html! {
        svg class="spark" role="img" aria-label=(text) viewBox="0 0 50 12" preserveAspectRatio="none" {
            @for (index, micros) in shown.iter().enumerate() {
                @let height = (*micros as f64 / most as f64 * 11.0).max(1.0);
                rect x=(index * 5) y=(format!("{:.1}", 12.0 - height)) width="4" height=(format!("{height:.1}")) {}
            }
        }
        " " (millis(*last))
    }
}
