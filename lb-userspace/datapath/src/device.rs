//! The interface beneath the program: whether what the program sends gets through its driver.
//!
//! Drivers throw frames of XDP_TX away without a word to the program: all checks pass, ping works,
//! and no client is served.
//!
//! - [`far_end`]: a veth's other end, which must have an XDP program to take what native mode sends
//! - [`statistics`]: the driver's own counters of what it threw away
//! - [`watch`]: looks at both while the program is attached

pub mod far_end;
mod statistics;
pub mod watch;

use lb_model::XdpMode;

use self::far_end::FarEnd;
use super::attach::Mode;

/// The modes to attach the program in, the best first.
pub fn modes(wanted: XdpMode, far_end: FarEnd) -> &'static [Mode] {
    match (wanted, far_end) {
        (XdpMode::Native, _) => &[Mode::Native],
        (XdpMode::Generic, _) => &[Mode::Generic],
        // What cannot be seen has no program, as far as anybody can tell. A driver that loses
        // everything is worse than a slow one.
        (XdpMode::Auto, FarEnd::WithoutProgram | FarEnd::Unseen) => &[Mode::Generic],
        (XdpMode::Auto, FarEnd::NotAVeth | FarEnd::WithProgram) => &Mode::ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_native_where_frames_get_through() {
        for (wanted, far_end, modes_wanted) in [
            (XdpMode::Auto, FarEnd::NotAVeth, &[Mode::Native, Mode::Generic][..]),
            (XdpMode::Auto, FarEnd::WithProgram, &[Mode::Native, Mode::Generic]),
            (XdpMode::Auto, FarEnd::WithoutProgram, &[Mode::Generic]),
            (XdpMode::Auto, FarEnd::Unseen, &[Mode::Generic]),
            (XdpMode::Native, FarEnd::WithoutProgram, &[Mode::Native]),
            (XdpMode::Generic, FarEnd::NotAVeth, &[Mode::Generic]),
        ] {
            assert_eq!(modes(wanted, far_end), modes_wanted, "{wanted:?}, {far_end:?}");
        }
    }
}
