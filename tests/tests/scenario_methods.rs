//! The same page by direct routing, tunnels and address translation, over both families.

use anyhow::Result;
use lb_lab::busy::measured;
use lb_lab::cluster::Talk;
use lb_lab::lab::unique_name;
use lb_lab::scenario::methods;

#[test]
fn each_method_brings_the_same_page_over_both_families() -> Result<()> {
    measured("the methods", || {
        let talk = Talk::with_ipv6(&unique_name("methods"))?;
        methods::play(&talk, &mut |told| println!("{told}"))
    })
}
