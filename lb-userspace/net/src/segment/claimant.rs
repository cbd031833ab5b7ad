//! Identifies the claimant of a VIP that this director holds, and describes the conflict for the
//! operator.

use std::collections::HashMap;
use std::net::IpAddr;

use lb_api::findings::{Finding, Kind};
use lb_common::mac::Mac;

use super::claims::Claim;

/// A machine of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// A real server.
    Server { name: String, address: IpAddr },
    /// Another director of the cluster.
    Director(String),
}

/// Machines by MAC; several machines may have the same MAC.
pub type Machines = HashMap<Mac, Vec<Machine>>;

/// The sender of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimant {
    /// Another interface of this host.
    OwnInterface(String),
    Known(Machine),
    Unknown,
}

impl Claimant {
    /// A machine that is both director and real server counts as a director: it may hold the VIP on
    /// purpose.
    pub fn of(claim: &Claim, machines: &Machines, own_interface: Option<String>) -> Self {
        if let Some(name) = own_interface {
            return Self::OwnInterface(name);
        }
        let known = machines.get(&claim.mac).into_iter().flatten();
        known.max().cloned().map_or(Self::Unknown, Self::Known)
    }

    /// Whether the claimant may hold the VIP on purpose. Real servers and other interfaces of this
    /// host answer by mistake.
    pub const fn may_be_a_rival(&self) -> bool {
        matches!(self, Self::Unknown | Self::Known(Machine::Director(_)))
    }

    /// The finding for a claim; `interface` is the interface with the XDP program.
    pub fn finding(&self, claim: &Claim, interface: &str) -> Finding {
        let Claim { address: vip, mac } = claim;
        let (kind, text, mend) = match self {
            Self::OwnInterface(name) => (
                Kind::VipOnOtherInterface,
                format!(
                    "interface {name} of this host is on the same segment as {interface} and answers ARP for {vip} \
                     with its own MAC {mac}: packets that come in by {name} are not balanced"
                ),
                format!("sysctl -w net.ipv4.conf.{name}.arp_ignore=1"),
            ),
            Self::Known(Machine::Server { name, address }) => {
                let (answers, mend) = if vip.is_ipv4() {
                    (
                        "ARP",
                        "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"
                            .to_owned(),
                    )
                } else {
                    (
                        "neighbour solicitations",
                        format!(
                            "remove {vip} from the interface, and add it to lo: ip -6 address add {vip}/128 dev lo"
                        ),
                    )
                };
                let text = format!(
                    "real server {name} ({address}, MAC {mac}) answers {answers} for VIP {vip}: clients bypass the \
                     director"
                );
                (Kind::VipClaimed, text, format!("on {name}: {mend}"))
            }
            Self::Known(Machine::Director(name)) => (
                Kind::VipClaimed,
                format!("director {name} (MAC {mac}) also announces VIP {vip}, which this director holds"),
                format!(
                    "run `lb status` on {name}: do the directors receive each other's heartbeats, and do \
                     they have the same keys?"
                ),
            ),
            Self::Unknown => (
                Kind::VipClaimed,
                format!("an unknown machine with MAC {mac} also has VIP {vip}, which this director holds"),
                "find it, for example in the switch's MAC table, and remove the address from it".to_owned(),
            ),
        };
        Finding { kind, subject: format!("{vip} at {mac}"), text, mend }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac::new([2, 0, 10, 77, 0, 21]);

    fn claim() -> Claim {
        Claim { address: [10, 77, 0, 6].into(), mac: MAC }
    }

    fn server() -> Machine {
        Machine::Server { name: "w1".to_owned(), address: [10, 77, 0, 21].into() }
    }

    #[test]
    fn the_finding_names_who_it_is_and_what_to_do() {
        let of = |machines: &[Machine], own: Option<&str>| {
            let machines = Machines::from([(MAC, machines.to_vec())]);
            let claimant = Claimant::of(&claim(), &machines, own.map(str::to_owned));
            let Finding { kind, text, mend, .. } = claimant.finding(&claim(), "eth0");
            (kind, text, mend, claimant.may_be_a_rival())
        };
        let (kind, text, mend, rival) = of(&[server()], None);
        assert_eq!((kind, rival), (Kind::VipClaimed, false));
        assert!(
            text.starts_with(
                "real server w1 (10.77.0.21, MAC 02:00:0a:4d:00:15) answers ARP for VIP 10.77.0.6"
            )
        );
        assert!(mend.starts_with("on w1: sysctl -w net.ipv4.conf.all.arp_ignore=1"), "{mend}");

        let vip = Claim { address: "2001:db8::6".parse().expect("an address"), mac: MAC };
        let Finding { text, mend, .. } = Claimant::Known(server()).finding(&vip, "eth0");
        assert!(text.contains(") answers neighbour solicitations for VIP 2001:db8::6"), "{text}");
        assert!(mend.ends_with("ip -6 address add 2001:db8::6/128 dev lo"), "{mend}");

        let (_, text, _, rival) = of(&[Machine::Director("ha2".to_owned()), server()], None);
        assert!(text.starts_with("director ha2 (MAC") && rival, "{text}");
        let (_, text, _, rival) = of(&[], None);
        assert!(text.starts_with("an unknown machine with MAC 02:00:0a:4d:00:15") && rival, "{text}");
        let (kind, _, mend, rival) = of(&[server()], Some("eth1"));
        assert_eq!((kind, rival), (Kind::VipOnOtherInterface, false));
        assert_eq!(mend, "sysctl -w net.ipv4.conf.eth1.arp_ignore=1");
    }
}
