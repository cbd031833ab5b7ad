//! The Ansible role in Debian roots of their own, by Ansible's chroot connection: a director and a
//! real server of the talk's cluster. Nothing there is started: the roots have no systemd.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use lb_lab::workspace::root;
use serde_json::json;

use super::product::LB;
use super::try_out::{PATH, Root};
use super::{folder, output, read};
use crate::workspace;

/// Debian's package `ansible` has the connection, and needs the command of Debian's `ansible-core`.
const PLAYBOOK: &str = "/usr/bin/ansible-playbook";

/// What Ansible needs on a machine with Debian, and what the role installs for lb: the roots have
/// no network to fetch it by.
const BESIDE: [&str; 6] = ["apt", "python3", "python3-apt", "ca-certificates", "iproute2", "kmod"];

const CONFIGURATION: &str = "etc/lb/lb.yaml";

pub(super) fn run(package: &Path, next: &Path) -> Result<()> {
    let machines = Machines::make(package)?;
    machines.play(&["--syntax-check"])?;

    machines.play(&["--check"])?;
    ensure!(!machines.director.path().join(LB.program()).exists(), "check mode has installed the package");
    let first = changes(&machines.play(&[])?)?;
    ensure!(first.iter().all(|(_, changed)| *changed > 0), "the first run has changed nothing: {first:?}");
    machines.are_as_wanted()?;
    let further: [&[&str]; 2] = [&[], &["--check"]];
    for words in further {
        let again = changes(&machines.play(words)?)?;
        ensure!(again.iter().all(|(_, changed)| *changed == 0), "a further run changes things: {again:?}");
    }

    let before = read(&machines.director.path().join(CONFIGURATION))?;
    let mistake = json!({ "lb_config": "interface: eth0\nservices: nonsense\n" }).to_string();
    let (succeeded, said) = machines.try_play(&["--limit", "ha1", "--extra-vars", &mistake])?;
    ensure!(!succeeded && said.contains("failed to validate"), "a mistake was not refused:\n{said}");
    let after = read(&machines.director.path().join(CONFIGURATION))?;
    ensure!(before == after, "a configuration with a mistake was put in place");

    let upgrade = json!({ "lb_package_file": fs::canonicalize(next)? }).to_string();
    let upgraded = changes(&machines.play(&["--extra-vars", &upgrade])?)?;
    ensure!(upgraded.iter().all(|(_, changed)| *changed > 0), "the upgrade has changed nothing");
    let version = next.file_name().and_then(|name| name.to_str()?.split('_').nth(1)).context("a version")?;
    machines.director.says(&["dpkg-query", "--show", LB.name], version)?;
    workspace::remove(&machines.workshop)
}

/// The two roots, in namespaces of their own while the plays run.
struct Machines {
    /// First: its mounts are in the roots.
    namespaces: Namespaces,
    director: Root,
    server: Root,
    /// What Ansible reads and writes on this machine.
    workshop: PathBuf,
}

impl Machines {
    fn make(package: &Path) -> Result<Self> {
        let workshop = folder().join("ansible");
        workspace::remove(&workshop)?;
        fs::create_dir_all(&workshop)?;
        let director = Root::make("root-ha1", &BESIDE)?;
        let server = director.copy("root-www1")?;
        let inventory = json!({ "all": {
            "vars": {
                "ansible_connection": "community.general.chroot",
                "ansible_python_interpreter": "/usr/bin/python3",
                "lb_package_file": fs::canonicalize(package)?,
                // Whatever runs this machine does not run the roots.
                "lb_systemd": false,
                "vault_lb_keys": "1 00112233445566778899aabbccddeeff",
            },
            "hosts": {
                "ha1": { "ansible_host": director.path() },
                "www1": { "ansible_host": server.path() },
            },
        } });
        fs::write(workshop.join("roots.json"), inventory.to_string())?;
        // In place of the user's.
        fs::write(workshop.join("ansible.cfg"), "[defaults]\n")?;
        let namespaces = Namespaces::make(&[director.path(), server.path()])?;
        Ok(Self { namespaces, director, server, workshop })
    }

    /// Plays site.yml on both. Returns what Ansible said.
    fn play(&self, words: &[&str]) -> Result<String> {
        let (succeeded, said) = self.try_play(words)?;
        ensure!(succeeded, "ansible-playbook {} failed:\n{said}", words.join(" "));
        Ok(said)
    }

    /// Returns whether it succeeded, too.
    fn try_play(&self, words: &[&str]) -> Result<(bool, String)> {
        let examples = root().join("deploy/ansible");
        let mut command = self.namespaces.command(PLAYBOOK);
        command.arg("--inventory").arg(examples.join("talk.yml"));
        command.arg("--inventory").arg(self.workshop.join("roots.json"));
        command.args(["--limit", "ha1,www1"]).args(words).arg(examples.join("site.yml"));
        command.env("ANSIBLE_CONFIG", self.workshop.join("ansible.cfg"));
        command.env("ANSIBLE_HOME", self.workshop.join("home")).env("ANSIBLE_NOCOLOR", "1");
        // Ansible wants UTF-8.
        command.env("LC_ALL", "C.UTF-8");
        let done = command.output().with_context(|| format!("cannot start {command:?}"))?;
        let said = String::from_utf8_lossy(&[&done.stdout[..], &done.stderr].concat()).into_owned();
        Ok((done.status.success(), said))
    }

    fn are_as_wanted(&self) -> Result<()> {
        let program = LB.command();
        self.director.says(&[&program, "check", &format!("/{CONFIGURATION}")], "ok, 1 service")?;
        let keys = fs::metadata(self.director.path().join("etc/lb/keys"))?;
        ensure!(keys.permissions().mode() & 0o777 == 0o600, "others may read the keys");
        let drop_in = "etc/systemd/system/lb.service.d/cluster.conf";
        ensure!(
            read(&self.director.path().join(drop_in))?.contains("[Service]"),
            "the unit's drop-in is none"
        );
        // In their network namespace, where the VIP is.
        let mut check = self.namespaces.command("chroot");
        check.arg(self.server.path()).args([&*program, "realserver", "check"]);
        let said = output(&mut check)?;
        ensure!(said.contains("lo has 211.58.250.6"), "the real server does not hold the VIP: {said}");
        Ok(())
    }
}

/// A network namespace, where a real server may hold a VIP, and a mount namespace, where the roots
/// have a /proc.
struct Namespaces(Child);

impl Namespaces {
    fn make(roots: &[&Path]) -> Result<Self> {
        const KEEPER: &str =
            "for root; do mount -t proc proc \"$root/proc\" || exit 1; done; echo made; exec cat";
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "sh", "-c", KEEPER, "sh"]).args(roots);
        let keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut made = Self(keeper.context("cannot start unshare")?);
        let mut said = String::new();
        let stdout = made.0.stdout.take().context("the keeper has an output")?;
        BufReader::new(stdout).read_line(&mut said)?;
        ensure!(said == "made\n", "no namespaces can be made for the roots");
        Ok(made)
    }

    /// A command that runs in them.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let target = format!("--target={}", self.0.id());
        command.args([&*target, "--net", "--mount", program]).env("PATH", PATH).stdin(Stdio::null());
        command
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How much each machine was changed, as the recap of a play says.
fn changes(said: &str) -> Result<Vec<(String, u32)>> {
    let lines = said.lines().filter(|line| line.contains(" : ok="));
    let found = lines.map(|line| {
        let (machine, counts) = line.split_once(" : ")?;
        let changed = counts.split_whitespace().find_map(|word| word.strip_prefix("changed="))?;
        Some((machine.trim().to_owned(), changed.parse::<u32>().ok()?))
    });
    let found = found.collect::<Option<Vec<_>>>().context("the recap makes no sense")?;
    ensure!(found.len() == 2, "the play has not reached both machines:\n{said}");
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recap_tells_what_each_machine_was_changed() {
        let recap = "\
PLAY RECAP *********************************************************************
ha1                        : ok=16   changed=0    unreachable=0    failed=0    skipped=5    rescued=0    ignored=0
www1                       : ok=14   changed=4    unreachable=0    failed=0    skipped=3    rescued=0    ignored=0
";
        let found = changes(recap).expect("a recap");
        assert_eq!(found, [("ha1".to_owned(), 0), ("www1".to_owned(), 4)]);
        assert!(changes("").is_err(), "a play that reached nobody has changed nothing, and is no success");
    }
}
