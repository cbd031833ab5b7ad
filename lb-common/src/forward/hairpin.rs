//! Packets that go back to the station they came from.
//!
//! A real server may be the gateway that its clients are behind. Then a packet comes from the very
//! server that it goes to, and it goes back there once. A server that lacks the VIP and forwards
//! packets would send it here again, and so on for as many rounds as the packet has hops left. So a
//! packet that goes back has [`TTL`] hops left from then on: its server takes it whatever is left,
//! and one that comes from its own server with less has been there before.

/// The time to live of a packet that goes back. Enough for a server that serves from a container or
/// by way of another machine, and less than any packet of a client has left that is not meant to
/// end on the way, as those of traceroute are.
pub const TTL: u8 = 8;

/// What the time to live becomes of a packet that has arrived with this one; `None`: it has been
/// sent back before.
#[inline(always)]
pub const fn time_to_live(arrived: u8) -> Option<u8> {
    if arrived < TTL { None } else { Some(TTL) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_goes_back_once() {
        for arrived in TTL..=u8::MAX {
            let sent = time_to_live(arrived).expect("the first time");
            assert_eq!(time_to_live(sent - 1), None, "the second time, after a hop");
        }
    }
}
