//! Clients whose packets come with checksums that were left to hardware: servers drop them,
//! although all else is well.
//!
//! The mode is not changed for their sake: anybody can send such packets, and generic mode is slow.

use std::net::IpAddr;
use std::time::Duration;

use lb_api::findings::{Finding, Findings, Kind};
use lb_common::packet::partial_checksum::Seen;
use lb_common::reason::TableEvent;
use lb_datapath::attach::Mode;
use lb_model::Config;

use super::forwarder::Forwarder;

/// How long a client is told of after its last new connection.
const LASTS: Duration = Duration::from_secs(60);

/// Watches for such clients.
#[derive(Debug, Default)]
pub(super) struct Checksums {
    /// Connections that began with an unfinished checksum, at the last check.
    seen: u64,
}

impl Checksums {
    /// Raises a finding about what the program has seen since the last check.
    pub(super) fn check(
        &mut self,
        config: &Config,
        forwarder: &Forwarder,
        mode: Option<Mode>,
        findings: &Findings,
    ) {
        let Ok(seen) = forwarder.counters().event(TableEvent::PartialChecksum) else { return };
        let grown = std::mem::replace(&mut self.seen, seen) < seen;
        // In generic mode the kernel keeps the mark that they are unfinished, and finishes them.
        if grown && mode == Some(Mode::Native) {
            let last = forwarder.partial_checksum();
            if is_for_a_service(&last, config) {
                let client = IpAddr::from(last.source);
                findings.raise_for(finding(client, &config.interface), LASTS);
            }
        }
    }
}

/// What is for the host's other ports gets there with its mark.
fn is_for_a_service(last: &Seen, config: &Config) -> bool {
    let Seen { source: _, destination, destination_port, protocol, reserved: _ } = *last;
    let vip = IpAddr::from(destination);
    config.services.iter().any(|service| {
        let protocol_is = u16::from(service.key.protocol.number()) == protocol;
        service.key.vip == vip && service.ports.contains(u16::from_be(destination_port)) && protocol_is
    })
}

fn finding(client: IpAddr, interface: &str) -> Finding {
    Finding {
        kind: Kind::ChecksumsUnfinished,
        subject: client.to_string(),
        text: format!(
            "packets of client {client} come with checksums that were left to hardware (offload), which native XDP on \
             {interface} forwards unfinished: servers drop them"
        ),
        mend: format!(
            "set `xdp_mode: generic`, or switch the offload off where the client's packets are made, a container or VM of \
             this machine (ethtool --offload INTERFACE tx off), or on the far end of {interface}, for all of them"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use lb_common::addr::V6;

    use super::*;

    #[test]
    fn only_packets_for_a_service_count() {
        let text =
            "interface: eth0\nservices: [{ vip: '192.0.2.10:80', servers: [{ address: 192.0.2.21 }] }]\n";
        let config = lb_config::parse(text, "test.yaml").expect("a configuration");
        let address = |last| V6::from(IpAddr::from(Ipv4Addr::new(192, 0, 2, last)));
        let web = Seen {
            source: address(1),
            destination: address(10),
            destination_port: 80_u16.to_be(),
            protocol: 6,
            reserved: 0,
        };
        assert!(is_for_a_service(&web, &config));
        assert!(!is_for_a_service(&Seen { protocol: 17, ..web }, &config));
        assert!(!is_for_a_service(&Seen { destination_port: 22_u16.to_be(), ..web }, &config));
        assert!(!is_for_a_service(&Seen { destination: address(7), ..web }, &config));
    }
}
