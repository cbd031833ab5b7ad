//! A running `lb` on a node, and its status.

use std::env;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lb_api::events::Record;
use lb_api::status::Status;
use nix::sys::signal::Signal;

use super::bare_machine::{BareMachine, Sys};
use super::{Node, Process, log, shell};
use crate::workspace;

/// `lb run` on a node, with its configuration, socket and log in the lab's folder.
#[derive(Debug)]
pub struct Director {
    node: Node,
    binary: PathBuf,
    process: Process,
}

impl Director {
    /// Starts `lb run` with `configuration` on `node` and waits until `lb status` answers.
    ///
    /// Replaces a `control:` section of the configuration, and adds a `maintenance_dir` where there
    /// is none: labs must not share a socket, nor orders or changes at run time.
    pub fn start(node: &Node, configuration: &str) -> Result<Self> {
        Self::start_behind(&[] as &[&str], node, configuration)
    }

    /// Starts `lb` without a BPF file system and without the permission to mount one.
    pub fn start_without_bpffs(node: &Node, configuration: &str) -> Result<Self> {
        let machine = BareMachine::of(node, Sys::Writable)?;
        Self::start_behind(&machine.launcher_without_mounting(), node, configuration)
    }

    /// Starts `lb` with the certificates in the file `roots` as the only trusted ones.
    pub fn start_trusting(roots: &Path, node: &Node, configuration: &str) -> Result<Self> {
        Self::start_behind(
            &["env".to_owned(), format!("SSL_CERT_FILE={}", roots.display())],
            node,
            configuration,
        )
    }

    /// `launcher` is a command that executes its arguments as a command.
    pub fn start_behind(launcher: &[impl AsRef<str>], node: &Node, configuration: &str) -> Result<Self> {
        let director = Self::launch(launcher, node, configuration)?;
        director.wait_until_ready()?;
        Ok(director)
    }

    /// Like [`Self::start`], but returns at once: `lb status` may not answer for a while.
    pub fn launch(launcher: &[impl AsRef<str>], node: &Node, configuration: &str) -> Result<Self> {
        Self::launch_with(binary()?, launcher, node, configuration, &[])
    }

    fn launch_with(
        binary: PathBuf,
        launcher: &[impl AsRef<str>],
        node: &Node,
        configuration: &str,
        options: &[&str],
    ) -> Result<Self> {
        let file = configuration_of(node)?;
        fs::write(&file, with_own_places(configuration, &socket(node), &node.folder()?))?;
        let program = binary.to_str().context("the path of lb is not UTF-8")?;
        let file = file.to_str().context("the lab's folder is not UTF-8")?;
        let launcher = launcher.iter().map(AsRef::as_ref);
        let run = [program, "run", "--log-format", "json", "--config", file];
        let words: Vec<&str> = launcher.chain(run).chain(options.iter().copied()).collect();
        let process = node.start("lb", words[0], &words[1..])?;
        Ok(Self { node: node.clone(), binary, process })
    }

    /// Starts `lb` again, after its process has ended, with the configuration file as it is now.
    pub fn restart(&mut self) -> Result<()> {
        self.restart_with(&[])
    }

    /// The same behind `launcher`, a command that executes its arguments as a command.
    pub fn restart_behind(&mut self, launcher: &[impl AsRef<str>]) -> Result<()> {
        ensure!(!self.process.is_alive(), "lb on {} still runs", self.node.name());
        let configuration = fs::read_to_string(self.configuration()?)?;
        *self = Self::launch_with(self.binary.clone(), launcher, &self.node, &configuration, &[])?;
        self.wait_until_ready()
    }

    /// Starts another build of `lb`.
    pub fn restart_as(&mut self, binary: &Path) -> Result<()> {
        binary.clone_into(&mut self.binary);
        self.restart()
    }

    /// The build of `lb` that runs, or ran last.
    pub fn build(&self) -> &Path {
        &self.binary
    }

    /// Starts another build of `lb` behind `launcher`.
    pub fn restart_behind_as(&mut self, binary: &Path, launcher: &[impl AsRef<str>]) -> Result<()> {
        binary.clone_into(&mut self.binary);
        self.restart_behind(launcher)
    }

    /// Starts `lb` with these options of `lb run`.
    pub fn restart_with(&mut self, options: &[&str]) -> Result<()> {
        ensure!(!self.process.is_alive(), "lb on {} still runs", self.node.name());
        let file = self.configuration()?;
        let configuration =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        *self = Self::launch_with(self.binary.clone(), &[] as &[&str], &self.node, &configuration, options)?;
        self.wait_until_ready()
    }

    /// Runs `lb stop --release` after the process has ended, which removes everything left behind.
    pub fn release(&self) -> Result<()> {
        ensure!(!self.process.is_alive(), "lb on {} still runs", self.node.name());
        let mut command = self.node.command(self.binary.to_str().context("the path of lb is not UTF-8")?);
        command.args(["stop", "--release", "--socket"]).arg(self.socket());
        shell::run(command.arg("--config").arg(self.configuration()?)).map(drop)
    }

    /// Starts `lb` with its wall clock set back; CLOCK_MONOTONIC is unchanged.
    pub fn restart_a_day_earlier(&mut self) -> Result<()> {
        ensure!(!self.process.is_alive(), "lb on {} still runs", self.node.name());
        let configuration = fs::read_to_string(self.configuration()?)?;
        let launcher =
            ["env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1", "faketime", "-f", "-1d"];
        *self = Self::start_behind(&launcher, &self.node, &configuration)?;
        Ok(())
    }

    /// Waits until `lb status` answers.
    pub fn wait_until_ready(&self) -> Result<()> {
        // The kernel verifies the program meanwhile: a second of processor time, and many more on a
        // busy machine.
        let deadline = Instant::now() + Duration::from_secs(120);
        while let Err(error) = self.status() {
            if !self.process.is_alive() || Instant::now() > deadline {
                let log = self.log_tail();
                bail!("lb on {} does not come up: {error:#}\nThe end of its log:\n{log}", self.node.name());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The output of `lb status`.
    pub fn listing(&self) -> Result<String> {
        shell::run(self.lb_status().env("NO_COLOR", "1"))
    }

    /// The status of `lb status --json`.
    pub fn status(&self) -> Result<Status> {
        let json = shell::run(self.lb_status().arg("--json"))?;
        serde_json::from_str(&json).with_context(|| format!("lb status --json is not as expected: {json}"))
    }

    fn lb_status(&self) -> Command {
        self.lb("status")
    }

    /// Runs `lb WORD` for this director.
    fn lb(&self, word: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(word).arg("--socket").arg(self.socket());
        command
    }

    /// `lb failover`: another node takes this node's groups.
    pub fn failover(&self) -> Result<()> {
        shell::run(&mut self.lb("failover")).map(drop)
    }

    /// `lb failback`: this node takes back the groups for which it is preferred.
    pub fn failback(&self) -> Result<()> {
        shell::run(&mut self.lb("failback")).map(drop)
    }

    /// Runs `lb WORDS` and returns its output.
    pub fn order(&self, words: &[&str]) -> Result<String> {
        let (word, rest) = words.split_first().context("no command")?;
        shell::run(self.lb(word).args(rest))
    }

    /// The same, to an end of any kind.
    pub fn try_order(&self, words: &[&str]) -> Result<Output> {
        let (word, rest) = words.split_first().context("no command")?;
        self.lb(word).args(rest).output().with_context(|| format!("cannot start lb {word}"))
    }

    /// Starts `lb trace WORDS`; what it prints comes by pipes.
    pub fn start_trace(&self, words: &[&str]) -> Result<Child> {
        self.start_piped("trace", words)
    }

    /// Starts `lb capture WORDS`, in the same way.
    pub fn start_capture(&self, words: &[&str]) -> Result<Child> {
        self.start_piped("capture", words)
    }

    /// Starts any other command, in the same way.
    pub fn start_piped(&self, word: &str, words: &[&str]) -> Result<Child> {
        let mut command = self.lb(word);
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().with_context(|| format!("cannot start lb {word}"))
    }

    /// This node's role for the group, as in `lb status`.
    pub fn role_of(&self, group: &str) -> Result<String> {
        let status = self.status()?;
        let found = status.group(group).map(|shown| shown.role.clone());
        found.with_context(|| format!("lb shows no group {group}"))
    }

    /// Polls the status until `wanted` returns true; an error names the condition.
    pub fn wait_until(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let deadline = Instant::now() + patience;
        loop {
            let status = self.status()?;
            if wanted(&status) {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("waited {patience:?} for: {what}. lb shows:\n{}", self.listing().unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The events so far, as `lb events` tells them.
    pub fn events(&self) -> Result<Vec<Record>> {
        let text = shell::run(self.lb("events").arg("--json"))?;
        let events = text.lines().map(serde_json::from_str::<Record>);
        events
            .collect::<Result<_, _>>()
            .with_context(|| format!("lb events --json is not as expected: {text}"))
    }

    /// Waits until `lb events` has `count` events with this id of which `wanted` holds; returns the
    /// last one. More of them are an error.
    pub fn wait_for_events(
        &self,
        id: &str,
        count: usize,
        patience: Duration,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Record> {
        self.wait_for(id, Some(count), patience, wanted, Self::events)
    }

    /// Waits until `lb events` has one with this id of which `wanted` holds, or more of them;
    /// returns the last one.
    pub fn wait_for_event(
        &self,
        id: &str,
        patience: Duration,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Record> {
        self.wait_for(id, None, patience, wanted, Self::events)
    }

    /// [`Self::wait_for_events`] of a director that does not answer: it waits for its interface or
    /// its keys, or has ended.
    pub fn wait_for_logged(&self, id: &str, count: usize, patience: Duration) -> Result<Record> {
        self.wait_for(id, Some(count), patience, |_| true, Self::logged_events)
    }

    fn wait_for(
        &self,
        id: &str,
        count: Option<usize>,
        patience: Duration,
        wanted: impl Fn(&Record) -> bool,
        read: impl Fn(&Self) -> Result<Vec<Record>>,
    ) -> Result<Record> {
        let deadline = Instant::now() + patience;
        loop {
            let mut found = read(self)?;
            found.retain(|event| event.event == id && wanted(event));
            let enough = found.len() >= count.unwrap_or(1);
            if count.is_some_and(|count| found.len() > count) {
                bail!("{} events {id}, not {count:?}:\n{}", found.len(), self.log_tail());
            }
            if enough && let Some(last) = found.pop() {
                return Ok(last);
            }
            if Instant::now() > deadline {
                let name = self.node.name();
                bail!(
                    "waited {patience:?} for event {id} of {name}; the end of its log:\n{}",
                    self.log_tail()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// All events since the process began, by its log: also of a director that does not answer, and
    /// more than those that `lb events` keeps.
    pub fn logged_events(&self) -> Result<Vec<Record>> {
        self.log().map(|log| log::events(&log))
    }

    /// The one place where tests read words instead of ids: what a process printed that has ended,
    /// or had to refuse its start, before anybody could ask it. These do:
    ///
    /// - `cluster/files.rs`: a key file that others may read; a cluster without a BPF file system
    /// - `restart.rs`: an interface without native XDP in native mode
    /// - `controller.rs`: a second `lb` on the interface (by [`Self::second`])
    /// - `machine.rs`: one that ended while it waited has printed no error
    /// - `nat.rs`: another XDP program on the interface that servers are behind
    pub fn last_words(&self) -> Result<String> {
        self.log().map(|log| log::last_words(&log))
    }

    /// What an `lb` printed that must not start, see [`Self::last_words`].
    pub fn refusal(started: Result<Self>) -> Result<String> {
        match started {
            Ok(director) => bail!("lb on {} has started", director.node.name()),
            Err(error) => Ok(format!("{error:#}")),
        }
    }

    /// The end of its log, for error messages.
    pub fn log_tail(&self) -> String {
        self.node.state().log_tail(&format!("{}-lb", self.node.name()))
    }

    /// The control socket, for `lb status --socket`.
    pub fn socket(&self) -> PathBuf {
        socket(&self.node)
    }

    /// The configuration file; change it and `lb` reloads it.
    pub fn configuration(&self) -> Result<PathBuf> {
        configuration_of(&self.node)
    }

    /// Changes the configuration file, which `lb` reloads by itself.
    pub fn reconfigure(&self, configuration: &str) -> Result<()> {
        let text = with_own_places(configuration, &self.socket(), &self.node.folder()?);
        fs::write(self.configuration()?, text).context("cannot write the configuration")
    }

    /// Starts another `lb run` with the same configuration, to the end; returns its exit code and
    /// what it said.
    pub fn second(&self) -> Result<(Option<i32>, String)> {
        let configuration = self.configuration()?;
        let output = self
            .node
            .command("timeout")
            .arg("60")
            .arg(&self.binary)
            .arg("run")
            .arg("--config")
            .arg(configuration)
            .output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    fn log(&self) -> Result<String> {
        let path = self.node.state().log(&format!("{}-lb", self.node.name()));
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// How often it has taken `vip`.
    pub fn takes(&self, vip: impl Into<IpAddr>) -> Result<usize> {
        let vip = vip.into().to_string();
        let mut taken = self.logged_events()?;
        taken.retain(|event| event.event == "vip_taken");
        ensure!(
            taken.iter().all(|event| event.vip.is_some()),
            "VIPs were taken that are not told one by one"
        );
        Ok(taken.iter().filter(|event| event.vip.as_ref() == Some(&vip)).count())
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    pub fn process(&self) -> Process {
        self.process
    }

    /// Ends `lb` by SIGTERM, as systemd does.
    pub fn stop(&self) -> Result<()> {
        self.process.stop(Duration::from_secs(60))
    }

    /// Ends `lb` by SIGKILL, like a crash.
    pub fn kill(&self) -> Result<()> {
        self.process.signal(Signal::SIGKILL);
        ensure!(self.process.ends_within(Duration::from_secs(30)), "lb on {} does not end", self.node.name());
        Ok(())
    }

    /// Freezes `lb` (SIGSTOP) until [`Director::thaw`].
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }
}

fn configuration_of(node: &Node) -> Result<PathBuf> {
    Ok(node.folder()?.join("lb.yaml"))
}

/// How long [`wait_for`] waits: as long as a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Polls the status until `wanted` returns true, and returns it then.
///
/// # Panics
/// It does not come to that within a minute; the panic has what `lb` says.
#[track_caller]
pub fn wait_for(director: &Director, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    let waited = director.wait_until(what, PATIENCE, wanted);
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", director.log_tail()))
}

/// The control socket of `node`'s director.
pub fn socket(node: &Node) -> PathBuf {
    node.state().folder().join(format!("{}.sock", node.name()))
}

/// The `lb` under test: `LB_BINARY`, or the workspace's release build.
pub fn binary() -> Result<PathBuf> {
    let path = env::var_os("LB_BINARY").map_or_else(|| workspace::target().join("release/lb"), PathBuf::from);
    ensure!(path.is_file(), "there is no {}: run `cargo xtask test`, which builds it first", path.display());
    Ok(path)
}

/// `configuration` with its top-level `control:` section, if any, replaced by one that names
/// `socket`, and with a `maintenance_dir` in `folder` unless it has one.
fn with_own_places(configuration: &str, socket: &Path, folder: &Path) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in configuration.lines() {
        // A section continues while lines are indented, empty or comments.
        let starts_one = line.starts_with(|first: char| !first.is_whitespace() && first != '#');
        if starts_one {
            inside = line.starts_with("control:");
        }
        if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    if !kept.lines().any(|line| line.starts_with("maintenance_dir:")) {
        kept += &format!("maintenance_dir: {}\n", folder.join("disabled").display());
    }
    kept + &format!("control: {{ socket: {} }}\n", socket.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(text: &str) -> String {
        with_own_places(text, Path::new("/x.sock"), Path::new("/x"))
    }

    #[test]
    fn the_control_section_is_replaced_however_it_is_written() {
        let wanted =
            "interface: eth0\nservices: []\nmaintenance_dir: /x/disabled\ncontrol: { socket: /x.sock }\n";
        for control in [
            "",
            "control: { socket: /run/lb/lb.sock }\n",
            "control:\n  # where\n\n  socket: /run/lb/lb.sock\n",
        ] {
            let text = format!("interface: eth0\n{control}services: []\n");
            assert_eq!(own(&text), wanted, "of {text:?}");
        }
    }

    #[test]
    fn a_folder_that_is_named_stays() {
        let text = "maintenance_dir: /y\nservices: []\n";
        assert_eq!(own(text), text.to_owned() + "control: { socket: /x.sock }\n");
    }
}
