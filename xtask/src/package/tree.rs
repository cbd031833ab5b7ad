//! The files that are installed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use lb_lab::workspace::root;

use super::product::Product;
use super::{folder, output, read};
use crate::workspace;

/// What lintian says and is meant so: a package is no part of Debian, so it closes no bug there,
/// and nobody has an address for it; libyaml is in the executables as Rust, which no package of
/// Debian has; and `deb-systemd-helper`, which is to be called in place of `systemctl`, undoes only
/// what it has done itself, while it is the operator who enables the unit.
pub(super) const ACCEPTED: [&str; 5] = [
    "initial-upload-closes-no-bugs",
    "bogus-mail-host",
    "bogus-mail-host-in-debian-changelog",
    "embedded-library",
    "maintainer-script-calls-systemctl",
];

/// The shells, and where they look for completions of a program.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/@NAME@"),
    ("zsh", "usr/share/zsh/vendor-completions/_@NAME@"),
    ("fish", "usr/share/fish/vendor_completions.d/@NAME@.fish"),
];

/// Returns a folder with all files where they are installed. `built` is the product's program.
pub(super) fn make(product: &Product, built: &Path, version: &str) -> Result<PathBuf> {
    let tree = folder().join(format!("{}-{version}", product.name));
    workspace::remove(&tree)?;
    fill(&tree, product, built, version)?;
    Ok(tree)
}

fn fill(tree: &Path, product: &Product, built: &Path, version: &str) -> Result<()> {
    let program = tree.join(product.program());
    put(&program, &fs::read(built)?, 0o755)?;
    output(Command::new("strip").args(["--strip-unneeded", "--remove-section=.comment"]).arg(&program))?;
    put(&tree.join(product.unit()), unit(product)?.as_bytes(), 0o644)?;
    for (from, to) in product.systemd {
        put(&tree.join(to), read(&root().join(from))?.as_bytes(), 0o644)?;
    }
    settings(tree, product)?;
    for (shell, place) in SHELLS {
        let script = output(Command::new(built).args(product.completions).arg(shell))?;
        put(&tree.join(place.replace("@NAME@", product.name)), script.as_bytes(), 0o644)?;
    }
    manual(tree, product, built)?;
    documents(tree, product, version)
}

/// The product's unit of deploy/systemd, which starts what the package installs.
fn unit(product: &Product) -> Result<String> {
    let name = product.name;
    let unit = read(&root().join(format!("deploy/systemd/{name}.service")))?;
    let (_, unit) = unit.split_once("[Unit]").context("the unit has no section [Unit]")?;
    Ok(format!("[Unit]{unit}").replace(&format!("/usr/local/sbin/{name}"), &product.command()))
}

/// The folder of the configuration. All may look into it: what is secret there has a mode of its
/// own.
fn settings(tree: &Path, product: &Product) -> Result<()> {
    let folder = tree.join(product.settings());
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn manual(tree: &Path, product: &Product, built: &Path) -> Result<()> {
    let pages = tree.join("pages");
    output(Command::new(built).args(product.manual).arg(&pages))?;
    for page in fs::read_dir(&pages)? {
        let page = page?;
        let name = page.file_name().to_string_lossy().into_owned();
        let (_, section) = name.rsplit_once('.').context("a page without a section")?;
        let place = tree.join(format!("usr/share/man/man{section}/{name}.gz"));
        put(&place, &compressed(&fs::read(page.path())?)?, 0o644)?;
    }
    workspace::remove(&pages)
}

fn documents(tree: &Path, product: &Product, version: &str) -> Result<()> {
    let documents = tree.join(product.documents());
    let from = root();
    put(&documents.join("copyright"), &fs::read(from.join("deploy/debian/copyright"))?, 0o644)?;
    let log = read(&from.join("deploy/debian/changelog"))?;
    let log = log.replace("@NAME@", product.name).replace("@VERSION@", version);
    put(&documents.join("changelog.gz"), &compressed(log.as_bytes())?, 0o644)?;
    for name in product.same {
        copy(&from.join(name), &documents.join(name))?;
    }
    for (manifest, key, place) in product.held {
        put(&documents.join(place), held(manifest, key)?.as_bytes(), 0o644)?;
    }
    for (link, to) in product.links {
        symlink(to, documents.join(link)).with_context(|| format!("cannot make the link {link}"))?;
    }
    Ok(())
}

/// The file that a ConfigMap holds under this key, as a block of text.
fn held(manifest: &str, key: &str) -> Result<String> {
    let text = read(&root().join(manifest))?;
    let begin = format!("\n  {key}: |\n");
    let (_, rest) = text.split_once(&begin).with_context(|| format!("{manifest} has no {key}"))?;
    let lines = rest.lines().map_while(|line| line.strip_prefix("    "));
    Ok(lines.map(|line| format!("{line}\n")).collect())
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
    use super::super::product::{ALL, LB, LB_KUBE};
    use super::*;

    #[test]
    fn the_unit_of_a_package_starts_what_the_package_installs() {
        for product in ALL {
            let unit = unit(product).expect("the unit");
            assert!(unit.contains(&format!("\nExecStart=/usr/sbin/{} ", product.name)), "{unit}");
            assert!(!unit.contains("/usr/local"), "{unit}");
        }
    }

    #[test]
    fn links_between_documents_lead_to_files_of_the_package() {
        let folder = tempfile::tempdir().expect("a folder");
        documents(folder.path(), &LB, "1.0").expect("the documents");
        let top = folder.path().join(LB.documents());
        assert_eq!(crate::house::documents::broken_links(&top), Vec::<String>::new());
        let drop_in = "deploy/ansible/roles/lb/files/cluster.conf";
        for file in ["examples/talk.yaml", "schema/lb.schema.json", "changelog.gz", "copyright", drop_in] {
            assert!(top.join(file).exists(), "the package has no {file}");
        }
        // The role may be copied away from what it has in common with the unit.
        assert!(!top.join(drop_in).is_symlink(), "the role of the package is not whole by itself");
    }

    #[test]
    fn examples_of_lb_kube_have_the_pools_as_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        documents(folder.path(), &LB_KUBE, "1.0").expect("the documents");
        let top = folder.path().join(LB_KUBE.documents());
        for file in ["examples/account.yaml", "examples/example/service.yaml", "changelog.gz", "copyright"] {
            assert!(top.join(file).exists(), "the package has no {file}");
        }
        let pools = read(&top.join("examples/config.yaml")).expect("the pools");
        assert!(pools.contains("\npools:\n  - name: public\n"), "{pools}");
        assert!(pools.ends_with("\n    auto_assign: true\n"), "{pools}");
    }

    #[test]
    fn the_folder_of_the_configuration_is_for_all_to_look_into() {
        let folder = tempfile::tempdir().expect("a folder");
        for product in ALL {
            settings(folder.path(), product).expect("the folder");
            let made = folder.path().join("etc").join(product.name);
            let mode = fs::metadata(made).expect("a folder").permissions().mode();
            assert_eq!(mode & 0o7777, 0o755, "{}", product.name);
        }
    }
}
