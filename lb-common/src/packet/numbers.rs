//! Numbers that IEEE and IANA have assigned, as the headers of frames bear them; host byte order.

/// What a frame, or what stands behind a tag, holds.
pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const IPV6: u16 = 0x86dd;
    /// A VLAN tag (802.1Q), and the inner one of two.
    pub const VLAN: u16 = 0x8100;
    /// The outer one of two VLAN tags (802.1ad).
    pub const QINQ: u16 = 0x88a8;
    /// The same before 802.1ad, and still in use.
    pub const QINQ_BEFORE: u16 = 0x9100;
}

/// What an IP packet holds, besides [`crate::service::Protocol`].
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const IPV4: u8 = 4;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const GRE: u8 = 47;
    pub const ICMPV6: u8 = 58;
}

/// Types of ICMP messages.
pub mod icmp {
    pub const ECHO_REPLY: u8 = 0;
    pub const DESTINATION_UNREACHABLE: u8 = 3;
    pub const ECHO_REQUEST: u8 = 8;
    pub const TIME_EXCEEDED: u8 = 11;
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// Types of ICMPv6 messages.
pub mod icmpv6 {
    pub const ECHO_REQUEST: u8 = 128;
    pub const ECHO_REPLY: u8 = 129;
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
}
