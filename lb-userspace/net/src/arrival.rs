//! How long what a socket received has been lying in the kernel: whoever reads late judges by when
//! it came.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{ControlMessageOwned, setsockopt, sockopt::ReceiveTimestampns};
use nix::sys::time::TimeSpec;

/// From now on the kernel notes when messages come.
pub fn note(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, ReceiveTimestampns, &true)?)
}

/// Room for what [`age`] looks for.
pub fn space() -> Vec<u8> {
    nix::cmsg_space!(TimeSpec)
}

/// How long ago the message came that these belong to; zero, if the kernel has not noted it.
pub fn age(mut messages: impl Iterator<Item = ControlMessageOwned>) -> Duration {
    let stamp = messages.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    });
    stamp.map(since).unwrap_or_default()
}

/// How long ago the wall clock showed `stamp`. A clock that was set in between makes it zero or too
/// large.
fn since(stamp: Duration) -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH + stamp).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_counted_from_the_stamp_and_is_zero_without_one() {
        let minute = Duration::from_secs(60);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let stamped =
            |stamp: Duration| age([ControlMessageOwned::ScmTimestampns(TimeSpec::from(stamp))].into_iter());
        assert!((minute..minute * 2).contains(&stamped(now.saturating_sub(minute))));
        assert_eq!(stamped(now + minute), Duration::ZERO, "the clock was set back");
        assert_eq!(age(std::iter::empty()), Duration::ZERO);
    }
}
