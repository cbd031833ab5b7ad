//! The programs that the entry calls by tail call, and that call each other.

/// A program; the number is its index in the map `STAGES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// Whatever is not for the fast way.
    Slow = 0,
    /// An answer to a client whom nobody serves.
    Refuse = 1,
    /// Everything of IPv6: its own fast way, then its slow way.
    Ipv6 = 2,
}

impl Stage {
    pub const ALL: [Self; 3] = [Self::Slow, Self::Refuse, Self::Ipv6];
    pub const COUNT: usize = Self::ALL.len();

    /// The program's name in the object.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Slow => "lb_slow",
            Self::Refuse => "lb_refuse",
            Self::Ipv6 => "lb_ipv6",
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
