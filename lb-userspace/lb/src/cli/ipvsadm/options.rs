//! ipvsadm's command line, as popt reads it, and its words for mistakes.
//!
//! - `known`: what there is of options; `values`: their values

mod known;
mod values;

use std::net::IpAddr;
use std::vec;

use lb_model::{Protocol, Scheduler};

use self::known::{
    Argument, EXCLUSIVE, KNOWN, Kind, Known, OF_LISTINGS, OF_SERVERS, OF_SERVICES, OF_TUNNELS,
};

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
    AddService,
    EditService,
    DeleteService,
    Clear,
    Zero,
    Restore,
    /// There is no such thing here; with what does so.
    Refused(&'static str),
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
    pub settings: Settings,
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
    pub gue_port: Option<u16>,
}

/// What is said of a service that is to come or to change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub scheduler: Option<String>,
    /// For how many seconds clients stay bound.
    pub persistence: Option<u64>,
    /// Of the mask.
    pub prefix: Option<u8>,
    pub ops: bool,
    pub hash_port: bool,
    pub hash_fallback: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
            if let Command::Refused(_) | Command::Help | Command::Version = command {
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

/// What is read of options, and is checked behind the last one.
#[derive(Default)]
struct Read {
    listing: Listing,
    tunnel: Option<&'static str>,
    flags: Option<String>,
    names: Vec<&'static str>,
}

fn listing((command, name): (Command, &str), given: &mut Vec<Given>) -> Result<Listing, Refusal> {
    let mut read = Read::default();
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
        if read.names.contains(&option) && option != "sort" {
            return refuse(format!("multiple '{option}' options specified"));
        }
        read.set(option, long, argument.as_deref().unwrap_or_default())?;
        read.names.push(option);
    }
    let Read { mut listing, tunnel, flags, names } = read;
    if let Some(flags) = flags {
        let scheduler = listing.settings.scheduler.as_deref().unwrap_or(Scheduler::Wlc.name());
        [listing.settings.hash_port, listing.settings.hash_fallback] = values::hashing(scheduler, &flags)?;
    }
    check(command, name, &names)?;
    match command {
        Command::AddServer | Command::EditServer => check_server(&mut listing, tunnel, &names)?,
        Command::AddService | Command::EditService => check_service(&listing, &names)?,
        _ => {}
    }
    let has = |option| names.contains(&option);
    Ok(Listing {
        numeric: has("numeric"),
        connections: has("connection"),
        timeout: has("timeout"),
        daemon: has("daemon"),
        stats: has("stats"),
        rate: has("rate"),
        thresholds: has("thresholds"),
        persistent: has("persistent-conn"),
        exact: has("exact"),
        tunnels: has("tun-info"),
        ..listing
    })
}

impl Read {
    /// Notes the option's argument.
    fn set(&mut self, option: &str, long: &str, argument: &str) -> Result<(), Refusal> {
        let illegal = |what: &str| Refusal { code: 2, text: format!("illegal {what} specified") };
        let Listing { service, server, settings, .. } = &mut self.listing;
        match option {
            "service-address" => *service = Some(values::service(long, argument)?),
            "scheduler" => settings.scheduler = Some(argument.to_owned()),
            "persistent" => settings.persistence = Some(values::timeout(argument)?),
            "netmask" => settings.prefix = Some(values::prefix(argument, service.as_ref())?),
            "ops" => settings.ops = true,
            "sched-flags" => self.flags = Some(argument.to_owned()),
            "real-server" => {
                let found = values::socket(argument, libc::SOCK_STREAM);
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
            "tun-type" => {
                let kind = ["ipip", "gue", "gre"].into_iter().find(|kind| *kind == argument);
                self.tunnel = Some(kind.ok_or_else(|| illegal("tunnel type"))?);
            }
            "tun-port" => {
                let port = argument.parse().ok().filter(|port| *port > 0);
                server.gue_port = Some(port.ok_or_else(|| illegal("tunnel port"))?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether these go together.
fn check(command: Command, name: &str, given: &[&str]) -> Result<(), Refusal> {
    let (legal, needed): (&[&str], &[&str]) = match command {
        Command::Save => (&["numeric", "sort"], &[]),
        Command::Clear | Command::Restore => (&[], &[]),
        Command::Zero => (&OF_SERVICES[..1], &[]),
        Command::AddService | Command::EditService => (&OF_SERVICES, &OF_SERVICES[..1]),
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

/// Tunnels go with -i, and each kind has options of its own; the method is the tunnel's kind then.
fn check_server(listing: &mut Listing, tunnel: Option<&'static str>, given: &[&str]) -> Result<(), Refusal> {
    let Listing { service, server, .. } = listing;
    let is_tunnel = server.method == Some("ipip");
    let other_family = service.as_ref().is_some_and(|service| {
        server.address.is_some_and(|(address, _)| address.is_ipv4() != service.address.is_ipv4())
    });
    if other_family && !is_tunnel {
        return refuse("Different address family is allowed only for tunneling servers".to_owned());
    }
    if !is_tunnel && OF_TUNNELS.iter().any(|option| given.contains(option)) {
        return refuse("Tunnel options conflict with forward method".to_owned());
    }
    let kind = tunnel.unwrap_or("ipip");
    let legal: &[&str] = match kind {
        "gue" => &OF_TUNNELS[1..],
        "gre" => &OF_TUNNELS[2..4],
        _ => &[],
    };
    let mut sum = None;
    for option in &OF_TUNNELS[1..] {
        if !given.contains(option) {
            if (kind, *option) == ("gue", "tun-port") {
                let text = "You need to supply the 'tun-port' option for the 'gue' tunnel type";
                return refuse(text.to_owned());
            }
            continue;
        }
        if !legal.contains(option) {
            return refuse(format!("Illegal '{option}' option with the '{kind}' tunnel type"));
        }
        if *option != "tun-port"
            && let Some(last) = sum.replace(*option)
        {
            return refuse(format!(
                "The option '{option}' conflicts with the '{last}' option in the '{kind}' tunnel type"
            ));
        }
    }
    if let Some(option) = sum.filter(|sum| *sum != "tun-nocsum") {
        return refuse(format!("tunnels of lb have no checksum: leave out --{option}, or say --tun-nocsum"));
    }
    if is_tunnel {
        server.method = Some(kind);
    }
    Ok(())
}

fn check_service(listing: &Listing, given: &[&str]) -> Result<(), Refusal> {
    if given.contains(&"pe") {
        let text = "lb does not read the call IDs of SIP, and has no --pe: -p binds clients by address";
        return refuse(text.to_owned());
    }
    let is_tcp = listing.service.as_ref().is_some_and(|service| service.protocol == Protocol::Tcp);
    if listing.settings.ops && is_tcp {
        return refuse("One-Packet Scheduling is only for UDP virtual services".to_owned());
    }
    Ok(())
}

/// Of a new service. `lb` has services of all ports that bind nobody, and -S prints them; who
/// forgets the port does not mean one.
pub(super) fn check_port(listing: &Listing) -> Result<(), Refusal> {
    let all_ports = listing.service.as_ref().is_some_and(|service| service.port == 0);
    if all_ports && listing.settings.persistence.is_none() {
        return refuse("Zero port specified for non-persistent service".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
