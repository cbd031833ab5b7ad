//! Debian packages: queries, downloads, and installation without starting services.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};

use super::install::announce;
use super::need::on_path;
use crate::workspace;

/// Whether apt exists and this user may use it.
pub(super) fn available() -> bool {
    on_path("apt-get") && on_path("apt-cache") && (nix::unistd::geteuid().is_root() || on_path("sudo"))
}

/// Refreshes the package lists once: a new container has none, and old lists name deleted files.
pub(super) fn update() -> Result<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let mut command = apt_get();
    command.args(["-qq", "update"]);
    announce(&command);
    workspace::run("apt-get update", &mut command)
}

/// Pipes the files of a package into `tar`. `false`: the package is unreadable, or `tar` failed.
pub(crate) fn read_package(archive: &Path, tar: &mut Command) -> Result<bool> {
    let mut reader = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let files = reader.stdout.take().context("dpkg-deb has an output")?;
    let written = tar.stdin(files).status().context("cannot start tar")?;
    Ok(reader.wait()?.success() && written.success())
}

/// The first of `a|b|c` that apt can install.
pub(super) fn choose(alternatives: &str) -> Result<Option<String>> {
    for package in alternatives.split('|') {
        let output = Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C").output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let candidate = text.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
        if candidate.is_some_and(|candidate| candidate != "(none)") {
            return Ok(Some(package.to_owned()));
        }
    }
    Ok(None)
}

/// Packages that bring a service.
const SERVICES: [(&str, &str); 5] = [
    ("nginx", "nginx"),
    ("nginx-light", "nginx"),
    ("prometheus", "prometheus"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("keepalived", "keepalived"),
];

/// Installs `packages` without starting their services, now or at the next boot.
pub(super) fn install(packages: &[String]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let services: Vec<_> = SERVICES
        .into_iter()
        .filter(|(package, _)| packages.iter().any(|name| name == package))
        .map(|(_, service)| service)
        .collect();
    let policy = (!services.is_empty()).then(NoServices::new).transpose()?;
    let mut command = apt_get();
    command.args(["-q", "install", "--yes", "--no-install-recommends"]).args(packages);
    announce(&command);
    workspace::run("apt-get install", &mut command)?;
    drop(policy);
    if !services.is_empty() && on_path("systemctl") {
        let mut command = as_root("systemctl");
        command.arg("disable").args(&services).stdout(Stdio::null()).stderr(Stdio::null());
        announce(&command);
        // In a container systemd may be missing; then no service starts, either.
        let _ = command.status();
    }
    Ok(())
}

/// Downloads `packages` with all dependencies into `folder`, as if nothing were installed here.
/// Returns the archives.
pub(super) fn download(packages: &[String], folder: &Path) -> Result<Vec<PathBuf>> {
    let archives = folder.join("archives");
    fs::create_dir_all(archives.join("partial"))
        .with_context(|| format!("cannot make {}", archives.display()))?;
    let status = folder.join("status");
    fs::write(&status, "")?;
    let mut command = apt_get();
    for (option, path) in [("Dir::State::status", status.as_path()), ("Dir::Cache", folder)] {
        command.arg("-o").arg(format!("{option}={}", path.display()));
    }
    // apt's own user may have no access to the folder.
    command.args(["-o", "APT::Sandbox::User=root", "-qq", "install", "--download-only", "--yes"]);
    command.arg("--no-install-recommends").args(packages);
    announce(&command);
    workspace::run("downloading packages", &mut command)?;
    let entries = fs::read_dir(&archives)?.map(|entry| Ok(entry?.path()));
    let paths: Vec<PathBuf> = entries.collect::<Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "deb")).collect())
}

fn apt_get() -> Command {
    let mut command = as_root("apt-get");
    // Wait for another running apt instead of failing. Standard output is for results.
    command.args(["-o", "DPkg::Lock::Timeout=300"]).stdin(Stdio::null());
    command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::io::stderr());
    command
}

fn as_root(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("DEBIAN_FRONTEND=noninteractive").arg(program);
    command
}

/// Keeps packages from starting their services: Debian's tools ask `/usr/sbin/policy-rc.d` first. A
/// machine's own policy stays in force.
struct NoServices {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn new() -> Result<Self> {
        if Path::new(POLICY).exists() || !nix::unistd::geteuid().is_root() {
            return Ok(Self { ours: false });
        }
        eprintln!(
            "setup: no service is started: {POLICY} forbids it during the installation, and is removed after it"
        );
        // If this process is killed, the policy no longer forbids anything.
        let script = format!(
            "#!/bin/sh\n# Temporary, of cargo xtask setup.\nkill -0 {} && exit 101\nexit 0\n",
            process::id()
        );
        fs::write(POLICY, script).with_context(|| format!("cannot write {POLICY}"))?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}
