//! Frames told as they came in and as they went out, while somebody captures packets: a trace
//! ([`crate::program::trace`]) with the bytes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::program::trace::Event;

/// The most bytes of a frame that are told: those of a jumbo frame.
pub const MOST: usize = 9216;

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// As it came in.
    In = 1,
    /// As it went out.
    Out = 2,
}

/// The beginning of an entry of the ring buffer `CAPTURED`; the frame's bytes follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Head {
    /// What was decided for the packet.
    pub event: Event,
    /// When the frame came or went: CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// Bytes of the frame.
    pub length: u32,
    /// How many of them follow.
    pub captured: u32,
    /// A [`Direction`].
    pub direction: u32,
    /// 1: the packet was told as it came in, and how it goes out is to be told, too.
    pub told: u32,
}

const _: () = assert!(size_of::<Head>() == 80);

/// Entry of the per-CPU map `CAPTURE`: the frame under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Frame {
    pub head: Head,
    pub bytes: [u8; MOST],
}

impl Head {
    /// `None`: the program is not of this version.
    pub fn direction(&self) -> Option<Direction> {
        [Direction::In, Direction::Out].into_iter().find(|direction| *direction as u32 == self.direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_what_they_stand_for() {
        for direction in [Direction::In, Direction::Out] {
            let head = Head { direction: direction as u32, ..Head::default() };
            assert_eq!(head.direction(), Some(direction));
        }
        assert_eq!(Head::default().direction(), None);
    }
}
