//! Schedulers: which server a new connection goes to.

/// How a service picks the server of a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    /// Round robin; weights other than 0 count as 1.
    Rr,
    /// Weighted round robin: pass k = 1, 2, … takes every server with weight >= k.
    Wrr,
    /// Least `active * 256 + inactive`.
    Lc,
    /// Least `(active * 256 + inactive) / weight`.
    Wlc,
}

impl Scheduler {
    pub const ALL: [Self; 4] = [Self::Rr, Self::Wrr, Self::Lc, Self::Wlc];

    /// The name that ipvsadm and the configuration use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
        }
    }
}
