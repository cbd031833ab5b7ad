//! What the command line says of itself, for man(1) and for shells.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// What is written in place of a run.
#[derive(Debug, Args)]
pub(crate) struct Documents {
    /// Print a script that completes options for a shell, and end
    #[arg(long, value_enum, value_name = "SHELL")]
    completions: Option<Shell>,
    /// Write the manual page, lb-kube.8, into this folder, and end
    #[arg(long, value_name = "FOLDER")]
    man: Option<PathBuf>,
}

impl Documents {
    /// Writes what is wanted; whether anything was.
    pub(crate) fn write(&self, mut command: Command) -> Result<bool> {
        let Self { completions, man } = self;
        if let Some(shell) = completions {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command, "lb-kube", &mut script);
            io::stdout().write_all(&script).context("writing the script")?;
        }
        if let Some(folder) = man {
            fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
            let path = folder.join("lb-kube.8");
            fs::write(&path, page(command)?).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(completions.is_some() || man.is_some())
    }
}

/// Section 8 of the manual, as lb(8): it is for administrators.
fn page(command: Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).section("8").manual("lb").render(&mut page).context("writing the page")?;
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, text) in
        [("0", "It was told to end."), ("1", "It has failed."), ("2", "The command line makes no sense.")]
    {
        roff.control("TP", []);
        roff.text([roman(code)]);
        roff.text([roman(text)]);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("lb(8), lb.yaml(5)")]);
    roff.to_writer(&mut page).context("writing the page")?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::Options;

    #[test]
    fn the_page_names_options_and_the_director() {
        let folder = tempfile::tempdir().expect("a folder");
        let wanted = Documents { completions: None, man: Some(folder.path().to_owned()) };
        assert!(wanted.write(Options::command()).expect("a page"));
        let page = fs::read_to_string(folder.path().join("lb-kube.8")).expect("a page");
        for wanted in ["\\-\\-kubeconfig", "LB_SOCKET", "lb.yaml(5)"] {
            assert!(page.contains(wanted), "{wanted} is missing:\n{page}");
        }
    }

    #[test]
    fn nothing_is_written_unless_it_is_wanted() {
        let nothing = Documents { completions: None, man: None };
        assert!(!nothing.write(Options::command()).expect("nothing"));
    }
}
