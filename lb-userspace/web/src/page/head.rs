//! The head of the overview: what is wrong, and what the director is.

use lb_api::status::{FindingStatus, ServiceStatus, Status, Tone};
use lb_api::words;
use maud::{Markup, html};

use super::services::link;
use super::{class, state};
use crate::snapshot::Snapshot;

/// What is wrong: first, because it is what somebody on call looks for.
pub(super) fn troubles(status: &Status, trouble: Option<&str>) -> Markup {
    html! {
        @if let Some(trouble) = trouble {
            div class="notice bad" role="alert" {
                p { strong { "The director does not answer: " } (trouble) ". What is shown is old." }
            }
        }
        @if status.stopping {
            div class="notice warning" {
                p { strong { "The director is stopping: " } "it waits for open connections to end." }
            }
        }
        @if let Some(error) = &status.config_error {
            div class="notice bad" id="refused" {
                h2 { "The configuration was refused" }
                p { (status.config) " is not in force; the director still runs the previous configuration:" }
                pre { (words::printable_lines(error)) }
            }
        }
        (services(status))
        @for finding in &status.findings { (finding_notice(finding)) }
    }
}

/// Services that do not serve as they should: they may stand on another page.
fn services(status: &Status) -> Markup {
    let troubles = status.troubles();
    html! {
        (named("Nobody serves", &troubles.nobody))
        (named("Their fallback serves", &troubles.on_fallback))
    }
}

fn named(what: &str, services: &[&ServiceStatus]) -> Markup {
    const NAMED: usize = 8;
    let more = services.len().saturating_sub(NAMED);
    html! {
        @if !services.is_empty() {
            div class="notice bad" data-services=(what) {
                p {
                    (state(Tone::Bad, what)) ": "
                    @for (number, service) in services.iter().take(NAMED).enumerate() {
                        @if number > 0 { ", " }
                        a href=(link(&service.name)) { (words::printable(&service.name)) }
                    }
                    @if more > 0 { " and " (words::grouped(more as u64)) " more" }
                }
            }
        }
    }
}

fn finding_notice(finding: &FindingStatus) -> Markup {
    let tone = finding.tone();
    let word = if tone == Tone::Bad { "Error" } else { "Warning" };
    html! {
        div class={ "notice " (class(tone)) } data-finding=(finding.finding) {
            p {
                (state(tone, word)) " " strong { (words::printable(&finding.text)) "." }
                " " span class="dim" { "For " (words::since(finding.since_s)) ", " (finding.finding) }
            }
            p { "What to do: " (words::printable(&finding.mend)) "." }
        }
    }
}

/// What the director is, in one line.
pub(super) fn facts(snapshot: &Snapshot) -> Markup {
    let status = &snapshot.status;
    let servers = || status.services.iter().flat_map(|service| &service.servers);
    let serving = servers().filter(|server| server.effective_weight > 0).count();
    let table = &status.table;
    let fact = |name: &str, value: String| html! { div { dt { (name) } dd { (value) } } };
    let at = humantime::format_rfc3339_seconds(snapshot.taken).to_string();
    html! {
        section aria-label="Director" {
            dl class="facts" {
                (fact("lb", status.version.clone()))
                (fact("Interface", format!("{} (XDP {})", status.interface, status.mode)))
                (fact("Up", words::uptime(status.uptime_s)))
                (fact("Services", words::grouped(status.services.len() as u64)))
                (fact("Servers with new connections", format!("{serving} of {}", servers().count())))
                (fact("Connection slots", format!(
                    "{} of {} used",
                    words::grouped(table.used + table.used_v6),
                    words::grouped(table.capacity + table.capacity_v6)
                )))
                (fact("As of", at))
            }
            (counts("Dropped packets", status.drops.iter().map(|count| (&*count.reason, count.count))))
            (counts("Passed to the host", status.passes.iter().map(|count| (&*count.reason, count.count))))
        }
    }
}

/// Packets by reason; nothing where there were none.
fn counts<'a>(what: &str, counts: impl Iterator<Item = (&'a str, u64)>) -> Markup {
    let some: Vec<String> = counts
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| format!("{reason} {}", words::grouped(count)))
        .collect();
    html! {
        @if !some.is_empty() { p class="dim" { (what) ": " (some.join(", ")) } }
    }
}
