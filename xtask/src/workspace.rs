//! The workspace's path, and commands of its cargo.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
pub(crate) use lb_lab::workspace::root;
use lb_lab::workspace::target;

/// The cargo that runs this program, as a user would start it: what cargo tells this program of
/// its own package is taken away. Build scripts of dependencies look at it, and would run again
/// each time `cargo xtask` and `cargo` take turns, with all that depends on them.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        let own = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(own) {
            command.env_remove(name);
        }
    }
    command
}

/// [`cargo`] with a compiler that looks at our own packages as clippy does, with warnings denied,
/// and compiles them in the same go. `cargo clippy` before a build has all dependencies looked at
/// first, and compiled afterwards.
pub(crate) fn strict_cargo() -> Result<Command> {
    let mut command = cargo();
    command.env("RUSTC_WORKSPACE_WRAPPER", clippy_driver()?).env("CLIPPY_ARGS", CLIPPY_ARGS);
    Ok(command)
}

/// `-D warnings`, as `cargo clippy` hands it on.
pub(crate) const CLIPPY_ARGS: &str = "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__";

/// The compiler that `cargo clippy` has.
pub(crate) fn clippy_driver() -> Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).current_dir(root()).output();
    let output = output.context("cannot start rustc")?;
    ensure!(output.status.success(), "rustc does not say where it is ({})", output.status);
    let driver = Path::new(String::from_utf8(output.stdout)?.trim()).join("bin/clippy-driver");
    ensure!(driver.exists(), "{} is missing: `rustup component add clippy` installs it", driver.display());
    Ok(driver)
}

/// Runs a command whose output the user sees; `what` names it in the error.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{what}: cannot start {command:?}"))?;
    ensure!(status.success(), "{what} failed ({status})");
    Ok(())
}

/// Removes a folder with all that is in it, if there is one.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("cannot remove {}", folder.display())),
    }
}

/// Builds `lb` in release mode, including the XDP program, and returns its path.
pub(crate) fn build_lb() -> Result<PathBuf> {
    build_release("lb")
}

/// Builds the package whose program has the same name in release mode, and returns the program's
/// path.
pub(crate) fn build_release(package: &str) -> Result<PathBuf> {
    let what = format!("building {package}");
    run(&what, cargo().args(["build", "--release", "--package", package]))?;
    Ok(target().join("release").join(package))
}

/// The packages that are built and tested for the host, in cargo's words. Whoever selects others
/// gets other features of dependencies, and builds all of these anew.
pub(crate) const SELECTION: &str = "--workspace --exclude lb-ebpf*";

/// Builds `lb` as tests are built: with checks for overflow and assertions of its own, and with
/// little optimisation. Returns its path.
pub(crate) fn build_lb_for_debugging() -> Result<PathBuf> {
    build_selection("building lb for debugging", &["--bin", "lb"])
}

/// Builds `lb` as above, and with it whatever else there is, as tests, benchmarks and examples are:
/// alone it would have other features of dependencies, and the tests would build these once more.
pub(crate) fn build_all() -> Result<PathBuf> {
    build_selection("building lb and the tests", &["--all-targets"])
}

fn build_selection(what: &str, targets: &[&str]) -> Result<PathBuf> {
    run(what, strict_cargo()?.arg("build").args(SELECTION.split_whitespace()).args(targets))?;
    Ok(target().join("debug/lb"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clippy_warns_of_ends_the_build() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("lib.rs");
        let compiles = |text: &str| {
            fs::write(&source, text).expect("a file");
            let mut command = Command::new(clippy_driver().expect("clippy"));
            command.arg("rustc").arg(&source).args(["--crate-type", "lib", "--emit", "metadata"]);
            let output = command.env("CLIPPY_ARGS", CLIPPY_ARGS).current_dir(folder.path()).output();
            output.expect("a compiler").status.success()
        };
        assert!(compiles("pub fn same(number: u8) -> u8 { number }"));
        assert!(!compiles("pub fn same(number: u8) -> u8 { return number; }"));
    }
}
