//! The programs that the entry calls by tail call, and that call each other.

/// A program; the number is its index in the map `STAGES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// Whatever is not for the fast way, but for IPv6.
    Slow = 0,
    /// An answer to a client whom nobody serves, of IPv4.
    Refuse = 1,
    /// Known connections of services with several ports.
    Known = 2,
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
    /// Another destination, for a server that is reached by address translation.
    Translate = 10,
    /// The same of IPv6.
    TranslateIpv6 = 11,
    /// What such a server sends: the VIP becomes its source.
    TranslateBack = 12,
    /// The same of IPv6.
    TranslateBackIpv6 = 13,
    /// What belongs to such a packet, or to one for such a server: ICMP errors, later fragments.
    RelatedBack = 14,
    /// The same of IPv6.
    RelatedBackIpv6 = 15,
    /// As `Known`, of IPv6.
    KnownIpv6 = 16,
    /// Before `Slow`, where services have rules about their clients.
    Admit = 17,
    /// The same before `SlowIpv6`.
    AdmitIpv6 = 18,
}

/// The program that takes the place of some stages where no service is of IPv6
/// ([`Stage::has_stand_in`]): it is a seventh of what the kernel would have to verify.
pub const HOST_IPV6: &str = "lb_host_ipv6";

impl Stage {
    pub const ALL: [Self; 19] = [
        Self::Slow,
        Self::Refuse,
        Self::Known,
        Self::SlowIpv6,
        Self::Encapsulate,
        Self::Related,
        Self::RelatedIpv6,
        Self::RefuseIpv6,
        Self::Hold,
        Self::Egress,
        Self::Translate,
        Self::TranslateIpv6,
        Self::TranslateBack,
        Self::TranslateBackIpv6,
        Self::RelatedBack,
        Self::RelatedBackIpv6,
        Self::KnownIpv6,
        Self::Admit,
        Self::AdmitIpv6,
    ];
    pub const COUNT: usize = Self::ALL.len();

    /// The program's name in the object.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Slow => "lb_slow",
            Self::Refuse => "lb_refuse",
            Self::Known => "lb_known",
            Self::SlowIpv6 => "lb_slow_ipv6",
            Self::Encapsulate => "lb_encapsulate",
            Self::Related => "lb_related",
            Self::RelatedIpv6 => "lb_related_ipv6",
            Self::RefuseIpv6 => "lb_refuse_ipv6",
            Self::Hold => "lb_hold",
            Self::Egress => "lb_egress",
            Self::Translate => "lb_translate",
            Self::TranslateIpv6 => "lb_translate_ipv6",
            Self::TranslateBack => "lb_translate_back",
            Self::TranslateBackIpv6 => "lb_translate_back_ipv6",
            Self::RelatedBack => "lb_related_back",
            Self::RelatedBackIpv6 => "lb_related_back_ipv6",
            Self::KnownIpv6 => "lb_known_ipv6",
            Self::Admit => "lb_admit",
            Self::AdmitIpv6 => "lb_admit_ipv6",
        }
    }

    /// Whether packets come to it only where some service is of IPv6, or would if the program
    /// [`HOST_IPV6`] were not called in its place.
    pub const fn is_for_ipv6(self) -> bool {
        matches!(
            self,
            Self::SlowIpv6
                | Self::AdmitIpv6
                | Self::KnownIpv6
                | Self::RelatedIpv6
                | Self::RefuseIpv6
                | Self::TranslateIpv6
                | Self::TranslateBackIpv6
                | Self::RelatedBackIpv6
        )
    }

    /// Whether a packet of IPv6 may come to it that is for none of our services.
    pub const fn has_stand_in(self) -> bool {
        matches!(self, Self::SlowIpv6 | Self::AdmitIpv6 | Self::KnownIpv6 | Self::TranslateBackIpv6)
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
