//! Where links are pinned: files in the BPF file system that keep a program on its interface
//! without a process.
//!
//! `/sys/fs/bpf/lb/NAMESPACE-INTERFACE-MODE` ([`file_system`] knows of another place): interfaces
//! belong to a network namespace (here by its inode), the file system is shared by all of them. A
//! link does not tell its mode, so its name does. The maps that the next `lb` goes on with are
//! pinned in `NAMESPACE-INTERFACE-maps`: to find them through the program would take CAP_SYS_ADMIN.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Mode;
use super::file_system::{self, Mounted};
use super::link::Link;

/// The pins of one interface, and the folders that they share with others.
#[derive(Debug)]
pub struct Pins {
    /// New ones go here.
    folder: PathBuf,
    /// Where an earlier `lb` may have pinned.
    folders: Vec<PathBuf>,
    namespace: u64,
    stem: String,
    mounted: Option<Mounted>,
}

impl Pins {
    /// # Errors
    /// There is no BPF file system that can be written to, and none can be mounted.
    pub fn of(interface: &str) -> Result<Self> {
        let (folder, mounted) = file_system::folder()?;
        // The thread's own, as interfaces are looked up.
        let namespace =
            fs::metadata("/proc/thread-self/ns/net").context("cannot tell the network namespace")?.ino();
        let folders = file_system::folders().collect();
        let stem = format!("{namespace}-{}", without_dots(interface));
        Ok(Self { folder, folders, namespace, stem, mounted })
    }

    /// The BPF file system that was mounted for these pins.
    pub const fn mounted(&self) -> Option<&Mounted> {
        self.mounted.as_ref()
    }

    /// Where a link is to be pinned.
    pub fn path(&self, mode: Mode) -> PathBuf {
        self.folder.join(self.name(mode))
    }

    /// The folder of the maps that the next `lb` goes on with.
    pub fn maps(&self) -> PathBuf {
        self.folder.join(format!("{}-{MAPS}", self.stem))
    }

    /// The folder of those that an `lb` before left, while another one is about to take over.
    pub fn maps_before(&self) -> PathBuf {
        self.folder.join(format!("{}-{BEFORE}", self.stem))
    }

    /// Removes all maps that an `lb` may have left.
    pub fn remove_maps(&self) -> Result<()> {
        while let Some(folder) = self.left_maps() {
            remove_maps(&folder)?;
        }
        Ok(())
    }

    /// Where an `lb` may have left maps. A start that came to nothing has moved them.
    pub fn left_maps(&self) -> Option<PathBuf> {
        let folders = self.folders.iter();
        let mut places = folders
            .flat_map(|folder| [BEFORE, MAPS].map(|kind| folder.join(format!("{}-{kind}", self.stem))));
        places.find(|place| place.is_dir())
    }

    /// Where one may have been pinned.
    pub fn paths(&self, mode: Mode) -> impl Iterator<Item = PathBuf> {
        self.folders.iter().map(move |folder| folder.join(self.name(mode)))
    }

    /// The interfaces of this network namespace with a link beside which no maps are pinned, and
    /// the link: `lb` had packets come in by them besides the main one.
    pub fn without_maps(&self) -> Vec<(String, PathBuf)> {
        let entries = self.folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        let links = entries.flatten().map(|entry| entry.path()).filter(|path| is_pin(path));
        let without = links.filter(|path| !maps_beside(path).into_iter().any(|folder| folder.is_dir()));
        without.filter_map(|path| Some((interface_of(&path, self.namespace)?, path))).collect()
    }

    fn name(&self, mode: Mode) -> String {
        format!("{}-{}", self.stem, mode.name())
    }

    /// Removes pins whose interface is gone: each keeps a program and its connection table in the
    /// kernel's memory.
    pub fn sweep(&self) {
        let entries =
            self.folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
        for path in entries.map(|entry| entry.path()).filter(|path| is_pin(path) && is_defunct(path)) {
            // Whoever has removed the pin looks after the maps.
            let removed = match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                removed => removed.with_context(|| format!("cannot remove {}", path.display())),
            };
            match removed.and_then(|()| remove_maps_beside(&path)) {
                Ok(()) => tracing::info!("{} removed: its interface is gone", path.display()),
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
    }
}

/// Maps are pinned in these folders, under their names.
const MAPS: &str = "maps";
const BEFORE: &str = "before";

/// The maps of the link that is pinned at `link`.
pub fn remove_maps_beside(link: &Path) -> Result<()> {
    maps_beside(link).iter().try_for_each(|folder| remove_maps(folder))
}

fn maps_beside(link: &Path) -> Vec<PathBuf> {
    let name = link.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let Some((stem, _)) = name.rsplit_once('-') else { return Vec::new() };
    [MAPS, BEFORE].map(|kind| link.with_file_name(format!("{stem}-{kind}"))).into()
}

/// The BPF file system removes no folder with what is in it.
pub fn remove_maps(folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot list {}", folder.display()))?,
    };
    entries.flatten().try_for_each(|entry| remove(&entry.path()))?;
    fs::remove_dir(folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// One that is gone already was of a link without interface, and another lb was faster.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The BPF file system keeps names with dots for itself, and no interface's name has a colon.
fn without_dots(interface: &str) -> String {
    interface.replace('.', ":")
}

/// The reverse of how a link is named; `None`: it is another network namespace's.
fn interface_of(link: &Path, namespace: u64) -> Option<String> {
    let name = link.file_name()?.to_str()?;
    let rest = name.strip_prefix(&namespace.to_string())?.strip_prefix('-')?;
    Some(rest.rsplit_once('-')?.0.replace(':', "."))
}

fn is_pin(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.rsplit_once('-').is_some_and(|(_, mode)| Mode::ALL.iter().any(|known| known.name() == mode))
}

fn is_defunct(path: &Path) -> bool {
    Link::open(path).and_then(|link| link.interface()).is_ok_and(|interface| interface.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_with_dots_become_names_that_can_be_pinned() {
        let pins = Pins {
            folder: "/sys/fs/bpf/lb".into(),
            folders: vec!["/sys/fs/bpf/lb".into(), "/run/lb/bpf/lb".into()],
            namespace: 4_026_531_840,
            stem: format!("4026531840-{}", without_dots("eth0.100")),
            mounted: None,
        };
        let path = pins.path(Mode::Native);
        assert_eq!(path, Path::new("/sys/fs/bpf/lb/4026531840-eth0:100-native"));
        assert!(is_pin(&path));
        assert_eq!(interface_of(&path, 4_026_531_840).as_deref(), Some("eth0.100"));
        assert_eq!(interface_of(&path, 402), None, "of another network namespace");
        assert!(!is_pin(Path::new("/sys/fs/bpf/lb/somebody-elses")));
        assert_eq!(
            pins.paths(Mode::Native).nth(1).as_deref(),
            Some(Path::new("/run/lb/bpf/lb/4026531840-eth0:100-native"))
        );
    }
}
