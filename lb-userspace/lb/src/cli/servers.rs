//! `lb drain`, `lb enable` and `lb weight`: what servers get, until it is undone.

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use lb_api::client;
use lb_api::status::{ServerStatus, ServiceStatus, Status};
use lb_api::wire::{Request, ServerRequest};
use lb_model::{Health, Server, canonical};

use super::output::{Director, print};

/// From one look at what is left to the next.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct About {
    /// Name or address of the real server; with `:PORT` only in the services on that port
    #[arg(value_name = "SERVER[:PORT]")]
    server: String,
    /// Only in this service, by its name or `VIP:PORT`
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct DrainOptions {
    #[command(flatten)]
    about: About,
    /// Why, shown beside the server in `lb status`
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Wait until no connection is left, and show meanwhile how many there are
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this, such as 90s or 10min; exit code 1 if connections are left then
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    director: Director,
}

#[derive(Debug, Args)]
pub(super) struct EnableOptions {
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    director: Director,
}

#[derive(Debug, Args)]
pub(super) struct WeightOptions {
    #[command(flatten)]
    about: About,
    /// 0 to 65535, or `configured`: that of the configuration again
    #[arg(value_parser = parse_weight)]
    weight: Weight,
    /// Why, shown beside the server in `lb status`
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    director: Director,
}

/// `None`: the configured one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Weight(Option<u16>);

fn parse_weight(text: &str) -> Result<Weight, String> {
    match text {
        "configured" => Ok(Weight(None)),
        number => match number.parse() {
            Ok(weight) => Ok(Weight(Some(weight))),
            Err(_) => Err("expected 0 to 65535, or `configured`".to_owned()),
        },
    }
}

pub(super) fn drain(options: DrainOptions) -> Result<()> {
    let DrainOptions { about, reason, wait, timeout, director } = options;
    let about = request(about, reason);
    give(&director, &Request::Drain(about.clone()))?;
    if wait { wait_for_the_last(&director.socket, &about, timeout) } else { Ok(()) }
}

pub(super) fn enable(EnableOptions { about, director }: EnableOptions) -> Result<()> {
    give(&director, &Request::Enable(request(about, None)))
}

pub(super) fn weight(WeightOptions { about, weight, reason, director }: WeightOptions) -> Result<()> {
    give(&director, &Request::Weight { about: request(about, reason), weight: weight.0 })
}

fn request(About { server, service }: About, reason: Option<String>) -> ServerRequest {
    ServerRequest { server, service, reason, by: user() }
}

/// Who gives the order: the person behind sudo, if there is one.
pub(super) fn user() -> Option<String> {
    let named = ["SUDO_USER", "LOGNAME", "USER"].into_iter().find_map(|name| env::var(name).ok());
    let known = || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    named.filter(|name| !name.is_empty()).or_else(known)
}

fn give(director: &Director, order: &Request) -> Result<()> {
    print(&(client::request_server_order(&director.socket, order)? + "\n"))
}

/// Shows what is left until nothing is.
fn wait_for_the_last(socket: &Path, about: &ServerRequest, timeout: Option<Duration>) -> Result<()> {
    let (start, mut shown) = (Instant::now(), String::new());
    loop {
        let status = client::request_status(socket)?;
        if let Some(node) = elsewhere(&status, about) {
            bail!("{node} has the VIP, and with `sync: off` it alone knows the connections: wait there");
        }
        let left = left(&status, about);
        if let Some(server) = left.iter().find(|server| !server.drains) {
            bail!("{} gets new connections again: somebody has undone the drain", server.name);
        }
        let connections = left.iter().map(|server| server.active + server.inactive).sum::<u64>();
        if connections == 0 {
            return print(&format!("no connection is left, after {} s\n", start.elapsed().as_secs()));
        }
        let told = left.iter().map(Left::words).collect::<String>();
        if told != shown {
            print(&told)?;
            shown = told;
        }
        if timeout.is_some_and(|timeout| start.elapsed() >= timeout) {
            bail!(
                "{connections} connections are left after {} s; the drain goes on",
                start.elapsed().as_secs()
            );
        }
        let rest = timeout.map_or(LOOK, |timeout| timeout.saturating_sub(start.elapsed()));
        sleep(rest.min(LOOK));
    }
}

/// The node that has a VIP of the servers, if this one knows nothing of its connections.
fn elsewhere(status: &Status, about: &ServerRequest) -> Option<String> {
    let cluster = status.cluster.as_ref().filter(|cluster| cluster.sync.is_none())?;
    let services = status.services.iter().filter(|service| is_meant(service, about.service.as_deref()));
    let has_it =
        |service: &&ServiceStatus| service.servers.iter().any(|server| is_called(server, &about.server));
    let vips: Vec<IpAddr> = services.filter(has_it).map(|service| service.vip).collect();
    let groups = cluster.groups.iter().filter(|group| group.vips.iter().any(|vip| vips.contains(vip)));
    groups.filter(|group| group.role != "active").find_map(|group| group.holder.clone())
}

/// What a server still has.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    name: String,
    /// It gets no new connections.
    drains: bool,
    active: u64,
    inactive: u64,
}

impl Left {
    fn words(&self) -> String {
        let Self { name, active, inactive, .. } = self;
        format!("{name}: {active} active, {inactive} inactive\n")
    }
}

/// The servers that an order is about. One that has left the configuration drains anyway, and one
/// that is not there any more has nothing.
fn left(status: &Status, about: &ServerRequest) -> Vec<Left> {
    let services = status.services.iter().filter(|service| is_meant(service, about.service.as_deref()));
    let servers = services.flat_map(|service| service.servers.iter().map(move |server| (service, server)));
    servers
        .filter(|(_, server)| is_called(server, &about.server))
        .map(|(service, server)| Left {
            name: format!("{} of {}", server.name, service.name),
            drains: matches!(server.health, Health::Maintenance | Health::Draining),
            active: server.active.into(),
            inactive: server.inactive.into(),
        })
        .collect()
}

fn is_called(server: &ServerStatus, name: &str) -> bool {
    Server { name: server.name.clone(), ..Server::new(server.address, server.port) }.is_called(name)
}

fn is_meant(service: &ServiceStatus, name: Option<&str>) -> bool {
    let ServiceStatus { vip, port, ports, .. } = service;
    let one = SocketAddr::new(*vip, *port).to_string();
    let all = if vip.is_ipv6() { format!("[{vip}]:{ports}") } else { format!("{vip}:{ports}") };
    name.is_none_or(|name| name == service.name || name == all || canonical(name) == one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::samples;

    #[test]
    fn a_weight_is_a_number_or_the_configured_one() {
        assert_eq!(parse_weight("0"), Ok(Weight(Some(0))));
        assert_eq!(parse_weight("configured"), Ok(Weight(None)));
        assert!(parse_weight("65536").is_err() && parse_weight("-1").is_err() && parse_weight("").is_err());
    }

    #[test]
    fn what_is_left_is_of_the_servers_that_were_meant() {
        let mut status = samples::cluster();
        status.services[0].servers[1].health = Health::Maintenance;
        let left = |server: &str, service: Option<&str>| {
            let about = ServerRequest {
                server: server.to_owned(),
                service: service.map(str::to_owned),
                ..ServerRequest::default()
            };
            left(&status, &about).iter().map(|left| (left.drains, left.active)).collect::<Vec<_>>()
        };
        assert_eq!(left("www2", None), [(true, 3)]);
        assert_eq!(left("211.58.250.27:80", Some("web")), [(true, 3)]);
        assert_eq!(left("www1", Some("211.58.250.6:80")), [(false, 3)]);
        assert_eq!(left("www2", Some("ftp")), []);
        assert_eq!(left("www9", None), []);
    }

    #[test]
    fn without_synchronisation_the_node_that_has_the_vip_knows_the_connections() {
        let about = ServerRequest { server: "www1".to_owned(), ..ServerRequest::default() };
        let mut status = samples::cluster();
        assert_eq!(elsewhere(&status, &about), None, "alone");
        let mut directors = samples::directors();
        directors.groups[0].vips = vec![status.services[0].vip];
        (directors.groups[0].role, directors.groups[0].holder) =
            ("standby".to_owned(), Some("ha2".to_owned()));
        directors.sync = None;
        status.cluster = Some(directors);
        assert_eq!(elsewhere(&status, &about), Some("ha2".to_owned()));
        status.cluster.as_mut().expect("a cluster").groups[0].role = "active".to_owned();
        assert_eq!(elsewhere(&status, &about), None);
    }
}
