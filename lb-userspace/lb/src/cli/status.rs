//! `lb status`: the running director's services and servers.

use std::io::{self, IsTerminal as _};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use lb_api::client::{self, NoDirector, NoPermission};
use lb_api::rates::{Rate, Rates};
use lb_api::schema::{self, Versioned};
use lb_api::status::{ServiceStatus, Status};
use lb_api::words;
use schemars::JsonSchema;
use serde::Serialize;

use super::output::{Director, go_on, wants_colour};
use crate::observe::listing::{self, View};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only these services: names, VIPs, or VIP:PORT
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// One line for each service: how it is, how many servers are up, and its connections
    #[arg(short, long, conflicts_with = "json")]
    brief: bool,
    /// Show it again every so many seconds, with rates since the time before; Ctrl-C ends it
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds)]
    watch: Option<Duration>,
    /// Print all of it as JSON, for programs; with --watch an object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    director: Director,
}

/// From a tenth of a second to a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is no number of seconds; services come before --watch"))?;
    match (0.1..=86_400.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("expected 0.1 to 86400 seconds".to_owned()),
    }
}

pub(super) fn run(options: &Options) -> Result<()> {
    let Some(pause) = options.watch else {
        let status = chosen(client::request_status(&options.director.socket)?, &options.services)?;
        let text = if options.json {
            schema::pretty(schema::STATUS, &status).context("writing the status as JSON")? + "\n"
        } else {
            render(options, &status, None)
        };
        return go_on(&text).map(drop);
    };
    let mut before: Option<(Status, Instant)> = None;
    loop {
        let text = match client::request_status(&options.director.socket) {
            Ok(status) => {
                let now = Instant::now();
                let status = chosen(status, &options.services)?;
                let rates = before.as_ref().and_then(|(old, then)| Rates::between(old, &status, now - *then));
                let text = frame(options, &status, rates.as_ref())?;
                before = Some((status, now));
                text
            }
            // A restart is nothing to end for, once there was a director.
            Err(error) if before.is_some() && !error.is::<NoPermission>() && !options.json => {
                screen(&format!("{error:#}\n"))
            }
            Err(error) if before.is_some() && error.is::<NoDirector>() => String::new(),
            Err(error) => return Err(error),
        };
        if !go_on(&text)? {
            return Ok(());
        }
        sleep(pause);
    }
}

/// Only the services that are asked for.
fn chosen(mut status: Status, names: &[String]) -> Result<Status> {
    if let Some(name) = names.iter().find(|name| !status.services.iter().any(|one| one.is_called(name))) {
        let all = status.services.iter().map(|service| service.name.as_str());
        bail!("there is no service {name:?}, there are {}", words::list(all));
    }
    if !names.is_empty() {
        status.services.retain(|service| names.iter().any(|name| service.is_called(name)));
    }
    Ok(status)
}

fn render(options: &Options, status: &Status, rates: Option<&Rates>) -> String {
    let view = View { colour: wants_colour(), rates };
    match options.brief {
        true => listing::brief(status, &view),
        false => listing::render_with(status, &view),
    }
}

/// A status of several.
fn frame(options: &Options, status: &Status, rates: Option<&Rates>) -> Result<String> {
    if !options.json {
        return Ok(screen(&render(options, status, rates)));
    }
    let rates = rates.map(|rates| status.services.iter().map(|service| of_service(service, rates)).collect());
    let object = Watched { status, rates };
    let text = serde_json::to_string(&Versioned { schema: schema::STATUS, object });
    Ok(text.context("writing the status as JSON")? + "\n")
}

/// What the director says of itself: services, servers, connections, the cluster, findings. With
/// --watch the second object and those after it have rates, too.
#[derive(Serialize, JsonSchema)]
pub(super) struct Watched<'a> {
    #[serde(flatten)]
    status: &'a Status,
    /// Since the one before; of `--watch` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<Vec<ServiceRates<'a>>>,
}

#[derive(Serialize, JsonSchema)]
struct ServiceRates<'a> {
    service: &'a str,
    #[serde(flatten)]
    rate: Rate,
    servers: Vec<ServerRate<'a>>,
}

#[derive(Serialize, JsonSchema)]
struct ServerRate<'a> {
    server: &'a str,
    #[serde(flatten)]
    rate: Rate,
}

fn of_service<'a>(service: &'a ServiceStatus, rates: &Rates) -> ServiceRates<'a> {
    let servers = service
        .servers
        .iter()
        .filter_map(|server| rates.of(service, server).map(|rate| ServerRate { server: &server.name, rate }));
    ServiceRates { service: &service.name, rate: rates.of_service(service), servers: servers.collect() }
}

/// In the place of the one before, on a terminal (ECMA-48: ED, CUP).
fn screen(text: &str) -> String {
    match io::stdout().is_terminal() {
        true => format!("\x1b[H\x1b[2J{text}"),
        false => format!("{text}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::samples;

    #[test]
    fn services_are_chosen_by_name_or_address() {
        for name in ["web", "211.58.250.6", "211.58.250.6:80"] {
            assert_eq!(chosen(samples::cluster(), &[name.to_owned()]).expect(name).services.len(), 1);
        }
        let error = chosen(samples::cluster(), &["mail".to_owned()]).expect_err("there is none");
        assert_eq!(error.to_string(), "there is no service \"mail\", there are web");
    }

    #[test]
    fn intervals_have_bounds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "NaN", "inf", "1e9", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
