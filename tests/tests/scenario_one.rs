//! Scenario 1 of the talk, with the real `lb`, real web servers and curl.

use anyhow::Result;
use lb_tests::busy::measured;
use lb_tests::cluster::Talk;
use lb_tests::lab::unique_name;
use lb_tests::scenario::one;

#[test]
fn a_stopped_web_server_leaves_the_table_and_returns_when_started() -> Result<()> {
    measured("scenario 1", || {
        let talk = Talk::new(&unique_name("one"))?;
        let director = talk.start_director()?;
        one::play(&talk, &director, &mut |told| println!("{told}"))
    })
}
