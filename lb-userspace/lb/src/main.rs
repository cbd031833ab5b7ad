//! The program `lb`.

mod cli;
mod confinement;
mod controller;
mod device;
mod doctor;
mod firewall;
#[cfg(test)]
mod fuzz;
mod observe;
mod realserver;
mod sorry;

use std::process::ExitCode;

use lb_api::client::NoDirector;

/// Exit code of a command that no director hears: LSB's "program is not running".
const NO_DIRECTOR: u8 = 3;

fn main() -> ExitCode {
    match cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb: {error:#}");
            match error.downcast_ref::<NoDirector>() {
                Some(_) => ExitCode::from(NO_DIRECTOR),
                None => ExitCode::FAILURE,
            }
        }
    }
}
