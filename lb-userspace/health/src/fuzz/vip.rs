//! Answers to probes through a VIP, see [`crate::net::vip_fuzz`].

use proptest::test_runner::Config;

use crate::net::vip_fuzz::{property, steps};
use lb_fuzz::{Failed, hold};

pub(super) fn run(config: Config) -> Result<(), Failed> {
    hold(config, steps(), |steps| property(&steps))
}
