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
    /// It would change the table; with what does so here.
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

const SERVICES: &str = "services are those of the configuration file; change it, and `lb diff` and `lb reload` show and take what is new";
const SERVERS: &str = "servers are those of the configuration file; change it and `lb reload` takes what is new, or keep a \
                       server out for a while by `lb disable SERVER` and `lb enable SERVER`";
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
    change("delete-service", Some('D'), SERVICES),
    change("clear", Some('C'), SERVICES),
    ("list", Some('L'), Argument::No, Kind::Command(Command::List, "list")),
    ("list", Some('l'), Argument::No, Kind::Command(Command::List, "list")),
    change("zero", Some('Z'), COUNTERS),
    change("add-server", Some('a'), SERVERS),
    change("edit-server", Some('e'), SERVERS),
    change("delete-server", Some('d'), SERVERS),
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
        if option == "service-address" {
            listing.service = service(long, argument.as_deref().unwrap_or_default())?;
        }
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
    })
}

/// Whether these go together.
fn check(command: Command, name: &str, given: &[&str]) -> Result<(), Refusal> {
    let legal = |option: &str| match command {
        Command::Save => option == "numeric" || option == "sort",
        _ => OF_LISTINGS.contains(&option),
    };
    // In ipvsadm's order of options.
    let order = KNOWN.iter().filter_map(|(_, _, _, kind)| match kind {
        Kind::Option(option) if given.contains(option) => Some(*option),
        _ => None,
    });
    let mut ordered: Vec<&str> = order.collect();
    ordered.dedup();
    let mut exclusive = None;
    for option in ordered {
        if !legal(option) {
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

/// `host[:port]`. There are no services of firewall marks and of SCTP, so nothing is found by them.
fn service(option: &str, text: &str) -> Result<Option<Address>, Refusal> {
    let protocol = match option {
        "tcp-service" => Protocol::Tcp,
        "udp-service" => Protocol::Udp,
        _ => return refuse(format!("lb balances TCP and UDP to VIPs, and has no {option}")),
    };
    let wrong = || Refusal { code: 2, text: "illegal virtual server address[:port] specified".to_owned() };
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => match bracketed.split_once("]:") {
            Some((host, port)) => (host, Some(port)),
            None => return Err(wrong()),
        },
        None if text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) => (text, None),
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let kind = if protocol == Protocol::Tcp { libc::SOCK_STREAM } else { libc::SOCK_DGRAM };
    let hints = dns_lookup::AddrInfoHints { socktype: kind, ..dns_lookup::AddrInfoHints::default() };
    let found = dns_lookup::getaddrinfo(Some(host), Some(port.unwrap_or("0")), Some(hints));
    let mut found = found.map_err(|_| wrong())?.flatten();
    let socket = found.next().ok_or_else(wrong)?.sockaddr;
    Ok(Some(Address { protocol, address: socket.ip(), port: socket.port() }))
}

/// What works, in ipvsadm's letters.
pub(super) fn help(program: &str) -> String {
    format!(
        "Usage:
  {program} -L|l [-t|-u service-address] [options]
  {program} -S [-n]
  {program} -h | -v

Options of -L:
  --numeric         -n   addresses and ports as numbers
  --connection      -c   the connections that the director knows
  --stats                connections, packets and bytes
  --rate                 the same of one second, which it takes
  --exact           -X   all digits
  --timeout              time-outs (tcp tcpfin udp)
  --thresholds           limits of connections
  --persistent-conn      clients that are bound to servers
  --tun-info             tunnels
  --sort, --nosort       accepted: services and servers are always in order

Whatever changes the table is refused: services and servers are those of lb's configuration file, see lb(8).
The environment variable LB_SOCKET names another control socket.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<What, Refusal> {
        parse("ipvsadm", line.split_whitespace().map(str::to_owned).collect())
    }

    fn listed(line: &str) -> Listing {
        let what = parsed(line).unwrap_or_else(|refusal| panic!("{line}: {refusal:?}"));
        assert_eq!(what.command, Command::List, "{line}");
        what.listing
    }

    #[test]
    fn options_are_read_as_popt_reads_them() {
        let numeric = Listing { numeric: true, ..Listing::default() };
        for line in ["-Ln", "-L -n", "-l --numeric", "--list --numeric --sort", "-L -n --nosort"] {
            assert_eq!(listed(line), numeric, "{line}");
        }
        assert_eq!(listed(""), Listing::default());
        assert_eq!(
            listed("-Lnc --persistent-conn"),
            Listing { connections: true, persistent: true, ..numeric }
        );
        let address = Address { protocol: Protocol::Tcp, address: [192, 0, 2, 10].into(), port: 80 };
        let of_one = Listing { numeric: true, service: Some(address), ..Listing::default() };
        for line in [
            "-L -n -t 192.0.2.10:80",
            "-L -n -t192.0.2.10:80",
            "-Lnt 192.0.2.10:80",
            "-l -n -t=192.0.2.10:80",
            "-L -n --tcp-service=192.0.2.10:80",
            "-L -n --tcp-service 192.0.2.10:80",
            "-L -n -t 192.0.2.10:http",
        ] {
            assert_eq!(listed(line), of_one, "{line}");
        }
        let six = listed("-L -u [2001:db8::53]:53").service.expect("a service");
        assert_eq!((six.address.to_string().as_str(), six.port), ("2001:db8::53", 53));
    }

    /// What ipvsadm 1.31 says.
    #[test]
    fn mistakes_are_told_in_its_words() {
        let try_help = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.";
        for (line, code, text) in [
            ("-Lx", 255, "-Lx: missing argument"),
            ("-L -t", 255, "-t: missing argument"),
            ("-t 1.2.3.4:80", 255, try_help),
            ("-L -c --stats", 2, "options conflicts in the list command"),
            ("-L -w 3", 2, "Illegal 'weight' option with the 'list' command"),
            (
                "-L -c -t 1.2.3.4:5",
                2,
                "The option 'service-address' conflicts with the 'connection' option in the 'list' command",
            ),
            ("-L foo", 2, "unexpected argument foo"),
            ("-L -Q", 255, "-Q: unknown option"),
            ("-L --nope", 255, "--nope: unknown option"),
            ("-S -t 1.2.3.4:3", 2, "Illegal 'service-address' option with the 'save' command"),
            ("-L --numeric=3", 255, "--numeric=3: option does not take an argument"),
            ("-L -n -n", 2, "multiple 'numeric' options specified"),
            ("-L -A", 2, "invalid option `-A'"),
            ("-L --timeout --stats", 2, "options conflicts in the list command"),
            (
                "-L --timeout --daemon",
                2,
                "The option 'daemon' conflicts with the 'timeout' option in the 'list' command",
            ),
            ("-L -p", 2, "Illegal 'persistent' option with the 'list' command"),
            ("-L -6", 2, "-6 used before -f\n"),
            ("-L -t 80", 2, "illegal virtual server address[:port] specified"),
        ] {
            assert_eq!(parsed(line), Err(Refusal { code, text: text.to_owned() }), "{line}");
        }
    }

    #[test]
    fn what_would_change_the_table_names_what_does() {
        for line in
            ["-A -t 1.2.3.4:80 -s wlc", "-a -t 1.2.3.4:80 -r 5.6.7.8 -g -w 1", "-C", "-Z", "--set 1 2 3"]
        {
            let what = parsed(line).unwrap_or_else(|refusal| panic!("{line}: {refusal:?}"));
            assert!(matches!(what.command, Command::Change(instead) if !instead.is_empty()), "{line}");
        }
        assert_eq!(parsed("-h").map(|what| what.command), Ok(Command::Help));
        assert_eq!(parsed("-v").map(|what| what.command), Ok(Command::Version));
    }
}
