//! `lb connections`: the connection table, laid out as `ipvsadm -Lnc`.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use lb_api::client::list_connections;
use lb_api::connections::{self, Bounds, Connection, Filter};
use lb_api::schema;
use lb_common::table::connection::State;
use lb_model::Forwarding;

use super::output::{Director, go_on, json_line};

/// Connections that the director is asked for at a time. Between two parts nobody waits for the
/// reader: `lb connections | less` keeps no director busy.
const PART: u64 = 20_000;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    which: Which,
    /// List so many connections at most, and tell where the next ones begin
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Begin there: where a listing with --limit has ended
    #[arg(long, value_name = "PLACE", default_value_t = 0)]
    from: u64,
    /// Print only how many there are
    #[arg(long, conflicts_with = "json")]
    count: bool,
    /// Print one JSON object a line, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    director: Director,
}

/// Which connections; all conditions hold.
#[derive(Debug, Args)]
struct Which {
    /// Only those of this client: an address, or one with a prefix length, such as 10.0.0.0/8
    #[arg(long, value_name = "ADDRESS[/LENGTH]")]
    client: Option<String>,
    /// Only those of this service: its name, its VIP, or VIP:PORT
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Only those of this real server: its name or address, with or without port
    #[arg(long, value_name = "SERVER")]
    server: Option<String>,
    /// Only those in one of these states
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', ignore_case = true, value_parser = PossibleValuesParser::new(states()))]
    states: Vec<String>,
    /// Only those of this family
    #[arg(long, value_enum)]
    family: Option<Family>,
    /// Only those of this protocol
    #[arg(long, value_parser = ["tcp", "udp"], ignore_case = true)]
    protocol: Option<String>,
    /// Only those of servers that packets get to in this way
    #[arg(long, value_enum, ignore_case = true)]
    method: Option<Method>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Family {
    #[value(alias = "4")]
    Ipv4,
    #[value(alias = "6")]
    Ipv6,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Method {
    #[value(alias = "route")]
    Direct,
    Local,
    Tunnel,
    Masq,
}

/// All states, by number.
fn states() -> impl Iterator<Item = &'static str> {
    (0..=u8::MAX).filter_map(State::from_bits).map(State::name)
}

impl Which {
    fn filter(self) -> Filter {
        let Self { client, service, server, states, family, protocol, method } = self;
        Filter {
            client,
            service,
            server,
            states: states.into_iter().map(|state| state.to_uppercase()).collect(),
            family: family.map(|family| match family {
                Family::Ipv4 => connections::Family::Ipv4,
                Family::Ipv6 => connections::Family::Ipv6,
            }),
            protocol: protocol.map(|protocol| protocol.to_lowercase()),
            method: method.map(|method| match method {
                Method::Direct => Forwarding::Direct,
                Method::Local => Forwarding::Local,
                Method::Tunnel => Forwarding::Tunnel,
                Method::Masq => Forwarding::Masq,
            }),
        }
    }
}

pub(super) fn run(options: Options) -> Result<()> {
    let Options { which, limit, from, count, json, director } = options;
    let filter = which.filter();
    let print = |part: &[Connection]| -> Result<bool> {
        let mut text = String::new();
        for connection in part.iter().filter(|_| !count) {
            text += &if json { json_line(schema::CONNECTION, connection)? } else { line(connection) };
        }
        go_on(&text)
    };
    if !json && !count && !go_on(HEAD)? {
        return Ok(());
    }
    let (listed, next) = walk(&director, &filter, from, limit, print)?;
    if count {
        go_on(&format!("{listed}\n"))?;
    } else if let Some(next) = next {
        eprintln!("there are more: `--from {next}` goes on with them");
    }
    Ok(())
}

/// Asks for part after part until `print` returns `false`. Returns how many connections there were,
/// and where more begin.
pub(super) fn walk(
    director: &Director,
    filter: &Filter,
    from: u64,
    limit: Option<u64>,
    mut print: impl FnMut(&[Connection]) -> Result<bool>,
) -> Result<(u64, Option<u64>)> {
    let (mut next, mut listed) = (Some(from), 0);
    while let Some(from) = next {
        let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(listed));
        if left == 0 {
            break;
        }
        let mut part = Vec::new();
        let bounds = Bounds { from, limit: Some(left.min(PART)) };
        let end = list_connections(&director.socket, filter, bounds, |some| {
            part.extend(some);
            Ok(())
        })?;
        (listed, next) = (listed + end.listed, end.next);
        if !print(&part)? {
            break;
        }
    }
    Ok((listed, next))
}

const HEAD: &str = "Pro expire state       source                virtual               destination           forward service/server\n";

/// As wide as IPv4 needs it; IPv6 addresses push the rest aside, as ipvsadm's do.
fn line(connection: &Connection) -> String {
    let Connection { protocol, client, client_port, vip, port, service, server, method, state, .. } =
        connection;
    let socket = |address: IpAddr, port| SocketAddr::new(address, port).to_string();
    let destination = connection.server_address.map(|to| socket(to, connection.server_port.unwrap_or(*port)));
    let expires = connection.expires_in_s;
    format!(
        "{:<3} {:02}:{:02}  {state:<11} {:<21} {:<21} {:<21} {:<7} {}{server}\n",
        protocol.to_uppercase(),
        expires / 60,
        expires % 60,
        socket(*client, *client_port),
        socket(*vip, *port),
        destination.unwrap_or_else(|| "-".to_owned()),
        method.map_or("-", Forwarding::name),
        service.as_ref().map_or_else(String::new, |service| format!("{service}/")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(client: &str, vip: &str) -> Connection {
        Connection {
            protocol: "tcp".into(),
            client: client.parse().expect("an address"),
            client_port: 41_234,
            vip: vip.parse().expect("an address"),
            port: 80,
            server_address: "211.58.250.25".parse().ok(),
            server_port: Some(80),
            service: Some("web".into()),
            server: "www1".into(),
            method: Some(Forwarding::Direct),
            state: "ESTABLISHED".into(),
            expires_in_s: 899,
        }
    }

    #[test]
    fn columns_are_those_of_ipvsadm_and_names() {
        let one = connection("10.0.0.7", "211.58.250.6");
        let gone = Connection {
            server_address: None,
            service: None,
            server: "number 9".into(),
            method: None,
            state: "FIN_WAIT".into(),
            expires_in_s: 7,
            ..connection("2001:db8::7", "2001:db8::6")
        };
        assert_eq!(
            HEAD.to_owned() + &line(&one) + &line(&gone),
            "Pro expire state       source                virtual               destination           forward service/server\n\
             TCP 14:59  ESTABLISHED 10.0.0.7:41234        211.58.250.6:80       211.58.250.25:80      Route   web/www1\n\
             TCP 00:07  FIN_WAIT    [2001:db8::7]:41234   [2001:db8::6]:80      -                     -       number 9\n"
        );
    }

    #[test]
    fn json_keys_stay() {
        let json = json_line(schema::CONNECTION, &connection("10.0.0.7", "211.58.250.6")).expect("JSON");
        assert_eq!(
            json,
            "{\"schema\":\"lb/connection/1\",\"protocol\":\"tcp\",\"client\":\"10.0.0.7\",\"client_port\":41234,\
             \"vip\":\"211.58.250.6\",\"port\":80,\"server_address\":\"211.58.250.25\",\"server_port\":80,\
             \"service\":\"web\",\"server\":\"www1\",\"method\":\"Route\",\"state\":\"ESTABLISHED\",\"expires_in_s\":899}\n"
        );
    }

    #[test]
    fn states_are_those_of_the_table() {
        let all: Vec<&str> = states().collect();
        assert!(all.len() == 11 && all.contains(&"SYN_RECV") && all.contains(&"UDP"), "{all:?}");
    }
}
