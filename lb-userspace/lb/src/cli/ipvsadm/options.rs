//! ipvsadm's command line, as popt reads it, and its words for mistakes.

use std::net::IpAddr;
use std::vec;

use lb_model::Protocol;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct What {
    pub command: Command,
    pub listing: Listing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    List,
    Save,
    Help,
    Version,
    AddServer,
    EditServer,
    DeleteServer,
    DeleteService,
    /// It would change the table in a way that there is not here; with what does so.
    Change(&'static str),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub numeric: bool,
    pub connections: bool,
    pub service: Option<Address>,
    pub timeout: bool,
    pub daemon: bool,
    pub stats: bool,
    pub rate: bool,
    pub thresholds: bool,
    pub persistent: bool,
    pub exact: bool,
    pub tunnels: bool,
    pub server: NewServer,
}

/// What is said of a server that is to come or to go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NewServer {
    /// With the port that was given.
    pub address: Option<(IpAddr, Option<u16>)>,
    pub weight: Option<u16>,
    pub method: Option<&'static str>,
    pub upper: Option<u32>,
    pub lower: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub protocol: Protocol,
    pub address: IpAddr,
    pub port: u16,
}

/// What stands on standard error, and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: u8,
    pub text: String,
}

/// ipvsadm's for options that do not go together.
fn refuse<T>(text: String) -> Result<T, Refusal> {
    Err(Refusal { code: 2, text })
}

/// popt's own mistakes: ipvsadm returns -1.
const POPT: u8 = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Command(Command, &'static str),
    /// By ipvsadm's name for it.
    Option(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Argument {
    No,
    Must,
    May,
}

type Known = (&'static str, Option<char>, Argument, Kind);

const fn option(long: &'static str, short: Option<char>, argument: Argument, name: &'static str) -> Known {
    (long, short, argument, Kind::Option(name))
}

const fn change(long: &'static str, short: Option<char>, instead: &'static str) -> Known {
    (long, short, Argument::No, Kind::Command(Command::Change(instead), long))
}

const SERVICES: &str = "a service comes with its servers, `lb add service VIP:PORT SERVER…`, or stands in the \
                        configuration file: `lb reload` takes what is new there";
const COUNTERS: &str = "counters only rise, because Prometheus goes by them; `lb status --watch` shows rates";
const TIMEOUTS: &str = "time-outs are those of the configuration file, key `timeouts`";
const SYNC: &str =
    "directors tell each other about connections by the configuration file's `cluster`, key `sync`";
const RESTORE: &str =
    "tables are those of the configuration file, and nothing is restored from standard input";

/// In ipvsadm's order, which its words for mistakes follow.
const KNOWN: [Known; 51] = [
    change("add-service", Some('A'), SERVICES),
    change("edit-service", Some('E'), SERVICES),
    ("delete-service", Some('D'), Argument::No, Kind::Command(Command::DeleteService, "delete-service")),
    change("clear", Some('C'), SERVICES),
    ("list", Some('L'), Argument::No, Kind::Command(Command::List, "list")),
    ("list", Some('l'), Argument::No, Kind::Command(Command::List, "list")),
    change("zero", Some('Z'), COUNTERS),
    ("add-server", Some('a'), Argument::No, Kind::Command(Command::AddServer, "add-server")),
    ("edit-server", Some('e'), Argument::No, Kind::Command(Command::EditServer, "edit-server")),
    ("delete-server", Some('d'), Argument::No, Kind::Command(Command::DeleteServer, "delete-server")),
    change("set", None, TIMEOUTS),
    ("help", Some('h'), Argument::No, Kind::Command(Command::Help, "help")),
    ("version", Some('v'), Argument::No, Kind::Command(Command::Version, "version")),
    change("restore", Some('R'), RESTORE),
    ("save", Some('S'), Argument::No, Kind::Command(Command::Save, "save")),
    ("start-daemon", None, Argument::Must, Kind::Command(Command::Change(SYNC), "start-daemon")),
    ("stop-daemon", None, Argument::Must, Kind::Command(Command::Change(SYNC), "stop-daemon")),
    option("numeric", Some('n'), Argument::No, "numeric"),
    option("connection", Some('c'), Argument::No, "connection"),
    option("tcp-service", Some('t'), Argument::Must, "service-address"),
    option("udp-service", Some('u'), Argument::Must, "service-address"),
    option("sctp-service", None, Argument::Must, "service-address"),
    option("fwmark-service", Some('f'), Argument::Must, "service-address"),
    option("scheduler", Some('s'), Argument::Must, "scheduler"),
    option("persistent", Some('p'), Argument::May, "persistent"),
    option("netmask", Some('M'), Argument::Must, "netmask"),
    option("real-server", Some('r'), Argument::Must, "real-server"),
    option("masquerading", Some('m'), Argument::No, "forwarding-method"),
    option("ipip", Some('i'), Argument::No, "forwarding-method"),
    option("gatewaying", Some('g'), Argument::No, "forwarding-method"),
    option("weight", Some('w'), Argument::Must, "weight"),
    option("u-threshold", Some('x'), Argument::Must, "u-threshold"),
    option("l-threshold", Some('y'), Argument::Must, "l-threshold"),
    option("mcast-interface", None, Argument::Must, "mcast-interface"),
    option("timeout", None, Argument::No, "timeout"),
    option("daemon", None, Argument::No, "daemon"),
    option("stats", None, Argument::No, "stats"),
    option("rate", None, Argument::No, "rate"),
    option("thresholds", None, Argument::No, "thresholds"),
    option("persistent-conn", None, Argument::No, "persistent-conn"),
    option("nosort", None, Argument::No, "nosort"),
    option("sort", None, Argument::No, "sort"),
    option("syncid", None, Argument::Must, "syncid"),
    option("exact", Some('X'), Argument::No, "exact"),
    option("ipv6", Some('6'), Argument::No, "ipv6"),
    option("ops", Some('o'), Argument::No, "ops"),
    option("pe", None, Argument::Must, "pe"),
    option("sched-flags", Some('b'), Argument::Must, "sched-flags"),
    option("tun-info", None, Argument::No, "tun-info"),
    option("tun-type", None, Argument::Must, "tun-type"),
    option("tun-port", None, Argument::Must, "tun-port"),
];

/// Those that a listing may have.
const OF_LISTINGS: [&str; 14] = [
    "numeric",
    "connection",
    "service-address",
    "timeout",
    "daemon",
    "stats",
    "rate",
    "thresholds",
    "persistent-conn",
    "nosort",
    "sort",
    "syncid",
    "exact",
    "tun-info",
];

/// Those that a new server may have; the first two it must.
const OF_SERVERS: [&str; 7] = [
    "service-address",
    "real-server",
    "forwarding-method",
    "weight",
    "u-threshold",
    "l-threshold",
    "tun-type",
];

/// Of which a listing has one.
const EXCLUSIVE: [&str; 4] = ["connection", "service-address", "timeout", "daemon"];

/// One option as it stands on the command line.
struct Given {
    kind: Kind,
    long: &'static str,
    argument: Option<String>,
}

pub(super) fn parse(program: &str, words: Vec<String>) -> Result<What, Refusal> {
    if words.is_empty() {
        return Ok(What { command: Command::List, listing: Listing::default() });
    }
    let text = format!("Try `{program} -h' or '{program} --help' for more information.");
    let try_help = Refusal { code: POPT, text };
    let mut words = words.into_iter();
    let (command, mut given) = match given(&mut words) {
        // A mistake in the first one is told like this, whatever it is.
        Ok((given, _)) if !matches!(given.first(), Some(Given { kind: Kind::Command(..), .. })) => {
            return Err(try_help);
        }
        Err(_) if !words.as_slice().is_empty() => return Err(try_help),
        Err(refusal) => return Err(refusal),
        Ok((mut given, rest)) => {
            let Kind::Command(command, name) = given.remove(0).kind else { return Err(try_help) };
            if let Command::Change(_) | Command::Help | Command::Version = command {
                return Ok(What { command, listing: Listing::default() });
            }
            if let Some(word) = rest.first() {
                return refuse(format!("unexpected argument {word}"));
            }
            ((command, name), given)
        }
    };
    let listing = listing(command, &mut given)?;
    Ok(What { command: command.0, listing })
}

/// All options, and the words that belong to none.
fn given(words: &mut vec::IntoIter<String>) -> Result<(Vec<Given>, Vec<String>), Refusal> {
    let (mut given, mut rest) = (Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        if word == "--" {
            rest.extend(words.by_ref());
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, argument) =
                long.split_once('=').map_or((long, None), |(name, argument)| (name, Some(argument)));
            let found = KNOWN.iter().find(|(long, ..)| *long == name);
            given.push(take(found, &word, argument.map(str::to_owned), words)?);
        } else if word.starts_with('-') && word.len() > 1 {
            cluster(&word, words, &mut given)?;
        } else {
            rest.push(word);
        }
    }
    Ok((given, rest))
}

/// Short options behind one dash.
fn cluster(word: &str, words: &mut vec::IntoIter<String>, given: &mut Vec<Given>) -> Result<(), Refusal> {
    for (at, letter) in word[1..].char_indices() {
        let found = KNOWN.iter().find(|(_, short, ..)| *short == Some(letter));
        let behind = &word[1 + at + letter.len_utf8()..];
        let takes = found.is_some_and(|(_, _, argument, _)| *argument != Argument::No);
        if takes && !behind.is_empty() {
            let argument = behind.strip_prefix('=').unwrap_or(behind).to_owned();
            given.push(take(found, word, Some(argument), words)?);
            return Ok(());
        }
        given.push(take(found, word, None, words)?);
    }
    Ok(())
}

/// The option with its argument, which may be the next word.
fn take(
    found: Option<&Known>,
    word: &str,
    argument: Option<String>,
    words: &mut vec::IntoIter<String>,
) -> Result<Given, Refusal> {
    let popt = |mistake: &str| Err(Refusal { code: POPT, text: format!("{word}: {mistake}") });
    let Some((long, _, takes, kind)) = found else { return popt("unknown option") };
    let argument = match (takes, argument) {
        (Argument::No, Some(_)) => return popt("option does not take an argument"),
        (Argument::No, None) => None,
        (Argument::Must, None) => match words.next() {
            Some(next) => Some(next),
            None => return popt("missing argument"),
        },
        (Argument::May, None) => {
            words.as_slice().first().filter(|next| !next.starts_with('-')).cloned().inspect(|_| {
                words.next();
            })
        }
        (_, argument) => argument,
    };
    Ok(Given { kind: *kind, long, argument })
}

fn listing((command, name): (Command, &str), given: &mut Vec<Given>) -> Result<Listing, Refusal> {
    let mut listing = Listing::default();
    let mut names: Vec<&'static str> = Vec::new();
    for Given { kind, long, argument } in given.drain(..) {
        let option = match kind {
            Kind::Option(option) => option,
            Kind::Command(..) => {
                let short = KNOWN.iter().find(|(known, ..)| *known == long).and_then(|(_, short, ..)| *short);
                return refuse(format!("invalid option `-{}'", short.unwrap_or('?')));
            }
        };
        if option == "ipv6" {
            return refuse("-6 used before -f\n".to_owned());
        }
        if names.contains(&option) && option != "sort" {
            return refuse(format!("multiple '{option}' options specified"));
        }
        set(&mut listing, option, long, argument.as_deref().unwrap_or_default())?;
        names.push(option);
    }
    check(command, name, &names)?;
    let has = |option| names.contains(&option);
    Ok(Listing {
        numeric: has("numeric"),
        connections: has("connection"),
        service: listing.service,
        timeout: has("timeout"),
        daemon: has("daemon"),
        stats: has("stats"),
        rate: has("rate"),
        thresholds: has("thresholds"),
        persistent: has("persistent-conn"),
        exact: has("exact"),
        tunnels: has("tun-info"),
        server: listing.server,
    })
}

/// Notes the option's argument.
fn set(listing: &mut Listing, option: &str, long: &str, argument: &str) -> Result<(), Refusal> {
    let illegal = |what: &str| Refusal { code: 2, text: format!("illegal {what} specified") };
    let server = &mut listing.server;
    match option {
        "service-address" => listing.service = Some(service(long, argument)?),
        "real-server" => {
            let found = socket(argument, libc::SOCK_STREAM);
            server.address = Some(found.ok_or_else(|| illegal("real server address[:port]"))?);
        }
        "weight" => server.weight = Some(argument.parse().map_err(|_| illegal("weight"))?),
        "u-threshold" => server.upper = Some(argument.parse().map_err(|_| illegal("u_threshold"))?),
        "l-threshold" => server.lower = Some(argument.parse().map_err(|_| illegal("l_threshold"))?),
        "forwarding-method" => {
            server.method = Some(match long {
                "masquerading" => "masq",
                "ipip" => "ipip",
                _ => "direct",
            });
        }
        // Of -i alone.
        "tun-type" => {
            let kinds = ["ipip", "gue", "gre"];
            let kind = kinds.into_iter().find(|kind| *kind == argument);
            server.method = Some(kind.ok_or_else(|| illegal("tunnel type"))?);
        }
        _ => {}
    }
    Ok(())
}

/// Whether these go together.
fn check(command: Command, name: &str, given: &[&str]) -> Result<(), Refusal> {
    let (legal, needed): (&[&str], &[&str]) = match command {
        Command::Save => (&["numeric", "sort"], &[]),
        Command::AddServer | Command::EditServer => (&OF_SERVERS, &OF_SERVERS[..2]),
        Command::DeleteServer => (&OF_SERVERS[..2], &OF_SERVERS[..2]),
        Command::DeleteService => (&OF_SERVERS[..1], &OF_SERVERS[..1]),
        _ => (&OF_LISTINGS, &[]),
    };
    if let Some(option) = needed.iter().find(|option| !given.contains(option)) {
        return refuse(format!("You need to supply the '{option}' option for the '{name}' command"));
    }
    // In ipvsadm's order of options.
    let order = KNOWN.iter().filter_map(|(_, _, _, kind)| match kind {
        Kind::Option(option) if given.contains(option) => Some(*option),
        _ => None,
    });
    let mut ordered: Vec<&str> = order.collect();
    ordered.dedup();
    let mut exclusive = None;
    for option in ordered {
        if !legal.contains(&option) {
            return refuse(format!("Illegal '{option}' option with the '{name}' command"));
        }
        if EXCLUSIVE.contains(&option)
            && let Some(last) = exclusive.replace(option)
        {
            return refuse(format!(
                "The option '{option}' conflicts with the '{last}' option in the '{name}' command"
            ));
        }
    }
    let any = |options: &[&str]| options.iter().any(|option| given.contains(option));
    if any(&["connection", "timeout", "daemon"]) && any(&["stats", "rate", "thresholds"])
        || any(&["timeout", "daemon"]) && any(&["persistent-conn"])
    {
        return refuse("options conflicts in the list command".to_owned());
    }
    Ok(())
}

/// `host[:port]`. There are no services of firewall marks and of SCTP.
fn service(option: &str, text: &str) -> Result<Address, Refusal> {
    let (protocol, kind) = match option {
        "tcp-service" => (Protocol::Tcp, libc::SOCK_STREAM),
        "udp-service" => (Protocol::Udp, libc::SOCK_DGRAM),
        _ => return refuse(format!("lb balances TCP and UDP to VIPs, and has no {option}")),
    };
    let Some((address, port)) = socket(text, kind) else {
        return refuse("illegal virtual server address[:port] specified".to_owned());
    };
    Ok(Address { protocol, address, port: port.unwrap_or_default() })
}

/// Names are looked up.
fn socket(text: &str, kind: i32) -> Option<(IpAddr, Option<u16>)> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once("]:").map(|(host, port)| (host, Some(port)))?,
        None if text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) => (text, None),
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let hints = dns_lookup::AddrInfoHints { socktype: kind, ..dns_lookup::AddrInfoHints::default() };
    let mut found =
        dns_lookup::getaddrinfo(Some(host), Some(port.unwrap_or("0")), Some(hints)).ok()?.flatten();
    let socket = found.next()?.sockaddr;
    Some((socket.ip(), port.map(|_| socket.port())))
}

#[cfg(test)]
mod tests;
