//! Software emulation of a PC: qemu, the machine's own or one that is unpacked in the target folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result};

use super::folder;
use crate::setup::on_path;

const PROGRAM: &str = "qemu-system-x86_64";

/// Debian's package with it.
pub(crate) const PACKAGE: &str = "qemu-system-x86";

/// MiB of the guest's memory. The benchmark's programs come with a map of 170 MiB; the tests and their libraries are in
/// memory, too.
const MEMORY: &str = "2048";

/// Several tests are about CPUs that work at once.
const CPUS: &str = "2";

/// Where it is unpacked, if the machine has none of its own. Nothing is installed: qemu's packages exclude those of qemu's
/// other releases.
pub(crate) fn unpacked() -> PathBuf {
    folder().join("qemu")
}

pub(crate) fn is_there() -> bool {
    on_path(PROGRAM) || unpacked().join("usr/bin").join(PROGRAM).is_file()
}

/// qemu, with its firmware. It ends when we do, however that happens.
fn program() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if on_path(PROGRAM) {
        command.arg(PROGRAM);
        return command;
    }
    // Its own C library, and that one's loader: what it was unpacked from may be newer than what the machine runs.
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

/// A guest that runs. It ends with this value.
pub(crate) struct Guest {
    process: Child,
}

/// What a guest writes to.
#[derive(Debug)]
pub(crate) struct Files {
    /// The first serial port: the kernel's messages.
    pub console: PathBuf,
    /// The second one: what the tests say.
    pub results: PathBuf,
    /// What qemu itself says.
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

    /// The last lines of the kernel's messages, and of what qemu itself said.
    pub(crate) fn last_words(&self) -> String {
        const LINES: usize = 30;
        let text = read(&self.emulator) + &read(&self.console);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Everything that the tests said so far.
    pub(crate) fn results(&self) -> String {
        read(&self.results)
    }
}

/// A serial port may carry anything, and ends its lines in its own way.
fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\r', "")
}

impl Guest {
    /// Switches a machine on.
    pub(crate) fn start(kernel: &Path, initramfs: &Path, files: &Files) -> Result<Self> {
        for port in [&files.console, &files.results] {
            // Nobody must take an earlier guest's words for this one's.
            File::create(port).with_context(|| format!("cannot write {}", port.display()))?;
        }
        let said = File::create(&files.emulator)
            .with_context(|| format!("cannot write {}", files.emulator.display()))?;
        let mut command = program();
        command.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"]);
        command.args(["-smp", CPUS, "-m", MEMORY, "-display", "none", "-nodefaults", "-no-reboot"]);
        for port in [&files.console, &files.results] {
            // qemu reads a comma in a name as the end of it, unless there are two.
            command.arg("-serial").arg(format!("file:{}", port.display().to_string().replace(',', ",,")));
        }
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
        // A panic ends the guest: it would boot anew, which it may not.
        command.args(["-append", "console=ttyS0 panic=-1"]);
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .with_context(|| format!("cannot start {PROGRAM}"))?;
        Ok(Self { process })
    }

    /// `Some`: it has switched itself off.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.try_wait().context("cannot ask after qemu")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
