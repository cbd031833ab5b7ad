//! The guests' initramfs: the tests, the example that loads all programs, `lb`, their libraries,
//! and busybox.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::built::Built;
use crate::workspace;

/// The init script.
const INIT: &str = include_str!("init.sh");

/// Folders for mounts, and for the shell.
const FOLDERS: [&str; 6] = ["bin", "dev", "proc", "run", "sys", "tmp"];

/// Builds the initramfs in `folder` and returns the file. `arguments` are for the packet tests.
pub(super) fn make(folder: &Path, busybox: &Path, built: &Built, arguments: &[String]) -> Result<PathBuf> {
    let root = folder.join("root");
    workspace::remove(&root)?;
    for part in FOLDERS {
        fs::create_dir_all(root.join(part)).with_context(|| format!("cannot make {}", root.display()))?;
    }
    put(busybox, &root.join("bin/busybox"))?;
    let programs = [
        (&built.packets, "packets"),
        (&built.devices, "devices"),
        (&built.programs, "programs"),
        (&built.lb, "lb"),
    ];
    let mut needed = BTreeSet::new();
    for (executable, name) in programs {
        put_stripped(executable, &root.join(name))?;
        needed.extend(libraries(executable)?);
    }
    for library in needed {
        let inside = library.strip_prefix("/").context("ldd names whole paths")?;
        put(&library, &root.join(inside))?;
    }
    fs::write(root.join("environment"), environment(arguments))?;
    let init = root.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let archive = folder.join("initramfs");
    pack(&root, busybox, &archive)?;
    Ok(archive)
}

pub(super) fn put(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to).map(drop).with_context(|| format!("cannot copy {}", from.display()))
}

/// Without what is for debuggers, where that can be left out: all of it is in the guest's memory.
fn put_stripped(executable: &Path, to: &Path) -> Result<()> {
    let mut strip = Command::new("strip");
    let stripped = strip.arg("--strip-debug").arg("-o").arg(to).arg(executable).status();
    if stripped.is_ok_and(|status| status.success()) { Ok(()) } else { put(executable, to) }
}

/// The libraries that the dynamic loader would load, including the loader.
fn libraries(executable: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(executable).output().context("cannot start ldd")?;
    ensure!(output.status.success(), "ldd: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(paths(&String::from_utf8_lossy(&output.stdout)))
}

fn paths(ldd: &str) -> Vec<PathBuf> {
    let words = ldd.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

/// Environment of the tests: property tests get the same seed as on this machine.
fn environment(arguments: &[String]) -> String {
    let settings = env::vars().filter(|(name, _)| name.starts_with("PROPTEST_"));
    let fixed = [("LB_BINARY".to_owned(), "/lb".to_owned()), ("ARGUMENTS".to_owned(), arguments.join(" "))];
    let all = settings.chain(fixed);
    all.map(|(name, value)| format!("export {name}='{}'\n", value.replace('\'', r"'\''"))).collect()
}

/// Writes archives one after the other: the kernel unpacks them all.
pub(super) fn join(parts: &[&Path], whole: &Path) -> Result<()> {
    let mut file = File::create(whole).with_context(|| format!("cannot write {}", whole.display()))?;
    for part in parts {
        let bytes = fs::read(part).with_context(|| format!("cannot read {}", part.display()))?;
        file.write_all(&bytes).with_context(|| format!("cannot write {}", whole.display()))?;
    }
    Ok(())
}

/// Packs all below `root` into an archive.
pub(super) fn pack(root: &Path, busybox: &Path, archive: &Path) -> Result<()> {
    let names = names(root, Path::new("."))?;
    let file = File::create(archive).with_context(|| format!("cannot write {}", archive.display()))?;
    let mut cpio = Command::new(busybox)
        .args(["cpio", "-o", "-H", "newc"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(file)
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", busybox.display()))?;
    // cpio reads all names before it writes output.
    cpio.stdin.take().context("cpio has an input")?.write_all(names.join("\n").as_bytes())?;
    let status = cpio.wait()?;
    ensure!(status.success(), "busybox cpio failed ({status})");
    Ok(())
}

/// All paths below `folder` of `root`, parents before children.
fn names(root: &Path, folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        names.push(path.to_str().context("a name that is no text")?.to_owned());
        if entry.file_type()?.is_dir() {
            names.extend(self::names(root, &path)?);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_and_the_libraries_are_found_in_what_ldd_says() {
        let said = "\tlinux-vdso.so.1 (0x00007f95c5a12000)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f95c501e000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f95c5a14000)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(paths(said), expected.map(PathBuf::from));
    }
}
