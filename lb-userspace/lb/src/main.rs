//! The program `lb`.

mod cli;
mod controller;
mod firewall;
#[cfg(test)]
mod fuzz;
mod observe;
mod sorry;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb: {error:#}");
            ExitCode::FAILURE
        }
    }
}
