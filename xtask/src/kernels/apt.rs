//! Debian packages of several releases at once, by an apt configuration of our own: its lists,
//! settings and archives are in the target folder, and do not affect the machine's apt.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::setup::{on_path, read_package};
use crate::workspace;

/// Debian's mirror, for a machine without one.
const DEBIAN: &str = "http://deb.debian.org/debian";
const SECURITY: &str = "http://deb.debian.org/debian-security";

/// Suites with kernels: 6.1 in bookworm, 6.12 in trixie and bookworm's backports, newer ones in
/// trixie's backports and sid.
const SUITES: [&str; 5] = ["bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid"];
const SECURITY_SUITES: [&str; 2] = ["bookworm-security", "trixie-security"];

/// Debian's keys, from the package `debian-archive-keyring`.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

pub(super) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Creates the configuration in `folder`.
    pub(super) fn new(folder: PathBuf) -> Result<Self> {
        for program in ["apt-get", "apt-cache", "dpkg-deb", "tar"] {
            ensure!(
                on_path(program),
                "the kernels are Debian packages, which need {program}, and it is missing"
            );
        }
        let keyring = KEYRINGS.into_iter().find(|path| Path::new(path).is_file());
        let keyring =
            keyring.context("Debian's keys are missing: install the package debian-archive-keyring")?;
        for part in ["lists/partial", "cache/archives/partial", "archives"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let apt = Self { folder };
        let (debian, security) = mirrors(&index_targets()?);
        eprintln!("==> Debian's packages are taken from {debian} and {security}");
        apt.write("status", "")?;
        apt.write("sources.list", &sources(&debian, &security, keyring))?;
        apt.write("apt.conf", &settings(&apt.folder))?;
        Ok(apt)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Fetches the package lists. If that fails, uses earlier lists, if there are any.
    pub(super) fn update(&self) -> Result<()> {
        eprintln!("==> updating the lists of Debian's kernels (40 MB the first time)");
        let mut command = self.command("apt-get");
        command.args(["-qq", "update"]).stdout(std::io::stderr());
        let status = command.status().context("cannot start apt-get")?;
        if !status.success() {
            eprintln!("    apt-get update failed ({status}): continuing with the existing lists");
        }
        Ok(())
    }

    /// The names of all packages with this prefix.
    pub(super) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let output = self.command("apt-cache").args(["pkgnames", prefix]).output()?;
        ensure!(output.status.success(), "apt-cache: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// Downloads a package and extracts the one file that matches tar's `pattern`.
    pub(super) fn file_of(&self, package: &str, pattern: &str, target: &Path) -> Result<()> {
        self.with_archive(package, |archive| extract(archive, pattern, target))
    }

    /// Downloads a package and extracts the files that match tar's `pattern` into a folder.
    pub(super) fn files_of(&self, package: &str, pattern: &str, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        self.with_archive(package, |archive| {
            let mut tar = Command::new("tar");
            tar.args(["--extract", "--wildcards", pattern]).current_dir(folder);
            ensure!(read_package(archive, &mut tar)?, "{} holds no {pattern}", archive.display());
            Ok(())
        })
    }

    /// Hands the archive of a package to `take`.
    fn with_archive(&self, package: &str, take: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let archives = self.folder.join("archives");
        let mut command = self.command("apt-get");
        command.args(["-q", "download", package]).current_dir(&archives).stdout(std::io::stderr());
        workspace::run(&format!("downloading {package}"), &mut command)?;
        let begin = format!("{package}_");
        let archive = fs::read_dir(&archives)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| {
                path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(&begin))
            })
            .with_context(|| format!("apt-get left no archive of {package} in {}", archives.display()))?;
        take(&archive)?;
        fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.folder.join("apt.conf")).stdin(Stdio::null()).env("LC_ALL", "C");
        command
    }
}

/// Writes the file under another name and renames it, so that an existing file is complete.
fn extract(archive: &Path, pattern: &str, target: &Path) -> Result<()> {
    let part = target.with_extension("part");
    let file = File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--to-stdout", "--wildcards", pattern]).stdout(file);
    ensure!(read_package(archive, &mut tar)?, "{} holds no {pattern}", archive.display());
    fs::rename(&part, target).with_context(|| format!("cannot rename {}", target.display()))
}

/// The machine's own package sources, one per line: label and URI.
fn index_targets() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"])
        .output()
        .context("cannot start apt-get")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The machine's mirrors of Debian and of its security updates; Debian's own if it has none. Before
/// the first `apt-get update` apt does not know the labels, but mirrors have the same paths as
/// Debian.
fn mirrors(targets: &str) -> (String, String) {
    let mirror = |label: &str, path: &str, otherwise: &str| {
        let targets = targets.lines().filter_map(|line| line.split_once('|'));
        let mut uris = targets.map(|(found, uri)| (found, uri.trim_end_matches('/')));
        let uri = uris.find(|(found, uri)| *found == label || uri.ends_with(path)).map(|(_, uri)| uri);
        uri.unwrap_or(otherwise).to_owned()
    };
    (mirror("Debian", "/debian", DEBIAN), mirror("Debian-Security", "/debian-security", SECURITY))
}

fn sources(debian: &str, security: &str, keyring: &str) -> String {
    let suites = SUITES.map(|suite| (debian, suite)).into_iter();
    let all = suites.chain(SECURITY_SUITES.map(|suite| (security, suite)));
    all.map(|(uri, suite)| format!("deb [arch=amd64 signed-by={keyring}] {uri} {suite} main\n")).collect()
}

/// apt's settings, which apt reads after the machine's own, so that proxies stay in force. They
/// disable the machine's hooks after updates, and run apt's downloads as root, because apt's own
/// user may have no access to the folder.
fn settings(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "#clear APT::Update;
APT::Architecture \"amd64\";
APT::Sandbox::User \"root\";
Acquire::Languages \"none\";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";
Dir::State \"{folder}\";
Dir::State::lists \"{folder}/lists\";
Dir::State::status \"{folder}/status\";
Dir::Cache \"{folder}/cache\";
Dir::Etc::sourcelist \"{folder}/sources.list\";
Dir::Etc::sourceparts \"/dev/null\";
Dir::Etc::preferences \"/dev/null\";
Dir::Etc::preferencesparts \"/dev/null\";
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_own_mirrors_are_used() {
        let own = "Node|https://deb.example/node/\n\
                   Debian|http://mirror.example/d/\nDebian|http://mirror.example/d/\n\
                   Debian-Security|http://mirror.example/s/\n";
        assert_eq!(
            mirrors(own),
            ("http://mirror.example/d".to_owned(), "http://mirror.example/s".to_owned())
        );
        let before_the_first_update = "$(LABEL)|http://mirror.example/debian/\n";
        let (debian, security) = mirrors(before_the_first_update);
        assert_eq!((debian.as_str(), security.as_str()), ("http://mirror.example/debian", SECURITY));
        assert_eq!(mirrors(""), (DEBIAN.to_owned(), SECURITY.to_owned()));
    }
}
