//! Packets from another director of the cluster, where directors are real servers as well.
//!
//! What another director has balanced is for this host: balancing it again would send it elsewhere.
//! But after a take-over the directors also send each other packets of connections that they do not
//! know ([`crate::lease::Lease::relay`]), and those must be looked up. The two are told apart by a
//! mark on the latter, which whoever receives them removes.

/// The mark: the first of the three flags beside the fragment offset, which nobody else may set
/// (RFC 791, section 3.1). As a number of that word in host byte order.
pub const MARK: u16 = 0x8000;

/// The mark in IPv6, which has no such flag: the first of the TCP header's reserved bits, which are
/// zero (RFC 9293, section 3.1; only TCP packets are relayed). As a number of the word of data
/// offset and flags in host byte order.
pub const TCP_MARK: u16 = 0x0800;

/// Whose a packet is that came from another station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Sender {
    /// A client, or a router before it.
    Client = 0,
    /// The other director of a hand-over, which does not know the connection.
    Relay = 1,
    /// A director that has picked this host.
    Balancer = 2,
}

/// What the decision goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The packet came from the other director of the hand-over that is under way.
    pub from_partner: bool,
    /// The packet came from a director of the cluster, that one included.
    pub from_director: bool,
    /// This director balances the packet's group now.
    pub balances: bool,
    /// This director serves relayed packets of the group whether it balances it or not, see
    /// [`crate::lease::Lease::serves_on`].
    pub serves_on: bool,
    /// The lease is that of services of no group, which all directors balance at any time.
    pub ungrouped: bool,
    /// The packet is of another director's check through the VIP ([`crate::program::probe`]).
    pub probe: bool,
    pub marked: bool,
    /// This host is a real server of the service.
    pub host_serves: bool,
}

/// A director may also be the gateway of clients, whose packets it does not balance but forward. So
/// one that balances takes a packet as balanced already only if the sender may be balancing too: in
/// a hand-over, or without a group.
#[inline(always)]
pub const fn sender(facts: Facts) -> Sender {
    let Facts { from_partner, from_director, balances, serves_on, ungrouped, probe, marked, host_serves } =
        facts;
    if marked && (from_partner && balances || from_director && serves_on) {
        return Sender::Relay;
    }
    let may_balance = from_partner || from_director && (!balances || ungrouped || probe);
    if may_balance && host_serves { Sender::Balancer } else { Sender::Client }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Facts = Facts {
        from_partner: false,
        from_director: false,
        balances: true,
        serves_on: false,
        ungrouped: false,
        probe: false,
        marked: false,
        host_serves: true,
    };
    const DIRECTOR: Facts = Facts { from_director: true, ..CLIENT };
    const PARTNER: Facts = Facts { from_partner: true, ..DIRECTOR };

    #[test]
    fn whose_a_packet_is() {
        for (description, facts, expected) in [
            ("a client's", CLIENT, Sender::Client),
            (
                "a client's with the mark, which is a stranger's joke",
                Facts { marked: true, ..CLIENT },
                Sender::Client,
            ),
            ("a client's on standby", Facts { balances: false, ..CLIENT }, Sender::Client),
            ("forwarded by a director that is a gateway", DIRECTOR, Sender::Client),
            ("a director's check of this host", Facts { probe: true, ..DIRECTOR }, Sender::Balancer),
            (
                "the active director's, here on standby",
                Facts { balances: false, ..DIRECTOR },
                Sender::Balancer,
            ),
            ("of a service without a group", Facts { ungrouped: true, ..DIRECTOR }, Sender::Balancer),
            ("balanced in a hand-over", PARTNER, Sender::Balancer),
            ("relayed in a hand-over", Facts { marked: true, ..PARTNER }, Sender::Relay),
            (
                "relayed, and this host is no server",
                Facts { marked: true, host_serves: false, ..PARTNER },
                Sender::Relay,
            ),
            (
                "relayed to one whose process is gone",
                Facts { marked: true, balances: false, serves_on: true, ..DIRECTOR },
                Sender::Relay,
            ),
            (
                "the active director's, here without a process",
                Facts { balances: false, serves_on: true, ..DIRECTOR },
                Sender::Balancer,
            ),
            (
                "in a hand-over, and this host is no server",
                Facts { host_serves: false, ..PARTNER },
                Sender::Client,
            ),
        ] {
            assert_eq!(sender(facts), expected, "{description}");
        }
    }
}
