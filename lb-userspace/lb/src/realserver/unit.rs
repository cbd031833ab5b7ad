//! The systemd unit that makes the machine a real server again at each boot.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

const NAME: &str = "lb-realserver.service";
const FOLDER: &str = "/etc/systemd/system";
/// It is there where systemd runs the machine.
const RUNNING: &str = "/run/systemd/system";

pub(crate) struct Unit;

impl Unit {
    pub(crate) fn is_possible() -> bool {
        Path::new(RUNNING).is_dir()
    }

    pub(crate) fn is_there() -> bool {
        Path::new(FOLDER).join(NAME).exists()
    }

    /// Writes and enables it. `program` is this executable, `record` the file of what was done.
    pub(crate) fn install(program: &Path, record: &Path) -> Result<()> {
        let file = Path::new(FOLDER).join(NAME);
        fs::write(&file, Self::text(program, record))
            .with_context(|| format!("cannot write {}", file.display()))?;
        systemctl(&["daemon-reload"])?;
        systemctl(&["enable", NAME])
    }

    pub(crate) fn remove() -> Result<()> {
        let file = Path::new(FOLDER).join(NAME);
        if Self::is_possible() {
            systemctl(&["disable", NAME])?;
        }
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        if Self::is_possible() { systemctl(&["daemon-reload"]) } else { Ok(()) }
    }

    fn text(program: &Path, record: &Path) -> String {
        format!(
            "\
# Written by `lb realserver setup`; `lb realserver undo` removes it.
[Unit]
Description=VIPs and tunnels of a real server behind lb
Documentation=man:lb(8)
Wants=network-pre.target
Before=network-online.target
After=network-pre.target systemd-sysctl.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={} realserver setup --no-unit --record {}

[Install]
WantedBy=multi-user.target
",
            program.display(),
            record.display()
        )
    }
}

fn systemctl(arguments: &[&str]) -> Result<()> {
    let output = Command::new("systemctl").args(arguments).output().context("cannot start systemctl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "systemctl {}: {}", arguments.join(" "), said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_does_again_what_is_recorded() {
        let text = Unit::text(Path::new("/usr/bin/lb"), Path::new("/var/lib/lb/realserver.json"));
        let start = "ExecStart=/usr/bin/lb realserver setup --no-unit --record /var/lib/lb/realserver.json\n";
        assert!(text.contains(start), "{text}");
    }
}
