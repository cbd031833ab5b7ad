//! The machines of the documents: nodes of a lab, each with an /etc, a /run and a /var/lib of its
//! own, and its name.
//!
//! What a lab cannot have is stood in for: systemd, which starts what the unit says
//! ([`Machines::systemctl`]), and scp, by a script.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lb_lab::lab::director::binary;
use lb_lab::lab::{Lab, Node, Process, shell, unique_name};
use lb_lab::workspace::root;
use nix::sys::signal::Signal;

use super::blocks::Block;

/// The machines' names and the last octets of their addresses in 192.0.2.0/24.
const MACHINES: [(&str, u8); 8] = [
    ("client", 100),
    ("lb1", 2),
    ("lb2", 3),
    ("www1", 21),
    ("www2", 22),
    ("www3", 23),
    ("www4", 24),
    ("gateway", 25),
];

/// Where commands are given, as on a machine with the project's source and with files of another
/// program.
const HOME: &str = "/etc/home";

/// In /etc, on a machine whose operator has put it there.
const UNIT: &str = "systemd/system/lb.service";

/// Added to the cluster of the documents: nobody dies on a busy machine.
const CALM: &str = "  dead: 2s\n";

const PATIENCE: Duration = Duration::from_secs(120);

/// Makes the machine's mount namespace, tells that it is made, and keeps it. `$1` is the node's
/// folder, `$2` the lab's, `$3` the machine's name. Of the lab's folder, which is in /run, all
/// machines' /etc stay in sight.
const KEEPER: &str = "\
exec 3>\"$1/ready\" || exit 1
mount --bind \"$1/etc\" /etc && mount --bind \"$2\" /etc/machines || exit 1
mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/lb || exit 1
mount -t tmpfs tmpfs /run && mkdir /run/lb || exit 1
mount -t tmpfs tmpfs /usr/local/sbin && mount -t tmpfs tmpfs /usr/local/share || exit 1
echo \"$3\" >/proc/sys/kernel/hostname || exit 1
echo ready >&3
exec 3>&- sleep 3600
";

/// Machines of a lab have no sshd.
const SCP: &str = "\
#!/bin/sh
for last; do :; done
to=/etc/machines/${last%%:*}/${last#*:}
while [ $# -gt 1 ]; do
  case $1 in -*) ;; *) cp -p \"$1\" \"$to\" || exit 1 ;; esac
  shift
done
";

/// PATH with the `lb` under test first.
pub(crate) fn path() -> Result<OsString> {
    let lb = binary()?;
    let folder = lb.parent().context("lb is in no folder")?.to_owned();
    let others = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(
        [PathBuf::from("/etc/stand-ins"), folder].into_iter().chain(env::split_paths(&others)),
    )?)
}

struct Machine {
    node: Node,
    keeper: Process,
    director: Option<Process>,
}

impl Machine {
    fn new(lab: &Lab, name: &str, octet: u8) -> Result<Self> {
        let node = lab.node(name, format!("192.0.2.{octet}/24").parse()?)?;
        let folder = node.folder()?;
        let etc = folder.join("etc");
        shell::run(Command::new("cp").args(["-a", "/etc"]).arg(&etc))?;
        // A machine may have been used for something.
        for used in ["lb", "systemd/system/lb.service.d", "home"] {
            let _ = fs::remove_dir_all(etc.join(used));
        }
        let _ = fs::remove_file(etc.join(UNIT));
        for folder in
            ["lb", "stand-ins", "machines", "home/target/release", "systemd/system", "bash_completion.d"]
        {
            fs::create_dir_all(etc.join(folder))?;
        }
        let scp = etc.join("stand-ins/scp");
        fs::write(&scp, SCP)?;
        fs::set_permissions(&scp, fs::Permissions::from_mode(0o755))?;
        // Without a terminal curl tells of its progress.
        let home = etc.join("home");
        fs::write(home.join(".curlrc"), "silent\nshow-error\nnoproxy = *\n")?;
        symlink(root().join("deploy"), home.join("deploy"))?;
        symlink(binary()?, home.join("target/release/lb"))?;
        let keepalived = "lb-userspace/import/tests/corpus/keepalived-group/keepalived.conf";
        fs::copy(root().join(keepalived), home.join("keepalived.conf"))?;

        let text = |path: &Path| path.to_str().map(str::to_owned).context("the lab's folder is not UTF-8");
        let (folder, all) = (text(&folder)?, text(lab.state().folder())?);
        let words = ["--mount", "--uts", "--propagation", "private", "sh", "-c", KEEPER, "sh"];
        let words: Vec<&str> = words.into_iter().chain([&*folder, &*all, name]).collect();
        let keeper = node.start("keeper", "unshare", &words)?;
        let deadline = Instant::now() + PATIENCE;
        let ready = Path::new(&folder).join("ready");
        while fs::read(&ready).unwrap_or_default().is_empty() {
            if !keeper.is_alive() || Instant::now() > deadline {
                bail!("no machine {name}: {}", lab.state().log_tail(&format!("{name}-keeper")));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(Self { node, keeper, director: None })
    }

    /// The words of a command that runs in the machine's namespaces.
    fn launcher(&self) -> [String; 3] {
        let of = |kind: &str| format!("/proc/{}/ns/{kind}", self.keeper.pid());
        ["nsenter".to_owned(), format!("--mount={}", of("mnt")), format!("--uts={}", of("uts"))]
    }

    /// Runs a line for the shell; whether it succeeded, and what it printed.
    fn run(&self, line: &str) -> Result<(bool, String)> {
        let [program, mount, uts] = self.launcher();
        let mut command = self.node.command(&program);
        let line_there = format!("exec 2>&1; cd {HOME} || exit\n{line}");
        command.args([&mount, &uts, "sh", "-c", &line_there]).current_dir("/").env_clear();
        command.env("PATH", path()?).env("HOME", HOME).env("USER", "root").env("LANG", "C.UTF-8");
        let output = command.output().with_context(|| format!("cannot run `{line}`"))?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Starts what the unit says, and waits until `lb` answers, as `Type=notify` does.
    fn start(&mut self) -> Result<()> {
        let unit = match fs::read_to_string(self.node.folder()?.join("etc").join(UNIT)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::read_to_string(root().join("deploy/systemd/lb.service"))?
            }
            unit => unit?,
        };
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).context("no ExecStart=")?;
        let lb = binary()?;
        let lb = lb.to_str().context("the path of lb is not UTF-8")?;
        let [program, mount, uts] = self.launcher();
        let words: Vec<&str> = [&*mount, &*uts, lb].into_iter().chain(start.split(' ').skip(1)).collect();
        let director = self.node.start("lb", &program, &words)?;
        self.director = Some(director);
        let deadline = Instant::now() + PATIENCE;
        while !self.run("lb status")?.0 {
            if !director.is_alive() || Instant::now() > deadline {
                let name = self.node.name();
                bail!(
                    "lb on {name} does not come up:\n{}",
                    self.node.state().log_tail(&format!("{name}-lb"))
                );
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The unit and its drop-ins are there to be loaded.
    fn has_unit(&self) -> Result<()> {
        let unit = self.node.folder()?.join("etc").join(UNIT);
        ensure!(unit.is_file(), "there is no unit {} to be loaded", unit.display());
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let director = self.director.take().context("lb is not running")?;
        director.stop(Duration::from_secs(60))
    }
}

pub(crate) struct Machines {
    machines: BTreeMap<String, Machine>,
    /// Removed last.
    _lab: Lab,
}

impl Machines {
    /// Plain machines; www1 and www2 have a web server.
    pub(crate) fn new(names: &[&str]) -> Result<Self> {
        let lab = Lab::new(&unique_name("documents"))?;
        let mut machines = BTreeMap::new();
        for (name, octet) in MACHINES.into_iter().filter(|(name, _)| names.contains(name)) {
            machines.insert(name.to_owned(), Machine::new(&lab, name, octet)?);
        }
        ensure!(machines.len() == names.len(), "one of {names:?} is no machine");
        for name in ["www1", "www2"].into_iter().filter(|name| names.contains(name)) {
            let node = &machines[name].node;
            // Whatever this host has: a new namespace may begin with that.
            node.answer_arp_for_all()?;
            node.web_server(&format!("Test Page of {name}"))?.start()?;
        }
        Ok(Self { machines, _lab: lab })
    }

    fn machine(&mut self, name: &str) -> Result<&mut Machine> {
        self.machines.get_mut(name).with_context(|| format!("there is no machine {name:?}"))
    }

    /// Runs a line for the shell on the machine.
    pub(crate) fn run(&self, name: &str, line: &str) -> Result<(bool, String)> {
        self.machines.get(name).with_context(|| format!("there is no machine {name:?}"))?.run(line)
    }

    /// What systemd does by these words of `systemctl`.
    pub(crate) fn systemctl(&mut self, name: &str, words: &str) -> Result<()> {
        let machine = self.machine(name)?;
        match words {
            "enable --now lb" | "start lb" => machine.start(),
            "stop lb" => machine.stop(),
            "daemon-reload" => machine.has_unit(),
            "restart lb" => machine.stop().and_then(|()| machine.start()),
            "reload lb" => {
                machine.director.context("lb is not running")?.signal(Signal::SIGHUP);
                Ok(())
            }
            _ => bail!("nothing here stands in for `systemctl {words}`"),
        }
    }

    /// Writes a block into the file that it names, or adds it to that.
    pub(crate) fn write(&mut self, block: &Block) -> Result<()> {
        let Some(place) = block.more.find([':', '+']).filter(|_| block.language == "yaml") else {
            return Ok(());
        };
        let (name, file) = block.more.split_at(place);
        let (adds, file) = (file.starts_with('+'), &file[1..]);
        let inside = file.strip_prefix("/etc/").with_context(|| format!("{file} is not in /etc"))?;
        let file = self.machine(name)?.node.folder()?.join("etc").join(inside);
        let mut text = if adds { fs::read_to_string(&file)? } else { String::new() };
        text += &(block.lines.join("\n") + "\n");
        if block.lines.iter().any(|line| line == "cluster:") {
            ensure!(!text.contains("\n  dead:"), "the documents' cluster has `dead` of its own");
            text += CALM;
        }
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}
