//! The programs whose configurations `lb import` reads: Debian's packages in a file system of their
//! own. Nothing of it is installed, and no service starts: tests ask how the originals understand
//! a file. `cargo xtask setup` creates it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// The originals, and what their scripts here need.
pub const PACKAGES: [&str; 7] =
    ["ldirectord", "keepalived", "ipvsadm", "dash", "coreutils", "sed", "netbase"];

/// Paths that tell that the packages are there.
const PATHS: [&str; 4] = [
    "usr/sbin/ldirectord",
    "usr/sbin/keepalived",
    "usr/share/doc/ldirectord/examples/ldirectord.cf",
    "usr/share/doc/keepalived/samples",
];

/// Files that no package contains.
pub const FILES: [(&str, &str); 3] = [
    ("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
    ("etc/group", "root:x:0:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n"),
];

/// The file that records the packages; written last.
pub const RECIPE: &str = "recipe";

/// Path of the file system.
pub fn path() -> PathBuf {
    workspace::target().join("lab/originals")
}

/// The expected content of [`RECIPE`].
pub fn recipe() -> String {
    let mut text = PACKAGES.join("\n");
    text.extend(FILES.iter().map(|(path, content)| format!("\n{path}\n{content}")));
    text
}

/// Whether the file system is complete and up to date.
pub fn is_complete() -> bool {
    let root = path();
    fs::read_to_string(root.join(RECIPE)).is_ok_and(|text| text == recipe())
        && PATHS.iter().all(|path| root.join(path).exists())
}

/// Runs the script `start` in `folder`, as root of the file system and in a network of its own
/// that has nothing but an interface eth0 and eth1. `folder` is `/srv` there.
pub fn run(folder: &Path, script: &str) -> Result<Output> {
    ensure!(is_complete(), "the originals are not there: run `cargo xtask setup`");
    fs::write(folder.join("start"), script)?;
    let enter = workspace::root().join("tests/lab/src/lab/servers/enter.sh");
    let network = "ip link set lo up; ip link add eth0 type veth peer name eth1; exec sh \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--propagation", "private", "sh", "-euc", network, "sh"]);
    command.args([&enter, &path(), folder]).arg("0");
    command.output().context("cannot start unshare")
}
