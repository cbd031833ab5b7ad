//! Other interfaces of this host on the VIPs' segment. Linux answers ARP for any address of the host on any interface; an
//! answer with the MAC of one on which no XDP program runs leads clients past the balancer.
//!
//! `arp_ignore` 1 keeps an interface to its own addresses
//! (<https://docs.kernel.org/networking/ip-sysctl.html>, `arp_ignore`). It is set on an interface that was heard to answer
//! on the segment, and on no other. It stays when `lb` is killed, as the VIPs do.

use std::fs;
use std::io;

use nix::ifaddrs::getifaddrs;

/// The interface of this network namespace that has the MAC, other than `besides`.
pub(super) fn with_mac(mac: [u8; 6], besides: &str) -> Option<String> {
    let entries = getifaddrs().ok()?;
    let has_it = |entry: &nix::ifaddrs::InterfaceAddress| {
        entry.address.as_ref().and_then(|address| address.as_link_addr()?.addr()) == Some(mac)
    };
    entries.filter(has_it).map(|entry| entry.interface_name).find(|name| name != besides)
}

/// The interface's own IPv4 addresses that are not `except`.
pub(super) fn ipv4_of(
    interface: &str,
    except: impl Fn(std::net::Ipv4Addr) -> bool,
) -> Vec<std::net::Ipv4Addr> {
    let Ok(entries) = getifaddrs() else { return Vec::new() };
    let of_it = entries.filter(|entry| entry.interface_name == interface);
    let addresses = of_it.filter_map(|entry| Some(entry.address?.as_sockaddr_in()?.ip()));
    addresses.filter(|address| !except(*address)).collect()
}

/// Has the interface answer ARP for its own addresses alone.
///
/// # Errors
/// `/proc/sys` cannot be written, as in most containers.
pub(super) fn silence(interface: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/arp_ignore"), "1")
}
