//! `lb ipvsadm`, and `lb` under the name `ipvsadm`: what ipvsadm(8) prints of a table, byte for
//! byte, for scripts, monitoring plugins and people who know it.
//!
//! - `options`, `help`: the command line, with ipvsadm's words for mistakes
//! - `table`: the status as a table of IPVS; `listing`: that as text; `names`: addresses and ports
//!   as names
//! - `change`: services and servers that come, change and go; `restore`: many of them at once

mod change;
mod help;
mod listing;
mod names;
mod options;
mod restore;
mod table;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use lb_api::client;
use lb_api::connections::Filter;
use lb_api::rates::Rates;

use self::names::Names;
use self::options::{Command, Listing, Refusal, What};
use self::table::Table;
use super::connections::walk;
use super::output::{Director, go_on, print};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    director: Director,
    /// As for ipvsadm(8): -L with -n, -c, -t, -u, --stats, --rate, --timeout, --thresholds,
    /// --persistent-conn, --tun-info, --exact, --nosort; -S with -n; -R; -A and -E with -t or -u,
    /// -s, -p, -M, -o, -b; -D; -C; -Z; -a, -e and -d with -r and a server's options. `lb ipvsadm
    /// -h` says what they do here
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// ipvsadm's numbers for a command line that makes no sense.
const MISUSED: u8 = 2;

/// From one snapshot to the next, for --rate. IPVS has averages of some seconds.
const RATE: Duration = Duration::from_secs(1);

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let Options { director, words } = options;
    ipvsadm("lb ipvsadm", &director, words)
}

/// Under the name `ipvsadm`, if it is called so.
pub(super) fn by_name() -> Option<Result<ExitCode>> {
    let mut words = std::env::args_os();
    let name = words.next()?;
    (Path::new(&name).file_name()? == "ipvsadm").then(|| {
        let director = Director::of_environment();
        ipvsadm("ipvsadm", &director, words.collect())
    })
}

fn ipvsadm(name: &str, director: &Director, words: Vec<OsString>) -> Result<ExitCode> {
    let words = words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let what = match options::parse(name, words) {
        Ok(what) => what,
        Err(Refusal { code, text }) => {
            eprintln!("{text}");
            return Ok(ExitCode::from(code));
        }
    };
    let What { command, listing } = what;
    match command {
        Command::Help => print(&help::help(name))?,
        Command::Version => print(&format!("ipvsadm v1.31 2019/12/24 (lb {})\n", env!("CARGO_PKG_VERSION")))?,
        Command::Refused(instead) => {
            eprintln!("{name} does not do that: {instead}");
            return Ok(ExitCode::from(MISUSED));
        }
        Command::AddService
        | Command::EditService
        | Command::DeleteService
        | Command::AddServer
        | Command::EditServer
        | Command::DeleteServer => return change::run(director, command, &listing),
        Command::Clear => return change::clear(name, director),
        Command::Zero => return change::zero(director, &listing),
        Command::Restore => return restore::run(name, director),
        Command::List if listing.connections => connections(director, &listing)?,
        Command::List | Command::Save => return table(director, &listing, matches!(command, Command::Save)),
    }
    Ok(ExitCode::SUCCESS)
}

fn table(director: &Director, listing: &Listing, save: bool) -> Result<ExitCode> {
    let mut status = client::request_status(&director.socket)?;
    if listing.timeout || listing.daemon {
        // What directors tell each other of connections is no daemon of IPVS.
        print(&if listing.timeout { listing::timeout(&status.timeouts) } else { String::new() })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rates = None;
    if listing.rate && !listing.stats {
        let (before, begun) = (status, Instant::now());
        sleep(RATE);
        status = client::request_status(&director.socket)?;
        rates = Rates::between(&before, &status, begun.elapsed());
    }
    let mut table = Table::of(&status, rates.as_ref(), save);
    if let Some(service) = &listing.service {
        table.services.retain(|one| one.is(service));
        if table.services.is_empty() {
            eprintln!("No such service");
            return Ok(ExitCode::FAILURE);
        }
    }
    let mut names = Names::new(listing.numeric);
    print(&match save {
        true => listing::rules(&table, &mut names),
        false => listing::list(&table, listing, &mut names),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Bindings first, as templates of IPVS.
fn connections(director: &Director, listing: &Listing) -> Result<()> {
    let status = client::request_status(&director.socket)?;
    let mut names = Names::new(listing.numeric);
    let head = listing::connection_head(listing);
    if !go_on(&(head + &listing::templates(&status, &mut names)))? {
        return Ok(());
    }
    let filter = Filter::default();
    walk(director, &filter, 0, None, |part| go_on(&listing::connections(part, &mut names))).map(drop)
}
