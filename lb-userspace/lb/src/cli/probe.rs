//! `lb probe`: the checks of a service's servers, made at once and shown step by step.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use clap::Args;
use lb_api::client;
use lb_api::schema;
use lb_api::status::ProbeReport;
use lb_api::words;
use lb_model::Health;
use lb_model::millis;
use schemars::JsonSchema;
use serde::Serialize;

use super::output::{Director, json_line, print};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Name of the service, or its VIP:PORT
    service: String,
    /// Name or address of the real server; all of the service if left out
    server: Option<String>,
    /// Print one JSON object a server, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    director: Director,
}

/// Exits with an error if a check failed.
pub(super) fn run(Options { service, server, json, director }: Options) -> Result<()> {
    let servers = match server {
        Some(server) => vec![server],
        None => servers(&director, &service)?,
    };
    let mut failed = 0;
    for server in &servers {
        let reports = client::request_probe(&director.socket, &service, server)?;
        failed += usize::from(reports.iter().any(|report| report.failure.is_some()));
        let probed = Probed { server, checks: &reports };
        print(&if json { json_line(schema::PROBE, &probed)? } else { render(server, &reports) })?;
    }
    match failed {
        0 => Ok(()),
        _ => bail!("{failed} of {} servers failed", servers.len()),
    }
}

/// All that the service has in its configuration.
fn servers(director: &Director, name: &str) -> Result<Vec<String>> {
    let status = client::request_status(&director.socket)?;
    let Some(service) = status.services.iter().find(|one| one.is_called(name)) else {
        let names = status.services.iter().map(|service| service.name.as_str());
        bail!("there is no service {name:?}, there are {}", words::list(names));
    };
    let configured = service.servers.iter().filter(|server| server.health != Health::Draining);
    let names: Vec<String> = configured.map(|server| server.name.clone()).collect();
    if names.is_empty() {
        bail!("{name} has no servers");
    }
    Ok(names)
}

/// What came of a server's checks.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Probed<'a> {
    /// As it was asked for: its name or address.
    server: &'a str,
    checks: &'a [ProbeReport],
}

fn render(server: &str, reports: &[ProbeReport]) -> String {
    let mut text = String::new();
    for report in reports {
        let ProbeReport { check, target, via_vip, took_us, steps, warning, advice, failure } = report;
        let way = if *via_vip { ", the VIP at its MAC address" } else { "" };
        let _ = writeln!(text, "{server}: {check} to {target}{way}");
        let mut line = |after_us, what: &str| {
            let _ = writeln!(text, "  {:>9}  {what}", millis(after_us));
        };
        for step in steps {
            line(step.after_us, &step.what);
        }
        if let Some(warning) = warning {
            line(*took_us, &format!("warning: {warning}"));
        }
        match (failure, advice) {
            (Some(failure), _) => line(*took_us, &format!("FAILED: {failure}")),
            (None, Some(advice)) => line(*took_us, &format!("passed: {advice}")),
            (None, None) => line(*took_us, "passed"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_model::ProbeStep;

    #[test]
    fn each_step_has_its_time() {
        let step = |after_us, what: &'static str| ProbeStep { after_us, what: what.into() };
        let report = ProbeReport {
            check: "http".into(),
            target: "192.0.2.21:80".parse().expect("an address"),
            via_vip: false,
            took_us: 12_600,
            steps: vec![step(412, "connected"), step(12_500, "got status 500")],
            warning: Some("certificate ends in 5 days".into()),
            advice: None,
            failure: Some("status 500, expected 200-299".into()),
        };
        let wanted = "www1: http to 192.0.2.21:80\n\
                      \x20    0.4 ms  connected\n\
                      \x20     12 ms  got status 500\n\
                      \x20     13 ms  warning: certificate ends in 5 days\n\
                      \x20     13 ms  FAILED: status 500, expected 200-299\n";
        assert_eq!(render("www1", &[report]), wanted);
    }
}
