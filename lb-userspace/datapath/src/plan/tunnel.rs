//! Tunnels between the configuration's words and the map's.

use std::net::IpAddr;

use lb_common::forward::tunnel::{Kind, Tunnel};
use lb_model::SourcePrefix;

/// What the map holds of the tunnel to the server at `server`; `source` is this director's address
/// towards it, `mtu` that of its route.
pub fn tunnel(server: IpAddr, config: &lb_model::Tunnel, source: IpAddr, mtu: u32) -> Tunnel {
    let mask = |prefix: SourcePrefix| u32::MAX.checked_shr(32 - prefix.free_bits().min(32)).unwrap_or(0);
    Tunnel {
        source: config.source.map_or(source, |prefix| prefix.address).into(),
        destination: server.into(),
        source_mask: config.source.map_or(0, mask),
        mtu: config.mtu.map_or(mtu, |most| mtu.min(most.into())),
        port: config.port.to_be(),
        kind: config.kind as u8,
        ..Tunnel::UNSET
    }
}

/// The reverse of [`tunnel`], as far as the map tells; `None`: it holds no tunnel.
pub fn config(tunnel: &Tunnel) -> Option<lb_model::Tunnel> {
    let kind = Kind::from_number(tunnel.kind)?;
    let address = IpAddr::from(tunnel.source);
    let all = if address.is_ipv4() { 32 } else { 128 };
    let prefix = SourcePrefix { address, length: all - tunnel.source_mask.count_ones() as u8 };
    Some(lb_model::Tunnel {
        kind,
        port: u16::from_be(tunnel.port),
        mtu: None,
        source: (tunnel.source_mask != 0).then_some(prefix),
    })
}

#[cfg(test)]
mod tests {
    use lb_model::TunnelKind;

    use super::*;

    #[test]
    fn a_tunnel_is_found_again_in_the_map() {
        let (server, own): (IpAddr, IpAddr) = ([198, 51, 100, 7].into(), [192, 0, 2, 5].into());
        let given =
            lb_model::Tunnel { port: 6081, mtu: Some(1400), ..lb_model::Tunnel::new(TunnelKind::Gue) };
        let made = tunnel(server, &given, own, 1500);
        assert_eq!((IpAddr::from(made.source), IpAddr::from(made.destination)), (own, server));
        assert_eq!((made.mtu, made.source_mask), (1400, 0));
        assert_eq!(tunnel(server, &given, own, 1300).mtu, 1300, "never more than the route's");
        assert_eq!(config(&made), Some(lb_model::Tunnel { mtu: None, ..given }));
        assert_eq!(config(&Tunnel::UNSET), None);
        for (address, length, mask) in [
            ("172.16.0.0", 16, 0xffff),
            ("172.16.0.1", 32, 0),
            ("128.0.0.0", 1, 0x7fff_ffff),
            ("fd00::", 96, u32::MAX),
            ("fd00::", 64, u32::MAX),
            ("fd00::", 120, 0xff),
        ] {
            let source = SourcePrefix { address: address.parse().expect(address), length };
            let given = lb_model::Tunnel { source: Some(source), ..lb_model::Tunnel::new(TunnelKind::Ipip) };
            let made = tunnel(server, &given, own, 1500);
            assert_eq!((made.source_mask, IpAddr::from(made.source)), (mask, source.address), "{source:?}");
            let again = config(&made).expect("a tunnel");
            assert_eq!(tunnel(server, &again, made.source.into(), 1500), made);
        }
    }
}
