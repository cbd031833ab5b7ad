//! `lb trace`: what is decided for single packets, as they come.

use std::net::{IpAddr, SocketAddr};
use std::thread;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use lb_api::client::{Trace, Traced};
use lb_api::schema;
use lb_api::trace::{Bounds, End, Filter, Outcome, Packet, SECONDS, Way};
use nix::sys::signal::{SigSet, Signal};

use super::output::{Director, go_on, json_line};

/// Which packets.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Only packets of this client, or of clients of this prefix, such as 10.0.0.0/8
    #[arg(long, value_name = "ADDRESS[/LENGTH]")]
    client: Option<String>,
    /// Only packets to this service, by its name or VIP:PORT, or to any port of a VIP
    #[arg(long, value_name = "NAME|VIP[:PORT]")]
    service: Option<String>,
    /// Only packets to this real server, by its name or address
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Only packets of this protocol, tcp or udp
    #[arg(long)]
    protocol: Option<String>,
    /// Only packets that no server got
    #[arg(long)]
    refused: bool,
    /// Only packets refused for this reason, as `lb status` names it; may be given several times
    #[arg(long = "reason", value_name = "NAME")]
    reasons: Vec<String>,
}

impl Which {
    pub(super) fn filter(self) -> Filter {
        let Self { client, service, server, protocol, refused, reasons } = self;
        Filter { client, service, server, protocol, refused, reasons }
    }
}

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    which: Which,
    /// End after so many packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "N", default_value_t = SECONDS, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Show one of so many packets
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
    /// Print one JSON object a packet, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    director: Director,
}

pub(super) fn run(options: Options) -> Result<()> {
    let Options { which, count, seconds, sample, json, director } = options;
    let bounds = Bounds { count, seconds, sample, snaplen: None };
    let mut trace = Trace::begin(&director.socket, which.filter(), bounds)?;
    stop_when_interrupted(trace.stop()?)?;
    let mut first = true;
    loop {
        let traced = trace.hear()?;
        if std::mem::take(&mut first) {
            eprintln!("tracing for {seconds} s at most; Ctrl-C ends it");
        }
        match traced {
            Traced::Packets(packets) if packets.is_empty() => {}
            Traced::Packets(packets) => {
                if !print(&packets, json)? {
                    return Ok(());
                }
            }
            Traced::Frames(_) => bail!("frames were not asked for: does another version of lb run there?"),
            Traced::End(end) => return finish(&end),
        }
    }
}

/// Has the first Ctrl-C, or SIGTERM, end the trace in order; the second one ends the command.
pub(super) fn stop_when_interrupted(stop: impl FnOnce() + Send + 'static) -> Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block().context("cannot wait for signals")?;
    let wait = move || {
        let _ = signals.wait();
        stop();
        let _ = signals.thread_unblock();
        let _ = signals.wait();
    };
    thread::Builder::new().name("signals".into()).spawn(wait).context("cannot start a thread")?;
    Ok(())
}

/// `false`: nobody reads any more, as behind `| head`.
fn print(packets: &[Packet], json: bool) -> Result<bool> {
    let mut text = String::new();
    for packet in packets {
        text += &if json { json_line(schema::PACKET, packet)? } else { line(packet) + "\n" };
    }
    go_on(&text)
}

/// To standard error, where it is in no program's way.
fn finish(end: &End) -> Result<()> {
    eprintln!("{}", summary(end));
    match &end.error {
        Some(error) => bail!("{error}"),
        None => Ok(()),
    }
}

fn summary(End { told, matched, lost, .. }: &End) -> String {
    let lost = match lost {
        0 => String::new(),
        lost => {
            format!(", {lost} lost because there was no room for them: narrow the filter or use --sample")
        }
    };
    format!("{told} shown of {matched} packets{lost}")
}

/// What was decided for a packet, as a comment of its frames.
pub(super) fn comment(packet: &Packet) -> String {
    let service = packet.service.as_deref().map(|name| format!("{name}: ")).unwrap_or_default();
    format!("{service}{}", decided(packet))
}

/// Time and addresses in columns, then what was decided.
fn line(packet: &Packet) -> String {
    // From RFC 3339.
    let time = packet.time.get(11..26).unwrap_or(&packet.time);
    let protocol = packet.protocol.as_deref().unwrap_or("-").to_uppercase();
    let flags = packet.flags.as_deref().unwrap_or("");
    let client = address(packet.client, packet.client_port);
    let vip = address(packet.vip, packet.port);
    format!("{time} {protocol:<3} {flags:<2} {client:>21} > {vip:<21} {}", comment(packet))
}

fn address(address: Option<IpAddr>, port: Option<u16>) -> String {
    match (address, port) {
        (Some(address), Some(port)) => SocketAddr::new(address, port).to_string(),
        (Some(address), None) => address.to_string(),
        (None, _) => "?".to_owned(),
    }
}

/// `new, wrr -> www2, direct`.
fn decided(packet: &Packet) -> String {
    let scheduler = packet.scheduler.as_deref().unwrap_or("scheduled");
    let way = match packet.way {
        Some(Way::Known) => "known".to_owned(),
        Some(Way::New) => format!("new, {scheduler}"),
        Some(Way::StrayByHash) => "unknown, by hash".to_owned(),
        Some(Way::FullByHash) => "new, table full, by hash".to_owned(),
        Some(Way::Answer) => "answer".to_owned(),
        None => String::new(),
    };
    let arrow = if packet.way == Some(Way::Answer) { "<-" } else { "->" };
    let server = packet.server.as_ref().map(|server| format!("{way} {arrow} {server}"));
    let method = packet.forwarding.as_ref().map(|method| format!(", {method}")).unwrap_or_default();
    let became = match packet.outcome {
        Outcome::Forwarded => return format!("{}{method}", server.unwrap_or_default()),
        Outcome::Relayed => "relayed to the director that had the group before",
        Outcome::Redirected => "answer to a check of lb's own",
        Outcome::Delivered => "delivered to this host",
        Outcome::Passed if packet.reason.is_none() => "passed to this host, no service here",
        Outcome::Passed => "passed to this host",
        Outcome::Dropped => "dropped",
        Outcome::Held => "held",
        Outcome::Answered => "answered",
    };
    let server = server.map(|server| server + ", ").unwrap_or_default();
    let reason = match (&packet.reason, &packet.text) {
        (Some(reason), Some(text)) => format!(", {reason} ({text})"),
        (Some(reason), None) => format!(", {reason}"),
        (None, _) => String::new(),
    };
    format!("{server}{became}{reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn() -> Packet {
        Packet {
            time: "2026-11-29T12:00:01.123456Z".to_owned(),
            protocol: Some("tcp".to_owned()),
            flags: Some("S".to_owned()),
            client: "10.0.0.7".parse().ok(),
            client_port: Some(41_234),
            vip: "211.58.250.6".parse().ok(),
            port: Some(80),
            length: 60,
            service: Some("web".to_owned()),
            scheduler: Some("wrr".to_owned()),
            way: Some(Way::New),
            server: Some("www2".to_owned()),
            forwarding: Some("direct".to_owned()),
            outcome: Outcome::Forwarded,
            reason: None,
            text: None,
        }
    }

    #[test]
    fn a_line_reads_at_a_glance() {
        let head = "12:00:01.123456 TCP S         10.0.0.7:41234 > 211.58.250.6:80       web: ";
        let unserved = Packet { way: None, server: None, forwarding: None, ..syn() };
        let refused = Packet {
            outcome: Outcome::Dropped,
            reason: Some("no_server".to_owned()),
            text: Some("No real server is usable".to_owned()),
            ..unserved.clone()
        };
        let no_mac = Packet {
            outcome: Outcome::Dropped,
            reason: Some("no_mac".to_owned()),
            text: Some("Its server's MAC is not known".to_owned()),
            ..syn()
        };
        for (packet, expected) in [
            (syn(), "new, wrr -> www2, direct"),
            (Packet { way: Some(Way::Known), ..syn() }, "known -> www2, direct"),
            (Packet { way: Some(Way::StrayByHash), ..syn() }, "unknown, by hash -> www2, direct"),
            (Packet { way: Some(Way::FullByHash), ..syn() }, "new, table full, by hash -> www2, direct"),
            (
                Packet { outcome: Outcome::Relayed, ..unserved.clone() },
                "relayed to the director that had the group before",
            ),
            (refused, "dropped, no_server (No real server is usable)"),
            (no_mac, "new, wrr -> www2, dropped, no_mac (Its server's MAC is not known)"),
        ] {
            assert_eq!(line(&packet), format!("{head}{expected}"));
        }
    }

    #[test]
    fn what_the_headers_do_not_tell_is_left_open() {
        let nothing = Packet {
            time: syn().time,
            outcome: Outcome::Passed,
            reason: Some("truncated_ip".to_owned()),
            ..Packet::default()
        };
        let expected = "12:00:01.123456 -                          ? > ?                     passed to this host, truncated_ip";
        assert_eq!(line(&nothing), expected);
        let ipv6 = Packet { vip: "2001:db8::6".parse().ok(), ..syn() };
        assert!(line(&ipv6).contains(" > [2001:db8::6]:80 "), "{}", line(&ipv6));
    }

    #[test]
    fn the_summary_tells_what_was_lost() {
        let end = End { told: 5, matched: 120, lost: 0, error: None };
        assert_eq!(summary(&end), "5 shown of 120 packets");
        let lossy = summary(&End { lost: 3, ..end });
        assert!(lossy.starts_with("5 shown of 120 packets, 3 lost because"), "{lossy}");
    }

    #[test]
    fn json_keys_stay() {
        let json = serde_json::to_string(&syn()).expect("JSON");
        assert_eq!(
            json,
            r#"{"time":"2026-11-29T12:00:01.123456Z","protocol":"tcp","flags":"S","client":"10.0.0.7","client_port":41234,"vip":"211.58.250.6","port":80,"length":60,"service":"web","scheduler":"wrr","way":"new","server":"www2","forwarding":"direct","outcome":"forwarded"}"#
        );
    }
}
