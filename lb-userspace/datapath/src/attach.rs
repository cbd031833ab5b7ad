//! The program on its interface, in the first of the wanted modes that can be had.
//!
//! The link is pinned: when the controller is killed the program goes on forwarding, and the next
//! controller puts its own program in that one's place between two packets.
//!
//! - `link`: a BPF link
//! - `pins`: where links are pinned; `file_system`: in which file system, and its mount if there is
//!   none

pub mod file_system;
mod link;
pub mod pins;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use aya::programs::Xdp;
use aya_obj::generated::{XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE};
use lb_common::mac::Mac;

use self::link::Link;
use self::pins::Pins;

/// How the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before the kernel allocates anything for the packet.
    Native,
    /// In the kernel's stack: works everywhere, several times slower.
    Generic,
}

impl Mode {
    pub const ALL: [Self; 2] = [Self::Native, Self::Generic];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Self::Native => XDP_FLAGS_DRV_MODE,
            Self::Generic => XDP_FLAGS_SKB_MODE,
        }
    }
}

/// A program on an interface. Dropped, as when lb is killed, it leaves the program there, if that
/// is pinned; [`Self::detach`] takes it off.
#[derive(Debug)]
pub struct Attachment {
    link: Link,
    mode: Mode,
    /// Index of the interface.
    interface: u32,
    pin: Option<PathBuf>,
    facts: Facts,
}

/// What came to light while the program was attached, for the caller's events.
#[derive(Debug, Default)]
pub struct Facts {
    /// The kernel's number of the program of an earlier lb whose place this one has taken.
    pub replaced: Option<u32>,
    /// Why the program is not pinned, and so goes when lb is killed.
    pub not_pinned: Option<Error>,
    /// Why the program could not have a better mode.
    pub refused: Option<String>,
}

impl Attachment {
    /// Attaches a loaded program to `interface`, whose index is `index`, in the first of these
    /// `modes` that can be had: in the place of the one that a killed lb has left there, if that is
    /// in one of them. Without a BPF file system the program is not pinned, see [`Facts`].
    pub fn new(program: &Xdp, interface: &str, index: u32, modes: &[Mode]) -> Result<Self> {
        let program = program.fd().context("the program is not loaded")?.as_fd();
        let pins = Pins::of(interface);
        if let Ok(pins) = &pins {
            pins.sweep();
            if let Some(attachment) = Self::take_over(program, pins, interface, index, modes) {
                return Ok(attachment);
            }
        }
        let (link, mode, refused) = attach(program, interface, index, modes)?;
        let (pin, not_pinned) = match pins.and_then(|pins| pin(&link, pins.path(mode))) {
            Ok(pin) => (Some(pin), None),
            Err(error) => (None, Some(error)),
        };
        let facts = Facts { replaced: None, not_pinned, refused };
        Ok(Self { link, mode, interface: index, pin, facts })
    }

    fn take_over(
        program: BorrowedFd<'_>,
        pins: &Pins,
        interface: &str,
        index: u32,
        modes: &[Mode],
    ) -> Option<Self> {
        for (mode, path) in
            Mode::ALL.into_iter().flat_map(|mode| pins.paths(mode).map(move |path| (mode, path)))
        {
            let link = match Link::open(&path) {
                Ok(link) => link,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot open {}", path.display());
                    continue;
                }
            };
            let replaced = match modes.contains(&mode) {
                true => replace(&link, program, index),
                false => Err(anyhow!("it is there in {} mode", mode.name())),
            };
            match replaced {
                Ok(before) => {
                    let facts = Facts { replaced: Some(before), ..Facts::default() };
                    return Some(Self { link, mode, interface: index, pin: Some(path), facts });
                }
                Err(error) => {
                    tracing::warn!(
                        "{interface}: the program that is on it cannot be replaced: {error:#}; attaching anew"
                    );
                    if let Err(error) = detach(&link, Some(&path)) {
                        tracing::warn!("{error:#}");
                    }
                }
            }
        }
        None
    }

    /// Puts a loaded program in the place of the one before, between two packets.
    pub fn replace_program(&self, program: &Xdp) -> Result<()> {
        let program = program.fd().context("the program is not loaded")?.as_fd();
        self.link.replace_program(program).context("cannot exchange the XDP program")
    }

    pub const fn mode(&self) -> Mode {
        self.mode
    }

    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether the program stays when lb is killed.
    pub const fn is_pinned(&self) -> bool {
        self.pin.is_some()
    }

    /// Tells whether the program is on the interface, also on another thread.
    pub fn check(&self) -> io::Result<AttachmentCheck> {
        Ok(AttachmentCheck { link: self.link.try_clone()?, interface: self.interface })
    }

    /// Takes the program off the interface, and its pin away; the maps stay pinned for another
    /// attachment.
    pub fn detach(&self) -> Result<()> {
        detach(&self.link, self.pin.as_deref())
    }

    /// As [`Self::detach`], and removes the pinned maps too: nothing is left.
    pub fn detach_for_good(&self) -> Result<()> {
        self.detach()?;
        self.pin.as_deref().map_or(Ok(()), pins::remove_maps_beside)
    }
}

/// Tells of one attached program whether it still is attached.
#[derive(Debug)]
pub struct AttachmentCheck {
    link: Link,
    interface: u32,
}

impl AttachmentCheck {
    /// Asks the kernel whether the program is on the interface: someone may have detached it, and
    /// an interface can go. A kernel that cannot answer, because it has no memory, has detached
    /// nothing: a group does not move for that.
    ///
    /// The kernel answers under a lock that others may hold for long.
    pub fn is_attached(&self) -> bool {
        self.link.interface().map_or(true, |interface| interface == Some(self.interface))
    }
}

/// The kernel's number of the program that an lb before this one has left on the interface.
pub fn left_behind(pins: &Pins, index: u32) -> Option<u32> {
    let mut paths = Mode::ALL.into_iter().flat_map(|mode| pins.paths(mode));
    paths.find_map(|path| {
        let link = Link::open(&path).ok()?;
        link.interface().ok().filter(|interface| *interface == Some(index))?;
        link.program_id().ok()
    })
}

/// Takes what an lb before this one has left off the interface. `true`: there was something.
pub fn remove_what_is_left(pins: &Pins) -> Result<bool> {
    let mut found = false;
    for path in Mode::ALL.into_iter().flat_map(|mode| pins.paths(mode)) {
        match Link::open(&path) {
            Ok(link) => {
                found = true;
                detach(&link, Some(&path))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        }
    }
    pins.remove_maps()?;
    Ok(found)
}

/// Takes the program off whose link is pinned at `link`, on an interface that packets came in by
/// besides the main one.
pub fn detach_pinned(link: &Path) -> Result<()> {
    let opened = Link::open(link).with_context(|| format!("cannot open {}", link.display()))?;
    detach(&opened, Some(link))
}

/// The link, its mode, and why the first mode could not be had.
fn attach(
    program: BorrowedFd<'_>,
    interface: &str,
    index: u32,
    modes: &[Mode],
) -> Result<(Link, Mode, Option<String>)> {
    let mut refused = Vec::new();
    for &mode in modes {
        match Link::create(program, index, mode.flags()) {
            Ok(link) => return Ok((link, mode, refused.into_iter().next())),
            Err(error) => refused.push(format!("{}: {error}", mode.name())),
        }
    }
    let hint = match modes {
        [Mode::Native] => "; `xdp_mode: auto` uses generic mode where the driver can do no better",
        _ => "",
    };
    bail!(
        "interface {interface}: XDP cannot be attached ({}); is another XDP program on it? `ip link show {interface}` \
         tells{hint}",
        refused.join(", ")
    )
}

/// Puts `program` in the place of the link's own; returns that one's number.
fn replace(link: &Link, program: BorrowedFd<'_>, index: u32) -> Result<u32> {
    let interface = link.interface()?;
    // The interface may have got another name, and another one its name.
    ensure!(interface == Some(index), "it is not on this interface any more");
    let before = link.program_id()?;
    link.replace_program(program)?;
    Ok(before)
}

fn pin(link: &Link, path: PathBuf) -> Result<PathBuf> {
    link.pin(&path).with_context(|| format!("cannot pin it to {}", path.display()))?;
    Ok(path)
}

/// The pin goes first: another lb would take a pinned link without interface for one that is left
/// over, and remove it with the maps beside it.
fn detach(link: &Link, pin: Option<&Path>) -> Result<()> {
    pin.map_or(Ok(()), pins::remove)?;
    link.detach().context("cannot detach the XDP program")
}

/// The interface's own MAC. Asked by getifaddrs(3), because /sys may show another network
/// namespace's interfaces.
pub fn mac_of(interface: &str) -> Result<Mac> {
    let addresses = nix::ifaddrs::getifaddrs().context("cannot list the interfaces")?;
    addresses
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr()?.addr().map(Mac::new))
        .with_context(|| format!("interface {interface}: it has no Ethernet address"))
}
