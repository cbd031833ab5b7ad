//! Answers to probes through a VIP, see [`crate::health::net::vip_fuzz`].

use proptest::test_runner::Config;

use super::{Failed, hold};
use crate::health::net::vip_fuzz::{property, steps};

pub fn run(config: Config) -> Result<(), Failed> {
    hold(config, steps(), |steps| property(&steps))
}
