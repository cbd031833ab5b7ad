//! The program on its interface: native if the driver can, generic with a warning if not.

use anyhow::{Context as _, Result};
use aya::programs::{Xdp, XdpMode};
use nix::net::if_::if_nametoindex;

/// How the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before the kernel allocates anything for the packet.
    Native,
    /// In the kernel's stack: works everywhere, several times slower.
    Generic,
}

impl Mode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// Attaches `program` to `interface`; it stays until the program is dropped.
pub fn attach(program: &mut Xdp, interface: &str) -> Result<Mode> {
    let index = if_nametoindex(interface)
        .with_context(|| format!("interface {interface}: not found; `ip link` lists those there are"))?;
    let native = match program.attach_to_if_index(index, XdpMode::Driver) {
        Ok(_) => return Ok(Mode::Native),
        Err(error) => anyhow::Error::new(error),
    };
    tracing::warn!(
        interface,
        reason = format!("{native:#}"),
        "no native XDP on {interface}; using generic mode, which costs several times as much per packet"
    );
    program.attach_to_if_index(index, XdpMode::Skb).with_context(|| {
        format!("interface {interface}: XDP cannot be attached (native: {native:#}); is another XDP program on it? `ip link show {interface}` tells")
    })?;
    Ok(Mode::Generic)
}

/// The interface's own MAC. Asked by getifaddrs(3), because /sys may show another network namespace's interfaces.
pub fn mac_of(interface: &str) -> Result<[u8; 6]> {
    let addresses = nix::ifaddrs::getifaddrs().context("cannot list the interfaces")?;
    addresses
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr()?.addr())
        .with_context(|| format!("interface {interface}: it has no Ethernet address"))
}
