//! Which of a session's last messages have been seen.

use crate::reason::DropReason;

/// The largest sequence number so far, and which of the 63 below it have come.
///
/// 64 messages are 3.2 s at the default interval and 640 ms at 10 ms: longer than a slow serial
/// line lags behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    highest: u64,
    /// Bit i: `highest - i` has come.
    seen: u64,
}

impl Window {
    pub(crate) fn starting_with(sequence: u64) -> Self {
        Self { highest: sequence, seen: 1 }
    }

    /// Accepts what is newer than everything before, and says what the rest is.
    pub(crate) fn accept(&mut self, sequence: u64) -> Result<(), DropReason> {
        if let Some(ahead @ 1..) = sequence.checked_sub(self.highest) {
            self.seen = self.seen.unbounded_shl(ahead.try_into().unwrap_or(u32::MAX)) | 1;
            self.highest = sequence;
            return Ok(());
        }
        let bit = match u32::try_from(self.highest - sequence) {
            Ok(behind) => 1_u64.unbounded_shl(behind),
            Err(_) => 0,
        };
        if bit == 0 {
            return Err(DropReason::Replayed);
        }
        let before = self.seen;
        self.seen |= bit;
        Err(if before & bit == 0 { DropReason::Overtaken } else { DropReason::Duplicate })
    }
}
