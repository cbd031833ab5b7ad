//! Other interfaces of this host on the VIPs' segment. Linux answers ARP for any address of the
//! host on any interface (ARP flux); an answer with the MAC of an interface without the XDP program
//! leads clients past the balancer.
//!
//! `arp_ignore` 1 keeps an interface to its own addresses
//! (<https://docs.kernel.org/networking/ip-sysctl.html>, `arp_ignore`). `lb` sets it only on an
//! interface that has answered on the segment. The setting outlives `lb` if that is killed, as the
//! VIPs do.

use std::fs;
use std::io;

use lb_common::mac::Mac;
use nix::ifaddrs::getifaddrs;

/// The interface of this network namespace with this MAC, except `besides`.
pub(super) fn with_mac(mac: Mac, besides: &str) -> Option<String> {
    let entries = getifaddrs().ok()?;
    let has_it = |entry: &nix::ifaddrs::InterfaceAddress| {
        entry.address.as_ref().and_then(|address| address.as_link_addr()?.addr()) == Some(mac.octets())
    };
    entries.filter(has_it).map(|entry| entry.interface_name).find(|name| name != besides)
}

/// The interface's own IPv4 addresses, without `except`.
pub(super) fn ipv4_of(
    interface: &str,
    except: impl Fn(std::net::Ipv4Addr) -> bool,
) -> Vec<std::net::Ipv4Addr> {
    let Ok(entries) = getifaddrs() else { return Vec::new() };
    let of_it = entries.filter(|entry| entry.interface_name == interface);
    let addresses = of_it.filter_map(|entry| Some(entry.address?.as_sockaddr_in()?.ip()));
    addresses.filter(|address| !except(*address)).collect()
}

/// Makes the interface answer ARP only for its own addresses.
///
/// # Errors
/// `/proc/sys` cannot be written, as in most containers.
pub(super) fn silence(interface: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/arp_ignore"), "1")
}
