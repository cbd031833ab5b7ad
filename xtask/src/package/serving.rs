//! The package of `lb` on a machine that serves, while clients' connections check every byte:
//! installed, started by what its unit says, upgraded by its own scripts, removed, purged.
//!
//! The machine is the Debian root in a network namespace of a lab. It has no systemd: a stand-in
//! for systemctl, which Debian's `deb-systemd-invoke` calls, starts and stops what the unit says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lb_lab::cluster::Talk;
use lb_lab::lab::{Node, Process, unique_name};
use lb_lab::scenario::alone::{BOTH, SERVICE, configuration};
use lb_lab::scenario::steady::{self, Steady};
use nix::sys::signal::Signal;

use super::product::LB;

const CONNECTIONS: usize = 1000;
const PACE: Duration = Duration::from_millis(100);
/// Slots of the connection table are made for so many.
const TABLE: u32 = 10_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// As of an administrator, with the stand-in first.
const PATH: &str = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Gives the root what a machine has that runs, tells that it is there, and keeps it. `$1` is the
/// root, `$2` a file, `$3` the stand-in for systemctl.
const KEEPER: &str = "\
mount -t proc proc \"$1/proc\" && mount --rbind /sys \"$1/sys\" && mount --rbind /dev \"$1/dev\" || exit 1
mount -t tmpfs tmpfs \"$1/run\" && mkdir -p \"$1/run/systemd/system\" || exit 1
mkdir -p \"$1/usr/local/sbin\" && mount -t tmpfs tmpfs \"$1/usr/local/sbin\" || exit 1
cp \"$3\" \"$1/usr/local/sbin/systemctl\" || exit 1
echo ready >\"$2\"
exec sleep 3600
";

/// What it is asked stands in /run/asked.
const SYSTEMCTL: &str = "\
#!/bin/sh
unit=/usr/lib/systemd/system/lb.service
echo \"$*\" >>/run/asked
# A process that has ended, and that nobody has asked for its end, has no program any more.
active() { [ -e /run/unit.pid ] && [ -e \"/proc/$(cat /run/unit.pid)/exe\" ]; }
start() {
  active && return
  mkdir -p /run/lb /var/lib/lb
  setsid $(sed -n 's/^ExecStart=//p' $unit) >>/run/unit.log 2>&1 </dev/null &
  echo $! >/run/unit.pid
  until lb status >/dev/null 2>&1; do active || exit 1; sleep 0.05; done
}
stop() {
  active || return 0
  kill -TERM \"$(cat /run/unit.pid)\"
  while active; do sleep 0.05; done
}
verb=
for word; do
  case $word in -* | lb.service) ;; *) verb=${verb:-$word} ;; esac
done
case $verb in
  daemon-reload | disable) ;;
  is-enabled) echo enabled ;;
  is-active) active ;;
  start) start ;;
  stop) stop ;;
  restart) stop; start ;;
  try-restart) active || exit 0; stop; start ;;
  *) exit 1 ;;
esac
";

/// The root as a running machine.
struct Machine<'a> {
    root: &'a Path,
    node: &'a Node,
    keeper: Process,
}

impl<'a> Machine<'a> {
    fn boot(root: &'a Path, node: &'a Node) -> Result<Self> {
        let folder = node.folder()?;
        let (ready, systemctl) = (folder.join("ready"), folder.join("systemctl"));
        fs::write(&systemctl, SYSTEMCTL)?;
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755))?;
        let mut words = ["--mount", "--propagation", "private", "sh", "-c", KEEPER, "sh"].to_vec();
        for path in [root, &ready, &systemctl] {
            words.push(path.to_str().context("a path is not UTF-8")?);
        }
        let keeper = node.start("machine", "unshare", &words)?;
        let deadline = Instant::now() + PATIENCE;
        while !ready.exists() {
            if !keeper.is_alive() || Instant::now() > deadline {
                bail!("no machine: {}", node.state().log_tail(&format!("{}-machine", node.name())));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(Self { root, node, keeper })
    }

    /// Runs a command on the machine; whether it succeeded, and what it said.
    fn try_run(&self, words: &[&str]) -> Result<(bool, String)> {
        let mut command = self.node.command("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.pid())).arg("chroot").arg(self.root);
        command.args(words).env_clear().env("PATH", PATH).env("HOME", "/root").current_dir("/");
        // No pipe, which would end only with the director that a command has started.
        let said = self.node.folder()?.join("said");
        let file = fs::File::create(&said).with_context(|| format!("cannot write {}", said.display()))?;
        command.stdout(file.try_clone()?).stderr(file);
        let status = command.status().with_context(|| format!("cannot run {words:?}"))?;
        Ok((status.success(), fs::read_to_string(&said)?))
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        let (succeeded, said) = self.try_run(words)?;
        ensure!(succeeded, "{words:?} failed: {said}{}", self.log());
        Ok(said)
    }

    /// The end of what the unit has said.
    fn log(&self) -> String {
        let (_, log) = self.try_run(&["tail", "-n", "20", "/run/unit.log"]).unwrap_or_default();
        format!("\nthe unit's log:\n{log}")
    }

    /// dpkg, with a package of this machine.
    fn install(&self, package: &Path) -> Result<()> {
        let name = package.file_name().and_then(|name| name.to_str()).context("a name")?;
        let inside = self.root.join("tmp").join(name);
        fs::copy(package, &inside)?;
        self.run(&["dpkg", "--install", &format!("/tmp/{name}")])?;
        fs::remove_file(inside).context("cannot remove the package")
    }

    /// The director's process.
    fn process(&self) -> Result<String> {
        self.run(&["cat", "/run/unit.pid"])
    }

    /// Waits until the command succeeds and says all of this.
    fn wait_for(&self, words: &[&str], wanted: &[&str]) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (succeeded, said) = self.try_run(words)?;
            if succeeded && wanted.iter().all(|part| said.contains(part)) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{words:?} does not say {wanted:?}: {said}{}", self.log());
            sleep(Duration::from_millis(100));
        }
    }
}

/// The director is no process of the lab.
impl Drop for Machine<'_> {
    fn drop(&mut self) {
        let _ = self.try_run(&["systemctl", "stop", "lb.service"]);
        self.keeper.signal(Signal::SIGKILL);
    }
}

/// The root is as it was afterwards.
pub(super) fn run(root: &Path, package: &Path, next: &Path) -> Result<()> {
    let talk = Talk::new(&unique_name("package"))?;
    for server in [talk.www1.node(), talk.www2.node()] {
        steady::echo(server, SERVICE)?;
    }
    let machine = Machine::boot(root, &talk.ha1)?;
    machine.install(package)?;
    let asked = machine.run(&["cat", "/run/asked"])?;
    ensure!(!asked.contains("start"), "a package that is installed starts nothing: {asked}");
    let file = root.join(LB.configuration());
    fs::write(&file, configuration(TABLE, BOTH)).context("the package has made no folder for it")?;
    machine.run(&["systemctl", "start", "lb.service"])?;
    machine.wait_for(&["lb", "status", "--brief"], &["2/2", "1/1"])?;

    let clients = Steady::open(&talk.client, SERVICE, CONNECTIONS, PACE)?;
    let first = machine.process()?;
    machine.install(next)?;
    ensure!(machine.process()? != first, "the upgrade has not restarted the director");
    machine.wait_for(&["lb", "events", "--json"], &["\"taken_over\""])?;
    machine.wait_for(&["lb", "status", "--brief"], &["2/2", "1/1"])?;
    let outcome = clients.finish();
    ensure!(
        (outcome.lost, outcome.wrong) == (0, 0) && outcome.blocks >= outcome.connections * 2,
        "the upgrade has cost connections: {outcome:?}"
    );
    eprintln!(
        "An upgrade under {} connections: none was lost, {} datagrams of one each millisecond.",
        outcome.connections, outcome.datagrams_lost
    );

    machine.run(&["dpkg", "--remove", LB.name])?;
    ensure!(!talk.ha1.has_xdp_program()?, "the removed package has left its program on the interface");
    ensure!(!talk.ha1.has_address(*SERVICE.ip())?, "the removed package has left the VIP");
    machine.run(&["dpkg", "--purge", LB.name])?;
    ensure!(!file.exists(), "the purge has left the configuration");
    Ok(())
}

/// The shell that stands in for systemctl, without a unit.
#[test]
fn the_stand_in_is_a_script() {
    let checked = std::process::Command::new("sh").args(["-n", "-c", SYSTEMCTL]).output().expect("a shell");
    assert!(checked.status.success(), "{checked:?}");
}
