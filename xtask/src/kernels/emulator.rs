//! Software emulation of a PC by qemu: the machine's own, or one unpacked in the target folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result};

use super::folder;
use crate::setup::on_path;

const PROGRAM: &str = "qemu-system-x86_64";

/// Debian's package of qemu.
pub(crate) const PACKAGE: &str = "qemu-system-x86";

/// The guest's memory in MiB. The benchmark's programs have a map of 170 MiB; the initramfs with
/// the tests and libraries is in memory, too.
const MEMORY: &str = "2048";

/// The guest's CPUs; several tests need concurrent ones.
const CPUS: &str = "2";

/// The kernel's command line. After a panic the guest reboots, and with -no-reboot qemu ends. What
/// protects processors from each other's guesses is off, and nobody waits long for RCU: either
/// costs much in emulation.
const SETTINGS: &str = "console=ttyS0 panic=-1 mitigations=off rcupdate.rcu_expedited=1";

/// Where qemu is unpacked if the machine has none. It is not installed, because qemu's packages
/// conflict with those of other releases.
pub(crate) fn unpacked() -> PathBuf {
    folder().join("qemu")
}

pub(crate) fn is_there() -> bool {
    on_path(PROGRAM) || unpacked().join("usr/bin").join(PROGRAM).is_file()
}

/// The qemu command with its firmware. qemu ends with this process in any case.
fn program() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if on_path(PROGRAM) {
        command.arg(PROGRAM);
        return command;
    }
    // Its own C library and loader: its release may be newer than the machine's.
    let root = unpacked();
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    command.arg(root.join("lib64/ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(&libraries).arg(root.join("usr/bin").join(PROGRAM));
    for firmware in ["usr/share/qemu", "usr/share/seabios"] {
        command.arg("-L").arg(root.join(firmware));
    }
    command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
    command
}

/// A running guest. Dropping it ends the guest.
pub(crate) struct Guest {
    process: Child,
}

/// The files with a guest's output.
#[derive(Debug)]
pub(crate) struct Files {
    /// The first serial port: the kernel's messages.
    pub console: PathBuf,
    /// The second serial port: the tests' output.
    pub results: PathBuf,
    /// qemu's own messages.
    emulator: PathBuf,
}

impl Files {
    pub(crate) fn folder(&self) -> &Path {
        self.results.parent().unwrap_or(Path::new("/"))
    }

    pub(crate) fn in_folder(folder: &Path) -> Self {
        let file = |name| folder.join(name);
        Self { console: file("console"), results: file("results"), emulator: file("emulator") }
    }

    /// The last lines of the kernel's and of qemu's messages.
    pub(crate) fn last_words(&self) -> String {
        const LINES: usize = 30;
        let text = read(&self.emulator) + &read(&self.console);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// The tests' output so far.
    pub(crate) fn results(&self) -> String {
        read(&self.results)
    }
}

/// Reads a serial port's output: any bytes, with line ends of CR LF.
fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\r', "")
}

impl Guest {
    /// Starts a guest.
    pub(crate) fn start(kernel: &Path, initramfs: &Path, files: &Files) -> Result<Self> {
        for port in [&files.console, &files.results] {
            // Remove the output of an earlier guest.
            File::create(port).with_context(|| format!("cannot write {}", port.display()))?;
        }
        let said = File::create(&files.emulator)
            .with_context(|| format!("cannot write {}", files.emulator.display()))?;
        let mut command = program();
        command.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"]);
        command.args(["-smp", CPUS, "-m", MEMORY, "-display", "none", "-nodefaults", "-no-reboot"]);
        for port in [&files.console, &files.results] {
            // In qemu's options a comma in a file name is doubled.
            command.arg("-serial").arg(format!("file:{}", port.display().to_string().replace(',', ",,")));
        }
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
        command.args(["-append", SETTINGS]);
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .with_context(|| format!("cannot start {PROGRAM}"))?;
        Ok(Self { process })
    }

    /// `Some`: the guest has shut down.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.try_wait().context("cannot get the state of qemu")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
