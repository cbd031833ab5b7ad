//! `lb health`: the director as a check of Nagios, Icinga and their like (Monitoring Plugins
//! Development Guidelines): one line, performance data, and their exit codes in place of `lb`'s.

use std::process::ExitCode;

use clap::Args;
use lb_api::client::{self, NoDirector};
use lb_api::health::{Found, State, Wanted, assess};

use super::output::{Director, print};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only these services: names, VIPs, or VIP:PORT
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// WARNING if less than this share of a service's servers is up, in percent
    #[arg(short, long, value_name = "PERCENT", default_value_t = 100, value_parser = percent())]
    warning: u64,
    /// CRITICAL if less than this share of a service's servers is up, in percent
    #[arg(short, long, value_name = "PERCENT", default_value_t = 0, value_parser = percent())]
    critical: u64,
    #[command(flatten)]
    director: Director,
}

fn percent() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=100)
}

/// Whatever goes wrong is told in the plugin's way, so this never is an error.
pub(super) fn run(options: &Options) -> ExitCode {
    let found = match client::request_status(&options.director.socket) {
        Ok(status) => {
            let Options { services, warning, critical, director: _ } = options;
            assess(&status, &Wanted { services: services.clone(), warning: *warning, critical: *critical })
        }
        Err(error) if error.is::<NoDirector>() => Found::new(State::Critical, &format!("{error:#}")),
        Err(error) => Found::new(State::Unknown, &format!("{error:#}")),
    };
    ExitCode::from(end(&found))
}

/// The command line makes no sense: that is UNKNOWN here. Returns the exit code.
pub(super) fn misused(error: &clap::Error) -> i32 {
    i32::from(end(&Found::new(State::Unknown, &error.to_string())))
}

fn end(found: &Found) -> u8 {
    // Nobody is there to be told that it cannot be printed.
    let _ = print(&(found.line() + "\n"));
    found.state as u8
}
