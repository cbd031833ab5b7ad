//! Modules of a kernel for its guest: the devices of the device tests, and what they stand on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::initramfs::{pack, put};

/// The devices. What a kernel has built in has no module.
const WANTED: [&str; 5] = ["veth", "bonding", "8021q", "macvlan", "bridge"];

/// Builds a part of an initramfs from the modules below `unpacked`: `/modules/…`, and their names
/// in the order to load them.
pub(super) fn make(unpacked: &Path, busybox: &Path, archive: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    find(unpacked, &mut files)?;
    let root = unpacked.join("root");
    let mut order = Vec::new();
    for name in WANTED {
        add(name, &files, busybox, &root.join("modules"), &mut order)?;
    }
    fs::create_dir_all(root.join("modules"))?;
    fs::write(root.join("modules/order"), order.join("\n"))?;
    pack(&root, busybox, archive)
}

/// All modules by name.
fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if let Some((name, _)) =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once(".ko"))
        {
            files.insert(name.replace('-', "_"), path.clone());
        }
    }
    Ok(())
}

/// Adds a module behind those that it depends on.
fn add(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    busybox: &Path,
    folder: &Path,
    order: &mut Vec<String>,
) -> Result<()> {
    let Some(file) = files.get(name).filter(|_| !order.iter().any(|there| there == name)) else {
        return Ok(());
    };
    let plain = folder.join(name);
    put(file, &plain)?;
    if file.extension().is_some_and(|extension| extension == "xz") {
        let output = Command::new(busybox).args(["unxz", "-c"]).arg(file).output()?;
        ensure!(output.status.success(), "busybox does not unpack {}", file.display());
        fs::write(&plain, output.stdout)?;
    }
    for other in depends(&fs::read(&plain)?) {
        add(&other, files, busybox, folder, order)?;
    }
    order.push(name.to_owned());
    Ok(())
}

/// The modules that a module says it depends on.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let at = module.windows(KEY.len()).position(|bytes| bytes == KEY);
    let said =
        at.map_or(&[][..], |at| module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or(&[]));
    let names = String::from_utf8_lossy(said).replace('-', "_");
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_it_depends_on() {
        assert_eq!(depends(b"ELF\0license=GPL\0depends=stp,llc\0retpoline=Y\0"), ["stp", "llc"]);
        assert_eq!(depends(b"ELF\0license=GPL\0depends=\0retpoline=Y\0"), [""; 0]);
        assert_eq!(depends(b"ELF"), [""; 0]);
    }
}
