//! The files that are installed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use lb_lab::workspace::root;

use super::{folder, output, read};
use crate::workspace;

/// What lintian says and is meant so: the package is no part of Debian, so it closes no bug there,
/// and nobody has an address for it; libyaml is in the executable as Rust, which no package of
/// Debian has; and `deb-systemd-helper`, which is to be called in place of `systemctl`, undoes only
/// what it has done itself, while it is the operator who enables the unit.
pub(super) const ACCEPTED: [&str; 5] = [
    "initial-upload-closes-no-bugs",
    "bogus-mail-host",
    "bogus-mail-host-in-debian-changelog",
    "embedded-library",
    "maintainer-script-calls-systemctl",
];

const DOCUMENTS: &str = "usr/share/doc/lb";

/// Files and folders that stand there as in the source, so that links between documents lead to
/// the same files.
const SAME: [&str; 15] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "GLOSSARY.md",
    "docs",
    "deploy/ansible",
    "deploy/container",
    "deploy/examples",
    "deploy/grafana",
    "deploy/kubernetes",
    "deploy/prometheus",
    "deploy/routing",
    "deploy/schema",
    "deploy/systemd",
];

/// Links to these: the place where everybody looks for examples, and the schema that examples name
/// as `../schema`.
const SHORT: [(&str, &str); 2] = [("examples", "deploy/examples"), ("schema", "deploy/schema")];

/// live-build has a /usr/bin/lb, so this one is in sbin, where an administrator's command belongs.
pub(super) const PROGRAM: &str = "usr/sbin/lb";

/// What systemd reads besides the unit, and where.
const SYSTEMD: [(&str, &str); 2] = [
    ("deploy/systemd/sysusers.conf", "usr/lib/sysusers.d/lb.conf"),
    ("deploy/systemd/lb.catalog", "usr/lib/systemd/catalog/lb.catalog"),
];

/// The shells, and where they look for completions.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/lb"),
    ("zsh", "usr/share/zsh/vendor-completions/_lb"),
    ("fish", "usr/share/fish/vendor_completions.d/lb.fish"),
];

/// Returns a folder with all files where they are installed.
pub(super) fn make(lb: &Path, version: &str) -> Result<PathBuf> {
    let tree = folder().join(format!("lb-{version}"));
    workspace::remove(&tree)?;
    fill(&tree, lb, version)?;
    Ok(tree)
}

fn fill(tree: &Path, lb: &Path, version: &str) -> Result<()> {
    let program = tree.join(PROGRAM);
    put(&program, &fs::read(lb)?, 0o755)?;
    output(Command::new("strip").args(["--strip-unneeded", "--remove-section=.comment"]).arg(&program))?;
    put(&tree.join("usr/lib/systemd/system/lb.service"), unit()?.as_bytes(), 0o644)?;
    for (from, to) in SYSTEMD {
        put(&tree.join(to), read(&root().join(from))?.as_bytes(), 0o644)?;
    }
    for (shell, place) in SHELLS {
        let script = output(Command::new(lb).args(["completions", shell]))?;
        put(&tree.join(place), script.as_bytes(), 0o644)?;
    }
    manual(tree, lb)?;
    documents(tree, version)
}

/// The unit of deploy/systemd, which starts what the package installs.
fn unit() -> Result<String> {
    let unit = read(&root().join("deploy/systemd/lb.service"))?;
    let (_, unit) = unit.split_once("[Unit]").context("lb.service has no section [Unit]")?;
    Ok(format!("[Unit]{unit}").replace("/usr/local/sbin/lb", &format!("/{PROGRAM}")))
}

fn manual(tree: &Path, lb: &Path) -> Result<()> {
    let pages = tree.join("pages");
    output(Command::new(lb).args(["man", "--out"]).arg(&pages))?;
    for page in fs::read_dir(&pages)? {
        let page = page?;
        let name = page.file_name().to_string_lossy().into_owned();
        let (_, section) = name.rsplit_once('.').context("a page without a section")?;
        let place = tree.join(format!("usr/share/man/man{section}/{name}.gz"));
        put(&place, &compressed(&fs::read(page.path())?)?, 0o644)?;
    }
    workspace::remove(&pages)
}

fn documents(tree: &Path, version: &str) -> Result<()> {
    let documents = tree.join(DOCUMENTS);
    let from = root();
    put(&documents.join("copyright"), &fs::read(from.join("deploy/debian/copyright"))?, 0o644)?;
    let log = read(&from.join("deploy/debian/changelog"))?.replace("@VERSION@", version);
    put(&documents.join("changelog.gz"), &compressed(log.as_bytes())?, 0o644)?;
    for name in SAME {
        copy(&from.join(name), &documents.join(name))?;
    }
    for (link, to) in SHORT {
        symlink(to, documents.join(link)).with_context(|| format!("cannot make the link {link}"))?;
    }
    Ok(())
}

/// A file, or a folder with all that is in it. Of a link, what it leads to.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        return put(to, &content, 0o644);
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn put(file: &Path, content: &[u8], mode: u32) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(file, content).with_context(|| format!("cannot write {}", file.display()))?;
    fs::set_permissions(file, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// As the policy wants it: as small as gzip can, without name and time.
fn compressed(content: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip");
    gzip.args(["-9", "-n", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = gzip.spawn().context("cannot start gzip")?;
    let mut input = child.stdin.take().context("gzip has no input")?;
    let content = content.to_vec();
    // It may fill its output before it has read all.
    let writer = std::thread::spawn(move || input.write_all(&content));
    let done = child.wait_with_output()?;
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    ensure!(done.status.success(), "gzip failed ({})", done.status);
    Ok(done.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_the_package_starts_what_the_package_installs() {
        let unit = unit().expect("the unit");
        assert!(unit.contains("ExecStart=/usr/sbin/lb run"), "{unit}");
        assert!(!unit.contains("/usr/local"), "{unit}");
    }

    #[test]
    fn links_between_documents_lead_to_files_of_the_package() {
        let folder = tempfile::tempdir().expect("a folder");
        documents(folder.path(), "1.0").expect("the documents");
        let top = folder.path().join(DOCUMENTS);
        assert_eq!(crate::house::documents::broken_links(&top), Vec::<String>::new());
        let drop_in = "deploy/ansible/roles/lb/files/cluster.conf";
        for file in ["examples/talk.yaml", "schema/lb.schema.json", "changelog.gz", "copyright", drop_in] {
            assert!(top.join(file).exists(), "the package has no {file}");
        }
        // The role may be copied away from what it has in common with the unit.
        assert!(!top.join(drop_in).is_symlink(), "the role of the package is not whole by itself");
    }
}
