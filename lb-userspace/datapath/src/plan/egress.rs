//! How packets leave to a server, between the configuration's words and the map's.

use lb_common::forward::egress::{Egress, TPID};
use lb_common::mac::Mac;
use lb_common::packet::vlan::Vlan;

/// The interface that a server is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Index of the device that frames leave by; `None`: the one that they come in by.
    pub other: Option<(u32, Mac)>,
    /// The VLAN that it is in on that device.
    pub vlan: Option<Vlan>,
    /// TPID of that VLAN's outer tag.
    pub tpid: u16,
    pub mtu: u32,
}

/// What the map holds; `None`: packets leave to the server as they have come. `clients`: the VLAN
/// that they come from, `server`: that of the server; `None`: the configuration does not say.
pub fn egress(clients: Option<Vlan>, server: Option<Vlan>, exit: Exit) -> Option<Egress> {
    let by_interface = exit.vlan.or(exit.other.map(|_| Vlan::UNTAGGED));
    let to = server.or(by_interface);
    if to.is_none() && clients.is_none() {
        return None;
    }
    let from = match to {
        None => clients.unwrap_or(Vlan::AS_IT_CAME),
        // Nobody is let into a VLAN from wherever he likes.
        Some(_) => clients.unwrap_or(Vlan::UNTAGGED),
    };
    let to = to.unwrap_or(Vlan::AS_IT_CAME);
    let tpid = match to.tags() {
        2 if exit.vlan != Some(to) => lb_common::forward::egress::OUTER_TPID,
        1 if exit.vlan != Some(to) => TPID,
        _ => exit.tpid,
    };
    let (device, mac) = exit.other.unwrap_or((0, Mac::NONE));
    Some(Egress { mac, device, mtu: exit.mtu, from, to, tpid: tpid.into(), reserved: 0 })
}

/// The reverse of [`egress`], as far as the map tells.
pub fn exit(egress: &Egress) -> Exit {
    Exit {
        other: (egress.device != 0).then_some((egress.device, egress.mac)),
        vlan: (!egress.to.is_as_it_came()).then_some(egress.to),
        tpid: egress.tpid as u16,
        mtu: egress.mtu,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 9]);
    const HERE: Exit = Exit { other: None, vlan: None, tpid: TPID, mtu: 1500 };
    const ELSEWHERE: Exit = Exit { other: Some((7, MAC)), ..HERE };

    /// From and to.
    fn vlans(clients: Option<u16>, server: Option<u16>, exit: Exit) -> Option<(Vlan, Vlan)> {
        let found = egress(clients.map(Vlan::single), server.map(Vlan::single), exit);
        found.map(|found| (found.from, found.to))
    }

    #[test]
    fn nobody_gets_into_another_vlan_without_being_named() {
        let (ten, twenty) = (Vlan::single(10), Vlan::single(20));
        let on_device = Exit { vlan: Some(twenty), ..HERE };
        for (clients, server, exit, expected) in [
            (None, None, HERE, None),
            (Some(10), None, HERE, Some((ten, Vlan::AS_IT_CAME))),
            (None, Some(20), HERE, Some((Vlan::UNTAGGED, twenty))),
            (Some(10), Some(20), HERE, Some((ten, twenty))),
            (Some(10), Some(0), HERE, Some((ten, Vlan::UNTAGGED))),
            (None, None, ELSEWHERE, Some((Vlan::UNTAGGED, Vlan::UNTAGGED))),
            (Some(10), None, ELSEWHERE, Some((ten, Vlan::UNTAGGED))),
            (None, None, on_device, Some((Vlan::UNTAGGED, twenty))),
            (None, Some(10), on_device, Some((Vlan::UNTAGGED, ten))),
        ] {
            assert_eq!(vlans(clients, server, exit), expected, "{clients:?} {server:?} {exit:?}");
        }
    }

    #[test]
    fn an_exit_is_found_again_in_the_map() {
        for given in [
            ELSEWHERE,
            Exit { vlan: Some(Vlan::double(100, 200)), tpid: 0x9100, ..ELSEWHERE },
            Exit { vlan: Some(Vlan::single(5)), ..HERE },
        ] {
            let made = egress(None, None, given).expect("they do not leave as they have come");
            assert_eq!(egress(None, None, exit(&made)), Some(made));
        }
        let tpid = |vlan| egress(None, Some(vlan), HERE).map(|made| made.tpid);
        assert_eq!(tpid(Vlan::single(5)), Some(0x8100));
        assert_eq!(tpid(Vlan::double(5, 6)), Some(0x88a8));
    }
}
