//! How many bytes may be sent now, so that no more than a rate goes out.

use std::time::Duration;

/// What is not used for a tenth of a second is lost.
const KEPT: u32 = 10;

pub(crate) struct Allowance {
    /// Bytes a second.
    rate: u64,
    /// Bytes that may be sent now.
    pub left: u64,
    refilled: Duration,
}

impl Allowance {
    pub(crate) fn new(rate: u64, now: Duration) -> Self {
        Self { rate, left: 0, refilled: now }
    }

    pub(crate) fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.refilled).min(Duration::from_secs(1) / KEPT);
        self.refilled = now;
        let more = (u128::from(self.rate) * passed.as_micros() / 1_000_000) as u64;
        self.left = self.left.saturating_add(more).min(self.rate / u64::from(KEPT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_goes_out_and_little_is_saved_up() {
        let mut allowance = Allowance::new(1000, Duration::ZERO);
        allowance.refill(Duration::from_millis(50));
        assert_eq!(allowance.left, 50);
        allowance.left -= 20;
        allowance.refill(Duration::from_millis(60));
        assert_eq!(allowance.left, 40);
        allowance.refill(Duration::from_secs(60));
        assert_eq!(allowance.left, 100);
    }
}
