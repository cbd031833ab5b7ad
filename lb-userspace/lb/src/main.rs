//! The program `lb`.

mod cli;
mod confinement;
mod controller;
mod device;
mod doctor;
mod firewall;
#[cfg(test)]
mod fuzz;
mod journal;
mod observe;
mod realserver;
mod sorry;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main().unwrap_or_else(|error| {
        eprintln!("lb: {error:#}");
        ExitCode::from(cli::Failure::of(&error) as u8)
    })
}
