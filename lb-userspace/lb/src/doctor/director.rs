//! What is there to say of a director: its configuration, what is around it, what it has found.

use lb_api::client;
use lb_api::events;
use lb_api::status::FindingStatus;
use lb_config::Files;
use lb_model::Config;
use lb_net::links::Links;

use super::{Line, Places, interfaces, segment};
use crate::controller::{masq, placement, sources};
use crate::firewall;

pub(super) async fn look(places: &Places) -> Vec<Line> {
    let file = places.config.display();
    let read = Files::open(&places.config).and_then(|mut files| Ok((files.config()?, files.warnings())));
    let (config, warnings) = match read {
        Ok(read) => read,
        Err(error) => {
            return vec![Line::wrong(
                format!("configuration: {error:#}"),
                format!("`lb check {file}` tells all"),
            )];
        }
    };
    let mut lines = vec![Line::ok(format!("configuration: {file} is right"))];
    lines.extend(warnings.iter().map(|warning| Line::warning(format!("configuration: {warning}"), "")));
    let found = [sources::findings(&config), placement::findings(&config), masq::findings(&config)].concat();
    lines.extend(found.into_iter().chain(masq::astray(&config)).map(Line::of_finding));
    match Links::look().await {
        Ok(links) => {
            lines.extend(interfaces::look(&config, &links));
            lines.extend(segment::look(&config, &links).await);
        }
        Err(error) => lines.push(Line::warning(format!("interfaces: {error:#}"), "")),
    }
    lines.push(rules(&config, firewall::look(&config).await));
    lines.extend(running(places));
    lines
}

fn rules(config: &Config, found: Vec<lb_api::findings::Finding>) -> Line {
    match found.into_iter().next() {
        Some(finding) => Line::of_finding(finding),
        None => Line::ok(format!(
            "firewall: no rule about {}",
            if config.services.len() == 1 { "the service" } else { "the services" }
        )),
    }
}

/// What the running director has found.
fn running(places: &Places) -> Vec<Line> {
    let status = match client::request_status(&places.socket) {
        Ok(status) => status,
        Err(error) => return vec![Line::warning(format!("director: {error:#}"), "systemctl start lb")],
    };
    if status.findings.is_empty() {
        return vec![Line::ok("director: it runs, and has found nothing wrong")];
    }
    status.findings.into_iter().map(finding).collect()
}

fn finding(FindingStatus { finding, level, text, mend, .. }: FindingStatus) -> Line {
    let text = format!("director: {text} ({finding})");
    if level == events::Level::Error { Line::wrong(text, mend) } else { Line::warning(text, mend) }
}
