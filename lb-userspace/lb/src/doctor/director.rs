//! What is there to say of a director: its configuration, what is around it, what it has found.

use lb_api::client;
use lb_api::events;
use lb_api::health::{State, Wanted, assess};
use lb_api::status::{FindingStatus, Status};
use lb_config::Files;
use lb_datapath::attach::file_system;
use lb_datapath::attach::pins::Pins;
use lb_datapath::inherited;
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
    lines.extend(maps(&config));
    lines.extend(running(places));
    lines
}

/// What a start of this build would cost where another one runs, or has been: nothing, unless the
/// maps have another layout.
fn maps(config: &Config) -> Option<Line> {
    // Without the folder nothing is pinned, and no file system shall be mounted to find that.
    file_system::folders().find(|folder| folder.is_dir())?;
    let folder = Pins::of(&config.interface).ok()?.left_maps()?;
    let error = inherited::check_layout(&folder).err()?;
    Some(Line::warning(
        format!(
            "connections: the lb on {} is of another build, and this one cannot take over from it: {error:#}",
            config.interface
        ),
        "its connections end when this lb starts: move the groups to another node before, by `lb maintenance on`",
    ))
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

/// How it is with the running director, and what it has found.
fn running(places: &Places) -> Vec<Line> {
    match client::request_status(&places.socket) {
        Ok(status) => found_by(status),
        Err(error) => vec![Line::warning(format!("director: {error:#}"), "systemctl start lb")],
    }
}

/// What `lb health` calls critical is wrong here.
fn found_by(mut status: Status) -> Vec<Line> {
    let findings = std::mem::take(&mut status.findings);
    let services = assess(&status, &Wanted::default());
    let told = services.reasons().into_iter().map(|(state, text)| {
        let text = format!("director: {text}");
        let mend = "`lb status` has the reason, `lb events` what happened before";
        if state == State::Critical { Line::wrong(text, mend) } else { Line::warning(text, mend) }
    });
    let lines: Vec<Line> = told.chain(findings.into_iter().map(finding)).collect();
    match lines.is_empty() {
        true => vec![Line::ok("director: it runs, and has found nothing wrong")],
        false => lines,
    }
}

fn finding(FindingStatus { finding, level, text, mend, .. }: FindingStatus) -> Line {
    let text = format!("director: {text} ({finding})");
    if level == events::Level::Error { Line::wrong(text, mend) } else { Line::warning(text, mend) }
}

#[cfg(test)]
mod tests {
    use lb_api::samples;
    use lb_model::Health;

    use super::super::Level;
    use super::*;

    fn told(status: Status) -> Vec<(Level, String)> {
        found_by(status).into_iter().map(|line| (line.level, line.text)).collect()
    }

    #[test]
    fn a_director_that_runs_may_have_nobody_to_serve() {
        let well = (Level::Ok, "director: it runs, and has found nothing wrong".to_owned());
        assert_eq!(told(samples::cluster()), [well]);
        let mut status = samples::cluster();
        let www2 = &mut status.services[0].servers[1];
        (www2.health, www2.effective_weight) = (Health::Down, 0);
        status.findings = vec![samples::finding("vip_claimed", "211.58.250.6")];
        let lines = told(status.clone());
        assert_eq!((lines[0].0, lines[1].0, lines.len()), (Level::Warning, Level::Wrong, 2));
        assert!(lines[1].1.ends_with(" (vip_claimed)"), "{lines:?}");
        status.services[0].on_fallback = true;
        status.services[0].fallback_ready = false;
        status.config_error = Some("lb.yaml:3:1: unknown key `servces`".into());
        let lines = told(status);
        assert_eq!(lines[0], (Level::Wrong, "director: nobody serves web".to_owned()));
        assert_eq!((lines[1].0, lines.len()), (Level::Warning, 3));
        assert!(lines[1].1.contains("the configuration file is refused"), "{lines:?}");
    }
}
