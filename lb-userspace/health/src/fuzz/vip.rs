//! Answers to probes through a VIP, see [`crate::net::vip_fuzz`].

use lb_fuzz::{Failed, hold};
use proptest::test_runner::Config;

use crate::net::vip_fuzz::{property, steps};

pub(super) fn run(config: Config) -> Result<(), Failed> {
    hold(config, steps(), |steps| property(&steps))
}
