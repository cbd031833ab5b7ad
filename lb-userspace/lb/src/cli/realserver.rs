//! `lb realserver`: makes this machine a real server, checks it, and undoes it.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use lb_common::forward::tunnel::GUE_PORT;

use super::output::Usage;
use crate::realserver::{self, State, Tunnel, Unit, Wanted};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take the VIPs to the loopback interface, silent in ARP, and open the ends of tunnels; also
    /// after the next boot
    Setup(SetupOptions),
    /// Show what a real server needs, and what of it is not so
    Check(Machine),
    /// Take back what setup has done
    Undo(Recorded),
}

#[derive(Debug, Args)]
struct SetupOptions {
    #[command(flatten)]
    machine: Machine,
    /// Only until the next boot: write no systemd unit
    #[arg(long)]
    no_unit: bool,
}

#[derive(Debug, Args)]
struct Machine {
    /// A VIP of the services that this machine is a real server of; may be given several times.
    /// Without one: those that setup was given before
    #[arg(long, value_name = "ADDRESS")]
    vip: Vec<IpAddr>,
    /// How packets come, if not directly: `forward` of the director's configuration; may be given
    /// several times
    #[arg(long, value_enum)]
    tunnel: Vec<Tunnel>,
    /// UDP port of GUE, `gue_port` of the director's configuration
    #[arg(long, value_name = "PORT", default_value_t = GUE_PORT)]
    gue_port: u16,
    #[command(flatten)]
    recorded: Recorded,
}

#[derive(Debug, Args)]
struct Recorded {
    /// The file that remembers what setup has done
    #[arg(long, value_name = "FILE", default_value = "/var/lib/lb/realserver.json")]
    record: PathBuf,
}

impl Machine {
    fn wanted(&self) -> Result<Wanted> {
        let Self { vip, tunnel, gue_port, recorded } = self;
        if !vip.is_empty() {
            return Ok(Wanted { vips: vip.clone(), tunnels: tunnel.clone(), gue_port: *gue_port });
        }
        realserver::recorded(&recorded.record)?.ok_or_else(|| {
            Usage("which VIPs? Give each by --vip: setup has not run here before".to_owned()).into()
        })
    }
}

pub(super) fn run(options: &Options) -> Result<()> {
    match &options.command {
        Command::Setup(options) => setup(options),
        Command::Check(machine) => check(machine),
        Command::Undo(recorded) => undo(recorded),
    }
}

fn say(text: &str) {
    // Nobody reads: the work goes on.
    let _ = writeln!(io::stdout(), "{text}");
}

fn setup(SetupOptions { machine, no_unit }: &SetupOptions) -> Result<()> {
    let wanted = machine.wanted()?;
    realserver::setup(&wanted, &machine.recorded.record, say)?;
    let unit = match (no_unit, Unit::is_possible()) {
        (true, _) => "",
        (false, true) => {
            let program = std::env::current_exe().context("where is this program?")?;
            Unit::install(&program, &machine.recorded.record)?;
            " It will be so after the next boot, too: lb-realserver.service."
        }
        (false, false) => " Run this again after a boot: systemd does not run this machine.",
    };
    say(&format!("This machine is a real server for {}.{unit}", listed(&wanted.vips)));
    Ok(())
}

fn check(machine: &Machine) -> Result<()> {
    let wanted = machine.wanted()?;
    let mut wrong = 0;
    for condition in wanted.conditions() {
        match condition.state()? {
            State::Met(text) => say(&format!("ok     {text}")),
            State::Unmet(text) => {
                wrong += 1;
                say(&format!("wrong  {text}\n       {}", condition.mend()));
            }
        }
    }
    if wrong > 0 {
        bail!("{wrong} of what a real server needs is not so; `lb realserver setup` mends it");
    }
    Ok(())
}

fn undo(Recorded { record }: &Recorded) -> Result<()> {
    if Unit::is_there() {
        Unit::remove()?;
    }
    if !realserver::undo(record, say)? {
        say("Nothing to undo: setup has not run here.");
    }
    Ok(())
}

fn listed(vips: &[IpAddr]) -> String {
    vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
