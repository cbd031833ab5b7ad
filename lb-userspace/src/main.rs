//! The program `lb`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match lb_userspace::cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb: {error:#}");
            ExitCode::FAILURE
        }
    }
}
