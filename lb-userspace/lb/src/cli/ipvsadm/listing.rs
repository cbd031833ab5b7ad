//! The table as ipvsadm prints it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use lb_api::connections::Connection;
use lb_api::status::{Status, TimeoutsStatus};
use lb_model::{Forwarding, Protocol};

use super::names::{Names, cut};
use super::options::Listing;
use super::table::{Counts, Persistence, Server, Service, Table, Tunnel};

/// IPVS's, since Linux 2.6.
const VERSION: &str = "1.2.1";

/// `-L`: of the whole table with a line on top.
pub(super) fn list(table: &Table, listing: &Listing, names: &mut Names) -> String {
    let mut text = String::new();
    if listing.service.is_none() {
        let _ = writeln!(text, "IP Virtual Server version {VERSION} (size={})", table.size);
    }
    text += &head(listing);
    for service in &table.services {
        text += &service_line(service, listing, names);
        for server in &service.servers {
            text += &server_line(server, service.protocol, listing, names);
        }
    }
    text
}

fn head(listing: &Listing) -> String {
    let columns = |columns: [&str; 5]| {
        let [a, b, c, d, e] = columns;
        format!("{:<33} {a:>8} {b:>8} {c:>8} {d:>8} {e:>8}\n", "Prot LocalAddress:Port")
    };
    let left = |first: String| format!("{:<33} {first}\n", "Prot LocalAddress:Port");
    let first = if listing.stats {
        columns(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"])
    } else if listing.rate {
        columns(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"])
    } else if listing.thresholds {
        left(format!("{:<10} {:<10} {:<10} {:<10}", "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"))
    } else if listing.persistent {
        left(format!("{:<9} {:<11} {:<10} {:<10}", "Weight", "PersistConn", "ActiveConn", "InActConn"))
    } else {
        let tunnels = if listing.tunnels { "TunnelInfo    " } else { "" };
        let rest = format!("           Forward {tunnels}Weight ActiveConn InActConn");
        return format!("Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port{rest}\n");
    };
    format!("{first}  -> RemoteAddress:Port\n")
}

fn service_line(service: &Service, listing: &Listing, names: &mut Names) -> String {
    let protocol = service.protocol.name().to_uppercase();
    let mut name = format!("{protocol:<4} {}", names.socket(service.address, service.port, service.protocol));
    if service.address.is_ipv4() {
        cut(&mut name, 33);
    }
    if listing.stats || listing.rate {
        return format!("{name:<33}{}\n", counts(service.counts, listing.exact));
    }
    let mut text = format!("{name} {}", service.scheduler);
    if !service.flags.is_empty() {
        let _ = write!(text, " ({})", service.flags.join(","));
    }
    if let Some(Persistence { timeout, prefix }) = service.persistence {
        let _ = write!(text, " persistent {timeout}");
        if let Some(mask) = mask(service.address, prefix) {
            let _ = write!(text, " mask {mask}");
        }
    }
    text + if service.ops { " ops\n" } else { "\n" }
}

fn server_line(server: &Server, protocol: Protocol, listing: &Listing, names: &mut Names) -> String {
    let mut name = names.socket(server.address, server.port, protocol);
    if server.address.is_ipv4() {
        cut(&mut name, 28);
    }
    let Server { method, weight, active, inactive, bound, upper, lower, .. } = server;
    let head = format!("  -> {name:<28}");
    if listing.stats {
        format!("{head}{}\n", counts(server.counts, listing.exact))
    } else if listing.rate {
        // As ipvsadm has it, the first three are exact.
        let Counts([connections, packets, answers, bytes, sent]) = server.counts;
        let bytes = large(bytes, listing.exact) + &large(sent, listing.exact);
        format!("{head} {connections:>8} {packets:>8} {answers:>8}{bytes}\n")
    } else if listing.thresholds {
        format!("{head} {upper:<10} {lower:<10} {active:<10} {inactive:<10}\n")
    } else if listing.persistent {
        format!("{head} {weight:<9} {bound:<11} {active:<10} {inactive:<10}\n")
    } else {
        let method = method.name();
        let tunnel = if listing.tunnels { format!("{:<13} ", tunnel(server)) } else { String::new() };
        format!("{head} {method:<7} {tunnel}{weight:<6} {active:<10} {inactive:<10}\n")
    }
}

fn tunnel(server: &Server) -> String {
    match &server.tunnel {
        None => "n/a".to_owned(),
        Some(Tunnel::Ipip) => "ipip".to_owned(),
        Some(Tunnel::Gue(port)) => format!("gue:{port}:-c"),
        Some(Tunnel::Gre) => "gre:-c".to_owned(),
    }
}

fn counts(Counts(counts): Counts, exact: bool) -> String {
    counts.into_iter().map(|count| large(count, exact)).collect()
}

/// In nine columns, unless it is to be exact.
fn large(number: u64, exact: bool) -> String {
    match number {
        _ if exact => format!(" {number:>8}"),
        0..100_000_000 => format!("{number:>9}"),
        100_000_000..1_000_000_000 => format!("{:>8}K", number / 1000),
        1_000_000_000..100_000_000_000 => format!("{:>8}M", number / 1_000_000),
        100_000_000_000..100_000_000_000_000 => format!("{:>8}G", number / 1_000_000_000),
        _ => format!("{:>8}T", number / 1_000_000_000_000),
    }
}

/// `None`: each client by itself.
fn mask(vip: IpAddr, prefix: u8) -> Option<String> {
    match vip {
        IpAddr::V4(_) if prefix >= 32 => None,
        IpAddr::V4(_) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Some(Ipv4Addr::from_bits(mask).to_string())
        }
        IpAddr::V6(_) => (prefix < 128).then(|| prefix.to_string()),
    }
}

/// `-S`: the commands that make the table.
pub(super) fn rules(table: &Table, names: &mut Names) -> String {
    let mut text = String::new();
    for service in &table.services {
        let letter = if service.protocol == Protocol::Udp { "-u" } else { "-t" };
        let name = format!("{letter} {}", names.socket(service.address, service.port, service.protocol));
        let _ = write!(text, "-A {name} -s {}", service.scheduler);
        if let Some(Persistence { timeout, prefix }) = service.persistence {
            let _ = write!(text, " -p {timeout}");
            if let Some(mask) = mask(service.address, prefix) {
                let _ = write!(text, " -M {mask}");
            }
        }
        text += if service.ops { " -o" } else { "" };
        if !service.flags.is_empty() {
            let _ = write!(text, " -b {}", service.flags.join(","));
        }
        text.push('\n');
        for server in &service.servers {
            let address = names.socket(server.address, server.port, service.protocol);
            let method = match server.method {
                Forwarding::Direct | Forwarding::Local => "-g",
                Forwarding::Tunnel => "-i",
                Forwarding::Masq => "-m",
            };
            let _ = write!(text, "-a {name} -r {address} {method} -w {}", server.weight);
            text += &match &server.tunnel {
                None => String::new(),
                Some(Tunnel::Ipip) => " --tun-type ipip".to_owned(),
                Some(Tunnel::Gue(port)) => format!(" --tun-type gue --tun-port {port} --tun-nocsum"),
                Some(Tunnel::Gre) => " --tun-type gre --tun-nocsum".to_owned(),
            };
            text.push('\n');
        }
    }
    text
}

pub(super) fn timeout(timeouts: &TimeoutsStatus) -> String {
    let TimeoutsStatus { established_s, fin_wait_s, udp_s, .. } = timeouts;
    format!("Timeout (tcp tcpfin udp): {established_s} {fin_wait_s} {udp_s}\n")
}

/// `-L -c`.
pub(super) fn connection_head(listing: &Listing) -> String {
    let columns = format!("pro expire {:<11} {:<18} {:<18}", "state", "source", "virtual");
    let last = match listing.persistent {
        true => format!("{:<18} {:<16} pe_data", "destination", "pe name"),
        false => "destination".to_owned(),
    };
    format!("IPVS connection entries\n{columns} {last}\n")
}

pub(super) fn connections(part: &[Connection], names: &mut Names) -> String {
    part.iter().map(|connection| connection_line(connection, names)).collect()
}

fn connection_line(connection: &Connection, names: &mut Names) -> String {
    let protocol = if connection.protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
    let state = match connection.state.as_str() {
        "CLOSED" => "CLOSE",
        "UDP_NEW" => "UDP",
        // IPVS knows no difference.
        "UNPROVEN" => "ESTABLISHED",
        "FIN_UNPROVEN" => "FIN_WAIT",
        "UDP_UNPROVEN" => "UDP",
        state => state,
    };
    let unknown =
        if connection.vip.is_ipv4() { IpAddr::from([0; 4]) } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let sockets = [
        (connection.client, connection.client_port),
        (connection.vip, connection.port),
        (connection.server_address.unwrap_or(unknown), connection.server_port.unwrap_or_default()),
    ];
    entry(protocol, connection.expires_in_s, state, sockets, names)
}

/// Clients that are bound to their server.
pub(super) fn templates(status: &Status, names: &mut Names) -> String {
    let mut text = String::new();
    for service in &status.services {
        let protocol = if service.protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
        for bound in service.persistence.iter().flat_map(|persistence| &persistence.clients) {
            let sockets = [(bound.client, 0), (service.vip, service.port), (bound.server, service.port)];
            text += &entry(protocol, bound.expires_in_s, "NONE", sockets, names);
        }
    }
    text
}

fn entry(
    protocol: Protocol,
    expires: u64,
    state: &str,
    sockets: [(IpAddr, u16); 3],
    names: &mut Names,
) -> String {
    let [client, vip, server] = sockets.map(|(address, port)| names.socket(address, port, protocol));
    let (name, time) = (protocol.name().to_uppercase(), format!("{:02}:{:02}", expires / 60, expires % 60));
    format!("{name:<3} {time:<6} {state:<11} {client:<18} {vip:<18} {server}\n")
}

#[cfg(test)]
mod tests;
