//! The programs that the entry calls by tail call, and that call each other.

/// A program; the number is its index in the map `STAGES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// Whatever is not for the fast way, but for IPv6.
    Slow = 0,
    /// An answer to a client whom nobody serves, of IPv4.
    Refuse = 1,
    /// The fast way of IPv6.
    Ipv6 = 2,
    /// Whatever of IPv6 is not for its fast way.
    SlowIpv6 = 3,
    /// The outer packet around one for a server that is reached by a tunnel.
    Encapsulate = 4,
    /// Packets that belong to another one: ICMP errors, fragments.
    Related = 5,
    /// The same of IPv6.
    RelatedIpv6 = 6,
    /// As `Refuse`, of IPv6.
    RefuseIpv6 = 7,
    /// A fragment that came too early, of either family.
    Hold = 8,
    /// Packets that leave by another interface, or with other VLAN tags.
    Egress = 9,
}

impl Stage {
    pub const ALL: [Self; 10] = [
        Self::Slow,
        Self::Refuse,
        Self::Ipv6,
        Self::SlowIpv6,
        Self::Encapsulate,
        Self::Related,
        Self::RelatedIpv6,
        Self::RefuseIpv6,
        Self::Hold,
        Self::Egress,
    ];
    pub const COUNT: usize = Self::ALL.len();

    /// The program's name in the object.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Slow => "lb_slow",
            Self::Refuse => "lb_refuse",
            Self::Ipv6 => "lb_ipv6",
            Self::SlowIpv6 => "lb_slow_ipv6",
            Self::Encapsulate => "lb_encapsulate",
            Self::Related => "lb_related",
            Self::RelatedIpv6 => "lb_related_ipv6",
            Self::RefuseIpv6 => "lb_refuse_ipv6",
            Self::Hold => "lb_hold",
            Self::Egress => "lb_egress",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices() {
        for (index, stage) in Stage::ALL.iter().enumerate() {
            assert_eq!(*stage as usize, index);
        }
    }
}
