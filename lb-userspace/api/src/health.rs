//! Whether all is well, as monitoring plugins tell it (Monitoring Plugins Development Guidelines):
//! a state, one line, and performance data.

use std::fmt::Write as _;

use lb_model::Health;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::events::Level;
use crate::status::{ServerStatus, ServiceStatus, Status, TableStatus};
use crate::words::printable;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Only these: names, VIPs, or `VIP:PORT`; none: all.
    pub services: Vec<String>,
    /// A warning if less than this share of a service's servers is up, in percent.
    pub warning: u64,
    /// Critical if less than this share of a service's servers is up, in percent.
    pub critical: u64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { services: Vec::new(), warning: 100, critical: 0 }
    }
}

/// How a plugin ends; the numbers are the convention's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[repr(u8)]
pub enum State {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What there is to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub state: State,
    /// Reasons, each with what it would be by itself.
    reasons: Vec<(State, String)>,
    summary: String,
    data: String,
}

impl Found {
    pub fn new(state: State, why: &str) -> Self {
        Self { state, reasons: vec![(state, why.to_owned())], summary: String::new(), data: String::new() }
    }

    /// What is not well, the worst first, each with what it would be by itself.
    #[must_use]
    pub fn reasons(&self) -> Vec<(State, &str)> {
        let reasons = self.reasons.iter().map(|(state, text)| (*state, text.as_str()));
        let mut reasons: Vec<(State, &str)> = reasons.collect();
        reasons.sort_by_key(|(state, _)| std::cmp::Reverse(*state));
        reasons
    }

    /// The worst first. `|` begins the performance data, so it is nowhere else.
    #[must_use]
    pub fn line(&self) -> String {
        let reasons: Vec<&str> = self.reasons().into_iter().map(|(_, text)| text).collect();
        let text = if reasons.is_empty() { self.summary.clone() } else { reasons.join("; ") };
        let text = printable(&text).replace('|', " ");
        let data = if self.data.is_empty() { String::new() } else { format!(" |{}", self.data) };
        format!("LB {}: {text}{data}", self.state.word())
    }
}

/// The director's state, in the words and numbers of monitoring plugins.
pub fn assess(status: &Status, options: &Wanted) -> Found {
    let mut reasons = Vec::new();
    if let Some(error) = &status.config_error {
        let line = error.lines().next().unwrap_or_default();
        reasons.push((State::Warning, format!("the configuration file is refused: {line}")));
    }
    for finding in &status.findings {
        let state = if finding.level == Level::Error { State::Critical } else { State::Warning };
        reasons.push((state, finding.text.clone()));
    }
    for group in status.cluster.iter().flat_map(|cluster| &cluster.groups) {
        if group.holder.is_none() {
            reasons.push((State::Critical, format!("no director has group {}", group.name)));
        } else if group.is_anycast() && group.role != "active" {
            reasons.push((
                State::Warning,
                format!("this director does not serve group {}: {}", group.name, group.cause),
            ));
        } else if group.role == "active" && !group.has_successor {
            reasons.push((State::Warning, format!("no other director could take group {}", group.name)));
        }
    }
    let services: Vec<&ServiceStatus> = status
        .services
        .iter()
        .filter(|service| !service.draining)
        .filter(|service| {
            options.services.is_empty() || options.services.iter().any(|name| service.is_called(name))
        })
        .collect();
    for name in &options.services {
        if !services.iter().any(|service| service.is_called(name)) {
            return Found::new(State::Unknown, &format!("there is no service {name:?}"));
        }
    }
    let mut data = String::new();
    for service in &services {
        reasons.extend(of_service(service, options));
        add_data(&mut data, service, options);
    }
    let table = &status.table;
    for (used, slots, family) in
        [(table.used, table.capacity, "ipv4"), (table.used_v6, table.capacity_v6, "ipv6")]
    {
        let most = TableStatus::fills_above(slots);
        if used > most {
            // The table is made for half of its slots.
            let text =
                format!("the connection table has room for few more: {used} of {} for {family}", slots / 2);
            reasons.push((State::Warning, text));
        }
        let _ = write!(data, " connections_{family}={used};{most};;0;{slots}");
    }
    let up: usize = services.iter().map(|service| up(service)).sum();
    let all: usize = services.iter().map(|service| servers(service).count()).sum();
    let summary = format!("{} services, {up} of {all} servers up", services.len());
    let state = reasons.iter().map(|(state, _)| *state).max().unwrap_or(State::Ok);
    Found { state, reasons, summary, data }
}

/// Those that are meant to serve: an operator knows of the others.
fn servers(service: &ServiceStatus) -> impl Iterator<Item = &ServerStatus> {
    let servers = service.servers.iter();
    servers.filter(|server| {
        !matches!(server.health, Health::Draining | Health::Maintenance) && server.weight > 0
    })
}

fn up(service: &ServiceStatus) -> usize {
    servers(service).filter(|server| server.effective_weight > 0).count()
}

fn of_service(service: &ServiceStatus, options: &Wanted) -> Vec<(State, String)> {
    let (up, all) = (up(service) as u64, servers(service).count() as u64);
    let name = &service.name;
    if service.on_fallback && !service.fallback_ready {
        return vec![(State::Critical, format!("nobody serves {name}"))];
    }
    if service.on_fallback {
        return vec![(State::Critical, format!("the fallback serves {name}: {}", service.fallback))];
    }
    let text = || {
        let down = servers(service).filter(|server| server.effective_weight == 0);
        let down: Vec<String> =
            down.map(|server| format!("{} {}", server.name, server.health.word())).collect();
        format!("{name}: {up} of {all} servers up ({})", down.join(", "))
    };
    match up * 100 {
        share if share < options.critical * all => vec![(State::Critical, text())],
        share if share < options.warning * all => vec![(State::Warning, text())],
        _ => Vec::new(),
    }
}

/// `'LABEL'=VALUE[UNIT];WARNING;CRITICAL;MINIMUM;MAXIMUM`, quotes doubled.
fn add_data(data: &mut String, service: &ServiceStatus, options: &Wanted) {
    let name = service.name.replace('\'', "''").replace('=', "_");
    let all = servers(service).count() as u64;
    let least = |percent: u64| format!("{}:", (percent * all).div_ceil(100));
    let active: u64 = service.servers.iter().map(|server| u64::from(server.active)).sum();
    let connections: u64 = service.servers.iter().map(|server| server.connections).sum();
    let _ = write!(
        data,
        " '{name}_up'={};{};{};0;{all} '{name}_active'={active};;;0 '{name}_connections'={}c;;;0",
        up(service),
        least(options.warning),
        least(options.critical),
        connections + service.departed.connections
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn options() -> Wanted {
        Wanted::default()
    }

    #[test]
    fn all_well() {
        let found = assess(&samples::cluster(), &options());
        assert_eq!(
            found.line(),
            "LB OK: 1 services, 2 of 2 servers up | 'web_up'=2;2:;0:;0;2 'web_active'=6;;;0 'web_connections'=200c;;;0 \
             connections_ipv4=1024;838860;;0;2097152 connections_ipv6=512;419430;;0;1048576"
        );
        assert_eq!(found.state as u8, 0);
    }

    #[test]
    fn a_server_that_is_down_is_a_warning_or_critical() {
        let mut status = samples::cluster();
        let www2 = &mut status.services[0].servers[1];
        (www2.health, www2.effective_weight) = (Health::Down, 0);
        let found = assess(&status, &options());
        assert_eq!(found.state, State::Warning);
        assert!(
            found.line().starts_with("LB WARNING: web: 1 of 2 servers up (www2 down) |"),
            "{}",
            found.line()
        );
        assert_eq!(assess(&status, &Wanted { critical: 51, ..options() }).state, State::Critical);
        assert_eq!(assess(&status, &Wanted { critical: 50, ..options() }).state, State::Warning);
        assert_eq!(assess(&status, &Wanted { warning: 50, ..options() }).state, State::Ok);
        status.services[0].servers[1].health = Health::Maintenance;
        assert_eq!(assess(&status, &options()).state, State::Ok, "an operator knows");
    }

    #[test]
    fn what_is_wrong_is_told_the_worst_first() {
        let mut status = samples::cluster();
        status.config_error = Some("lb.yaml:3:1: unknown key `servces`\n  3 | servces:".into());
        status.services[0].on_fallback = true;
        let line = assess(&status, &options()).line();
        let wanted = "LB CRITICAL: the fallback serves web: local; the configuration file is refused: \
                      lb.yaml:3:1: unknown key `servces` |";
        assert!(line.starts_with(wanted), "{line}");
        status.services[0].fallback_ready = false;
        assert!(assess(&status, &options()).line().contains("nobody serves web"));
        let unknown = assess(&status, &Wanted { services: vec!["mail".into()], ..options() });
        assert_eq!(
            (unknown.state, unknown.line().as_str()),
            (State::Unknown, "LB UNKNOWN: there is no service \"mail\"")
        );
    }

    #[test]
    fn findings_and_the_cluster_count() {
        let findings = vec![samples::finding("vip_claimed", "211.58.250.6")];
        let found = assess(&Status { findings, ..samples::cluster() }, &options());
        assert_eq!(found.state, State::Critical);
        let mut status = Status { cluster: Some(samples::directors()), ..samples::cluster() };
        let found = assess(&status, &options());
        assert_eq!(found.state, State::Warning);
        assert!(found.line().contains("no other director could take group web"), "{}", found.line());
        if let Some(cluster) = &mut status.cluster {
            cluster.groups[0].holder = None;
        }
        assert_eq!(assess(&status, &options()).state, State::Critical);
    }

    /// Not at the figure, but above it: as the rule for Prometheus, and whoever reads the data.
    #[test]
    fn a_filling_table_is_a_warning() {
        let mut status = samples::cluster();
        status.table.used = 838_860;
        assert_eq!(assess(&status, &options()).state, State::Ok);
        status.table.used += 1;
        let line = assess(&status, &options()).line();
        let wanted = "LB WARNING: the connection table has room for few more: 838861 of 1048576 for ipv4 |";
        assert!(line.starts_with(wanted), "{line}");
        assert!(line.contains(" connections_ipv4=838861;838860;;0;2097152"), "{line}");
        // A table that is not there is not full.
        (status.table.used, status.table.capacity) = (0, 0);
        assert_eq!(assess(&status, &options()).state, State::Ok);
    }

    #[test]
    fn only_one_bar_separates_the_data() {
        let found = Found::new(State::Unknown, "a|b\nc");
        assert_eq!(found.line(), "LB UNKNOWN: a b c");
    }
}
