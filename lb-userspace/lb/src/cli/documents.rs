//! `lb completions` and `lb man`: what the command line says of itself, for shells and for man(1).

mod configuration;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::output::print;

#[derive(Debug, Args)]
pub(super) struct CompletionOptions {
    /// The shell, such as bash: `lb completions bash >/etc/bash_completion.d/lb`
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManOptions {
    /// Write lb.8, a page for each command, such as lb-status.8, and lb.yaml.5 into this folder;
    /// without it lb.8 goes to standard output
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn completions(
    CompletionOptions { shell }: &CompletionOptions,
    mut command: Command,
) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut command, "lb", &mut script);
    print(&String::from_utf8(script).context("the script is not UTF-8")?)
}

pub(super) fn man(ManOptions { out }: &ManOptions, command: Command) -> Result<()> {
    let Some(folder) = out else { return print(&page(&command)?) };
    fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    write("lb.yaml.5", configuration::page()?)?;
    write("lb.8", page(&command)?)?;
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("lb-{}", subcommand.get_name());
        let subcommand = subcommand.clone().name(name.clone()).display_name(name.clone());
        write(&format!("{name}.8"), page(&subcommand.bin_name(name.replacen('-', " ", 1)))?)?;
    }
    Ok(())
}

/// Sections 8 of the manual: it is for administrators.
fn page(command: &Command) -> Result<String> {
    let man = Man::new(command.clone().disable_help_subcommand(true)).section("8").manual("lb");
    let mut page = Vec::new();
    man.render(&mut page).context("writing the page")?;
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, text) in codes(command.get_name()) {
        roff.control("TP", []);
        roff.text([roman(*code)]);
        roff.text([roman(*text)]);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("lb(8), lb.yaml(5), ipvsadm(8)")]);
    roff.to_writer(&mut page).context("writing the page")?;
    String::from_utf8(page).context("the page is not UTF-8")
}

/// Exit codes and what they mean.
fn codes(command: &str) -> &'static [(&'static str, &'static str)] {
    match command {
        "lb-health" => &[
            ("0", "OK"),
            ("1", "WARNING"),
            ("2", "CRITICAL: also if no director runs"),
            ("3", "UNKNOWN: also if the command line makes no sense, or the control socket cannot be used"),
        ],
        "lb-ipvsadm" => &[
            ("0", "It is done."),
            ("1", "It has failed, or what only lb refuses was refused."),
            ("2", "The options do not go together, or lb does not do that."),
            ("3", "No director listens on the control socket."),
            ("4", "No permission to use the control socket."),
            ("255", "There is no such option, or the kernel's IPVS would refuse it."),
        ],
        _ => &[
            ("0", "It is done."),
            ("1", "It has failed, or was refused: a configuration has a mistake, a server does not exist."),
            ("2", "The command line makes no sense."),
            ("3", "No director listens on the control socket."),
            ("4", "No permission, to use the control socket or to read a file."),
        ],
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::Cli;
    use super::*;

    #[test]
    fn pages_name_commands_options_and_exit_codes() {
        let command = Cli::command();
        let page = page(&command).expect("a page");
        for wanted in ["lb\\-status", "connections", "EXIT STATUS", "No director listens"] {
            assert!(page.contains(wanted), "{wanted} is missing:\n{page}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        man(&ManOptions { out: Some(folder.path().to_owned()) }, command.clone()).expect("pages");
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect(name);
        assert!(read("lb-connections.8").contains("\\-\\-client"));
        assert!(read("lb-health.8").contains("CRITICAL: also if"));
        assert!(read("lb-ipvsadm.8").contains("IPVS would refuse it"));
        let pages = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(pages, command.get_subcommands().filter(|one| !one.is_hide_set()).count() + 2);
    }

    #[test]
    fn every_shell_gets_a_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let (mut script, mut command) = (Vec::new(), Cli::command());
            clap_complete::generate(shell, &mut command, "lb", &mut script);
            let script = String::from_utf8(script).expect("UTF-8");
            assert!(script.contains("connections") && script.contains("status"), "{shell}");
        }
    }
}
