//! Which of the API's paths does what a command does, for a test: whatever the command line knows
//! and does can be had by HTTP, but for what is named here with the reason.

use std::collections::BTreeSet;

use clap::CommandFactory as _;

use super::Cli;

enum Way {
    /// Below `/api/v1`.
    Paths(&'static [&'static str]),
    No(&'static str),
}

use Way::{No, Paths};

const STARTS_AND_ENDS: &str = "a director that is not there answers nobody, and systemd starts and stops it";
const OF_THE_MACHINE: &str =
    "it looks at this machine, and changes it, with the rights of who calls it, not the director's";
const NO_DIRECTOR: &str = "it asks no director: files come in and text goes out";
const PACKETS: &str =
    "packets of others are for who has the control socket: by HTTP everybody could read along";

const COMMANDS: [(&str, Way); 39] = [
    ("add server", Paths(&["overlay/change"])),
    ("add service", Paths(&["overlay/change"])),
    ("alerts test", Paths(&["alerts/test"])),
    ("capture", No(PACKETS)),
    ("check", No(NO_DIRECTOR)),
    ("completions", No(NO_DIRECTOR)),
    ("config schema", No(NO_DIRECTOR)),
    ("connections", Paths(&["connections"])),
    ("diff", Paths(&["diff"])),
    ("doctor", No(OF_THE_MACHINE)),
    ("drain", Paths(&["servers/drain"])),
    ("enable", Paths(&["servers/enable"])),
    ("events", Paths(&["events"])),
    ("failback", Paths(&["cluster/failback"])),
    ("failover", Paths(&["cluster/failover"])),
    ("health", Paths(&["health"])),
    ("import", No(NO_DIRECTOR)),
    // Listings are made of the status; -A, -E, -D, -C, -R, -a, -e and -d are changes.
    ("ipvsadm", Paths(&["status", "connections", "overlay/change", "counters/zero"])),
    ("maintenance", Paths(&["cluster/maintenance"])),
    ("man", No(NO_DIRECTOR)),
    ("overlay clear", Paths(&["overlay/clear"])),
    ("overlay show", Paths(&["overlay"])),
    ("probe", Paths(&["servers/probe"])),
    ("realserver check", No(OF_THE_MACHINE)),
    ("realserver setup", No(OF_THE_MACHINE)),
    ("realserver undo", No(OF_THE_MACHINE)),
    ("reload", Paths(&["reload"])),
    ("remove server", Paths(&["overlay/change"])),
    ("remove service", Paths(&["overlay/change"])),
    ("resume", Paths(&["cluster/resume"])),
    ("run", No(STARTS_AND_ENDS)),
    (
        "save",
        No("it writes files with the rights of who calls it: the director itself may write none of them"),
    ),
    ("standby", Paths(&["cluster/standby"])),
    ("status", Paths(&["status", "services", "servers", "findings", "cluster"])),
    ("stop", No(STARTS_AND_ENDS)),
    (
        "top",
        Paths(&[
            "status",
            "history",
            "events",
            "connections",
            "servers/drain",
            "servers/enable",
            "servers/probe",
        ]),
    ),
    ("top-clients", Paths(&["clients"])),
    ("trace", No(PACKETS)),
    ("weight", Paths(&["servers/weight"])),
];

/// What no command does.
const OTHER_PATHS: [&str; 3] = ["healthz", "openapi.json", "sources"];

/// Commands that have none below them.
fn leaves(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
    for below in command.get_subcommands() {
        let path = format!("{path} {}", below.get_name()).trim_start().to_owned();
        match below.has_subcommands() {
            true => leaves(below, &path, found),
            false => drop(found.insert(path)),
        }
    }
}

#[test]
fn whatever_the_command_line_does_is_in_the_api_or_has_a_reason_not_to_be() {
    let mut found = BTreeSet::new();
    leaves(&Cli::command(), "", &mut found);
    let known: BTreeSet<String> = COMMANDS.iter().map(|(command, _)| (*command).to_owned()).collect();
    assert_eq!(found, known);
    assert_eq!(COMMANDS.len(), known.len(), "each stands there once");
    let reasons = COMMANDS.iter().filter_map(|(command, way)| match way {
        No(reason) => Some((command, reason)),
        Paths(_) => None,
    });
    for (command, reason) in reasons {
        assert!(reason.len() > 20, "{command}: {reason}");
    }
}

#[test]
fn every_path_of_the_api_is_there_for_a_command_or_for_programs() {
    let there: BTreeSet<String> = lb_web::paths().collect();
    let named = COMMANDS.iter().flat_map(|(_, way)| match way {
        Paths(paths) => *paths,
        No(_) => &[],
    });
    let named: BTreeSet<String> = named.chain(&OTHER_PATHS).map(|path| format!("/api/v1/{path}")).collect();
    assert_eq!(there, named);
}
