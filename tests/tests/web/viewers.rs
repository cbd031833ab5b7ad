//! What many viewers cost the director.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::busy::measured;
use lb_lab::cluster::Talk;
use lb_lab::lab::{Director, unique_name};
use lb_lab::viewers::cost;

use super::configuration;

const VIEWERS: usize = 100;
const LOOKED_AT: Duration = Duration::from_secs(10);

/// Of a processor, for all of them together. A build for debugging is another program.
const SHARE: f64 = 0.02;
const SHARE_OF_DEBUG_BUILD: f64 = 0.5;

#[test]
fn a_hundred_viewers_cost_the_director_little() -> Result<()> {
    let talk = Talk::new(&unique_name("viewers"))?;
    let configuration = configuration(&talk, "web: on\n");
    let director = Director::start(&talk.ha1, &configuration)?;
    let is_debug = lb_lab::lab::director::binary()?.components().any(|part| part.as_os_str() == "debug");
    let most = if is_debug { SHARE_OF_DEBUG_BUILD } else { SHARE };
    measured("a hundred viewers", || {
        let alone = cost(&director, 0, LOOKED_AT)?;
        let viewed = cost(&director, VIEWERS, LOOKED_AT)?;
        let share = viewed.saturating_sub(alone).as_secs_f64() / LOOKED_AT.as_secs_f64();
        println!("{VIEWERS} viewers take {:.2} % of a processor", share * 100.0);
        ensure!(share < most, "{VIEWERS} viewers take {:.2} % of a processor", share * 100.0);
        Ok(())
    })
}
