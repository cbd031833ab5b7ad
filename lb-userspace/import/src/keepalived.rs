//! keepalived.conf, of one node or of several: virtual servers with their checkers, VRRP instances
//! and sync groups, global definitions.

mod checker;
mod lex;
mod mail;
mod nodes;
mod statement;
mod virtual_server;
mod vrrp;

use lex::Lexer;
use statement::Statement;

use crate::ledger::Ledger;
use crate::parts::Parts;
use crate::report::At;
use crate::tree::Map;
use crate::{Find, hosts};

/// Files of the parser whose keywords may stand at the top.
const TOP: [&str; 5] = ["global", "vrrp", "check", "track_file", "bfd"];

pub(crate) fn read(files: &[usize], ledger: &mut Ledger, parts: &mut Parts<'_>, find: &mut Find<'_>) {
    let named = files.iter().filter(|file| ledger.node(**file).is_some()).count();
    // Files of nodes stand beside each other; others are parts of one configuration.
    let (own, others) = match named {
        0 => (files, &[][..]),
        _ => files.split_at(files.len().min(1)),
    };
    let statements = parse(own, ledger, parts, find);
    let others: Vec<(usize, Vec<Statement>)> =
        others.iter().map(|file| (*file, parse(&[*file], ledger, parts, find))).collect();
    let mut vrrp = vrrp::Vrrp::default();
    for statement in &statements {
        top(statement, &statements, &mut vrrp, ledger, parts);
    }
    mail::read(&statements, ledger, parts);
    let first = own.first().copied().unwrap_or_default();
    nodes::finish(first, &vrrp, &others, ledger, parts);
}

fn parse(files: &[usize], ledger: &mut Ledger, parts: &Parts<'_>, find: &mut Find<'_>) -> Vec<Statement> {
    let mut lexer = Lexer::new(ledger, find, parts.known.config_id.clone());
    files.iter().for_each(|file| lexer.file(*file));
    let tokens = lexer.tokens;
    statement::parse(tokens, ledger)
}

fn top(
    statement: &Statement,
    all: &[Statement],
    vrrp: &mut vrrp::Vrrp,
    ledger: &mut Ledger,
    parts: &mut Parts<'_>,
) {
    match statement.name() {
        "global_defs" => {
            ledger.frame(statement.at());
            statement.inner().iter().for_each(|inner| global(inner, ledger, parts));
        }
        "virtual_server" => virtual_server::read(statement, all, ledger, parts),
        "virtual_server_group" => {
            let used = |server: &&Statement| {
                server.name() == "virtual_server"
                    && server.argument() == "group"
                    && server.words.get(2) == statement.words.get(1)
            };
            if !all.iter().any(|server| used(&server)) {
                let lines = statement.lines();
                lines.into_iter().for_each(|at| ledger.needless(at, "no `virtual_server` uses this group"));
            }
        }
        "vrrp_instance" => vrrp.instance(statement, ledger, parts),
        "vrrp_sync_group" => vrrp.sync_group(statement, ledger),
        "track_file" | "vrrp_track_file" if is_checked(statement, all) => {
            statement.from.iter().for_each(|at| ledger.kept(*at, "`path` of the checks that name it"));
            for inner in statement.inner() {
                match inner.name() {
                    "file" => ledger.kept(inner.at(), "`path` of the checks that name it"),
                    _ => inner.tell(&["track_file"], ledger),
                }
            }
        }
        // Global definitions may stand outside their block.
        "lvs_timeouts" | "default_interface" | "vrrp_garp_master_refresh" => global(statement, ledger, parts),
        _ => statement.tell(&TOP, ledger),
    }
}

/// Whether a FILE_CHECK names this file.
fn is_checked(statement: &Statement, all: &[Statement]) -> bool {
    let names = |check: &Statement| {
        check.name() == "FILE_CHECK"
            && check.last("track_file").is_some_and(|name| name.argument() == statement.argument())
    };
    let servers = all.iter().flat_map(|server| server.all("real_server"));
    servers.flat_map(Statement::inner).any(names)
}

fn global(statement: &Statement, ledger: &mut Ledger, parts: &mut Parts<'_>) {
    let at = statement.at();
    match statement.name() {
        "lvs_timeouts" => {
            let mut timeouts = Map::default();
            for pair in statement.arguments().chunks(2) {
                let [name, seconds] = pair else { break };
                match name.as_str() {
                    "tcp" => timeouts.set("established", format!("{seconds}s"), &[at]),
                    "tcpfin" => timeouts.set("fin_wait", format!("{seconds}s"), &[at]),
                    "udp" => timeouts.set("udp", format!("{seconds}s"), &[at]),
                    other => ledger.lost(at, format!("{other:?} is no time-out of IPVS")),
                }
            }
            parts.top.set("timeouts", timeouts, &[at]);
            ledger.kept(at, "`timeouts`");
        }
        "default_interface" => {
            parts.interface(statement.argument(), at);
            ledger.kept(at, "`interface`");
        }
        "router_id" => ledger.needless(at, "nodes are called as `nodes` of the cluster names them"),
        "vrrp_garp_master_refresh" => ledger.lost(at, "set `refresh` of each group"),
        "lvs_sync_daemon" => {
            ledger.needless(at, "directors tell each other about connections anyway (`sync`)");
        }
        name if mail::is_global(name) => {}
        _ => statement.tell(&["global"], ledger),
    }
}

/// A time in seconds with a fraction, as milliseconds.
fn milliseconds(text: &str) -> Option<u64> {
    let seconds: f64 = text.parse().ok().filter(|seconds| (0.0..1e9).contains(seconds))?;
    // At most 1e12: exact.
    Some((seconds * 1000.0).round() as u64)
}

/// As the YAML has times.
fn time(milliseconds: u64) -> String {
    match milliseconds % 1000 {
        0 => format!("{}s", milliseconds / 1000),
        _ => format!("{milliseconds}ms"),
    }
}

/// An address by itself, or by a name of the hosts file.
fn address(text: &str, parts: &Parts<'_>) -> Option<std::net::IpAddr> {
    parts.hosts.address(text)
}

fn port(text: &str) -> Option<u16> {
    hosts::port(text)
}

/// A program and its arguments, as scripts of keepalived are given: words, or one quoted line.
fn command(words: &[String]) -> Vec<String> {
    match words {
        [line] => line.split_whitespace().map(str::to_owned).collect(),
        words => words.to_vec(),
    }
}

/// A hook that runs a script of keepalived.
fn hook(words: &[String], at: At) -> Map {
    let mut hook = Map::default();
    hook.set("command", crate::tree::Value::Words(command(words)), &[at]);
    hook
}
