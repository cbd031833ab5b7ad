//! The package for Debian and what comes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use lb_lab::workspace::root;

use super::product::Product;
use super::{folder, output, read, tree};
use crate::workspace;

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Returns the product's package of the files in `tree`.
pub(super) fn build(product: &Product, tree: &Path, version: &str) -> Result<PathBuf> {
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    let control = tree.join("DEBIAN");
    fs::create_dir_all(&control)?;
    let template = read(&source(product, "control"))?;
    let text = template
        .replace("@VERSION@", version)
        .replace("@ARCHITECTURE@", architecture)
        .replace("@LIBC@", &libc_version(&fs::read(tree.join(product.program()))?)?);
    fs::write(control.join("control"), text)?;
    for script in SCRIPTS {
        let to = control.join(script);
        fs::copy(source(product, script), &to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    let package = folder().join(format!("{}_{version}_{architecture}.deb", product.name));
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "--build"]).arg(tree).arg(&package);
    output(&mut command)?;
    Ok(package)
}

/// A file that Debian's package of the product has apart from others, named as debhelper names it.
fn source(product: &Product, name: &str) -> PathBuf {
    root().join(format!("deploy/debian/{}.{name}", product.name))
}

/// lintian finds nothing.
pub(super) fn check(package: &Path) -> Result<()> {
    let mut command = Command::new("lintian");
    command.args(["--fail-on", "error,warning", "--suppress-tags", &tree::ACCEPTED.join(",")]).arg(package);
    workspace::run("lintian", &mut command)
}

/// The C library that the executable needs at least: the highest version of its symbols.
fn libc_version(executable: &[u8]) -> Result<String> {
    const MARK: &[u8] = b"GLIBC_2.";
    let starts = executable.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let minors = starts.filter_map(|(at, _)| {
        let digits = executable[at + MARK.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        String::from_utf8(digits.copied().collect()).ok()?.parse::<u32>().ok()
    });
    let highest = minors.max().context("the program is linked with no GNU C library")?;
    Ok(format!("2.{highest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_of_the_c_library_counts() {
        let text = b"..GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE";
        assert_eq!(libc_version(text).expect("a version"), "2.34");
        assert!(libc_version(b"nothing").is_err());
    }
}
