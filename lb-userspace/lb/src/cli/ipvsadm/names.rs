//! Addresses and ports as ipvsadm writes them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use dns_lookup::getnameinfo;
use lb_model::Protocol;

/// Not asked for again: a name may take the resolver a while.
pub(super) struct Names {
    numeric: bool,
    hosts: HashMap<IpAddr, String>,
    ports: HashMap<(u16, Protocol), String>,
}

/// Longest text of an address with its port: ipvsadm's buffer.
const LONGEST: usize = 59;

impl Names {
    pub(super) fn new(numeric: bool) -> Self {
        Self { numeric, hosts: HashMap::new(), ports: HashMap::new() }
    }

    /// `192.0.2.10:80`, `[2001:db8::10]:80`; with names `www:http`, and also `[www]:http`.
    pub(super) fn socket(&mut self, address: IpAddr, port: u16, protocol: Protocol) -> String {
        let (host, port) = match self.numeric {
            true => (address.to_string(), port.to_string()),
            false => (self.host(address), self.port(port, protocol)),
        };
        let mut text = if address.is_ipv4() { format!("{host}:{port}") } else { format!("[{host}]:{port}") };
        cut(&mut text, LONGEST);
        text
    }

    fn host(&mut self, address: IpAddr) -> String {
        let name = || dns_lookup::lookup_addr(&address).unwrap_or_else(|_| address.to_string());
        self.hosts.entry(address).or_insert_with(name).clone()
    }

    fn port(&mut self, port: u16, protocol: Protocol) -> String {
        let flags = if protocol == Protocol::Udp { libc::NI_DGRAM } else { 0 } | libc::NI_NUMERICHOST;
        let socket = SocketAddr::new([127, 0, 0, 1].into(), port);
        let name = || getnameinfo(&socket, flags).map_or_else(|_| port.to_string(), |(_, service)| service);
        self.ports.entry((port, protocol)).or_insert_with(name).clone()
    }
}

/// To so many bytes.
pub(super) fn cut(text: &mut String, bytes: usize) {
    text.truncate(lb_api::words::cut(text, bytes).len());
}
