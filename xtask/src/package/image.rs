//! A product's image for containers: an OCI layout with the executable, what it is linked with, and
//! the certificates that TLS trusts. No shell: external checks and hooks of `lb` need an image that
//! has one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::product::Product;
use super::{folder, output};
use crate::workspace;

const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const TAG: &str = "latest";

/// Returns the layout's folder.
pub(super) fn build(product: &Product, tree: &Path, version: &str) -> Result<PathBuf> {
    let (layout, root) = (folder().join(format!("{}-image", product.name)), folder().join("image-root"));
    for old in [&layout, &root] {
        workspace::remove(old)?;
    }
    let program = root.join(product.program());
    copy(&tree.join(product.program()), &program)?;
    for library in libraries(&program)? {
        copy(&library, &root.join(library.strip_prefix("/")?))?;
    }
    copy(Path::new(CERTIFICATES), &root.join(CERTIFICATES.trim_start_matches('/')))?;

    let image = format!("{}:{TAG}", layout.display());
    umoci(&["init", "--layout", &layout.display().to_string()])?;
    umoci(&["new", "--image", &image])?;
    for top in fs::read_dir(&root)? {
        let top = top?;
        let inside = format!("/{}", top.file_name().to_string_lossy());
        umoci(&["insert", "--image", &image, &top.path().display().to_string(), &inside])?;
    }
    let entry = product.command();
    let mut config = vec!["config", "--image", &image, "--config.entrypoint", &entry];
    for &word in product.arguments {
        config.extend(["--config.cmd", word]);
    }
    let label = format!("org.opencontainers.image.version={version}");
    config.extend(["--config.label", &label]);
    umoci(&config)?;
    workspace::remove(&root)?;
    Ok(layout)
}

/// skopeo reads the layout, and what umoci unpacks of it runs.
pub(super) fn check(product: &Product, layout: &Path) -> Result<()> {
    let image = format!("oci:{}:{TAG}", layout.display());
    let said = output(Command::new("skopeo").args(["inspect", "--config"]).arg(&image))?;
    let entry = product.command();
    ensure!(said.contains(&entry), "the image has no entry point: {said}");
    let bundle = folder().join("bundle");
    workspace::remove(&bundle)?;
    let image = format!("{}:{TAG}", layout.display());
    umoci(&["unpack", "--image", &image, &bundle.display().to_string()])?;
    let mut command = Command::new("chroot");
    let said = output(command.arg(bundle.join("rootfs")).args([&*entry, "--version"]))?;
    ensure!(said.starts_with(&format!("{} ", product.name)), "{entry} --version says {said:?}");
    workspace::remove(&bundle)
}

fn umoci(words: &[&str]) -> Result<()> {
    output(Command::new("umoci").args(words)).map(drop)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a folder")?;
    fs::create_dir_all(folder)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display())).map(drop)
}

/// What the executable is linked with, as ldd(1) finds it here.
fn libraries(executable: &Path) -> Result<Vec<PathBuf>> {
    let said = output(Command::new("ldd").arg(executable))?;
    let libraries: Vec<_> =
        said.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
    ensure!(!libraries.is_empty(), "ldd finds no libraries: {said}");
    Ok(libraries)
}
