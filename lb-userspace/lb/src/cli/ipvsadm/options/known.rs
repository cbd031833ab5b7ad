//! What there is of options, in ipvsadm's names and order.

use super::Command;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Command(Command, &'static str),
    /// By ipvsadm's name for it.
    Option(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    No,
    Must,
    May,
}

pub(super) type Known = (&'static str, Option<char>, Argument, Kind);

const fn option(long: &'static str, short: Option<char>, argument: Argument, name: &'static str) -> Known {
    (long, short, argument, Kind::Option(name))
}

const fn command(long: &'static str, short: char, command: Command) -> Known {
    (long, Some(short), Argument::No, Kind::Command(command, long))
}

const fn refused(long: &'static str, argument: Argument, instead: &'static str) -> Known {
    (long, None, argument, Kind::Command(Command::Refused(instead), long))
}

const TIMEOUTS: &str = "time-outs are those of the configuration file, key `timeouts`";
const SYNC: &str =
    "directors tell each other about connections by the configuration file's `cluster`, key `sync`";

/// In ipvsadm's order, which its words for mistakes follow.
pub(super) const KNOWN: [Known; 55] = [
    command("add-service", 'A', Command::AddService),
    command("edit-service", 'E', Command::EditService),
    command("delete-service", 'D', Command::DeleteService),
    // Mistakes have another name for it.
    ("clear", Some('C'), Argument::No, Kind::Command(Command::Clear, "flush")),
    command("list", 'L', Command::List),
    command("list", 'l', Command::List),
    command("zero", 'Z', Command::Zero),
    command("add-server", 'a', Command::AddServer),
    command("edit-server", 'e', Command::EditServer),
    command("delete-server", 'd', Command::DeleteServer),
    refused("set", Argument::No, TIMEOUTS),
    command("help", 'h', Command::Help),
    command("version", 'v', Command::Version),
    command("restore", 'R', Command::Restore),
    command("save", 'S', Command::Save),
    refused("start-daemon", Argument::Must, SYNC),
    refused("stop-daemon", Argument::Must, SYNC),
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
    option("ops", Some('O'), Argument::No, "ops"),
    option("pe", None, Argument::Must, "pe"),
    option("sched-flags", Some('b'), Argument::Must, "sched-flags"),
    option("tun-info", None, Argument::No, "tun-info"),
    option("tun-type", None, Argument::Must, "tun-type"),
    option("tun-port", None, Argument::Must, "tun-port"),
    option("tun-nocsum", None, Argument::No, "tun-nocsum"),
    option("tun-csum", None, Argument::No, "tun-csum"),
    option("tun-remcsum", None, Argument::No, "tun-remcsum"),
];

/// Those that a listing may have.
pub(super) const OF_LISTINGS: [&str; 14] = [
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

/// Those that a service may have; the first one it must.
pub(super) const OF_SERVICES: [&str; 7] =
    ["service-address", "scheduler", "persistent", "netmask", "ops", "pe", "sched-flags"];

/// Those that a new server may have; the first two it must.
pub(super) const OF_SERVERS: [&str; 11] = [
    "service-address",
    "real-server",
    "forwarding-method",
    "weight",
    "u-threshold",
    "l-threshold",
    "tun-type",
    "tun-port",
    "tun-nocsum",
    "tun-csum",
    "tun-remcsum",
];

/// Those of them that a tunnel may have, by its type.
pub(super) const OF_TUNNELS: [&str; 5] = ["tun-type", "tun-port", "tun-nocsum", "tun-csum", "tun-remcsum"];

/// Of which a listing has one.
pub(super) const EXCLUSIVE: [&str; 4] = ["connection", "service-address", "timeout", "daemon"];
