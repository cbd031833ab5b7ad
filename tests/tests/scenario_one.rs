//! Scenario 1 of the talk, with the real `lb`, real web servers and curl.

use anyhow::Result;
use lb_lab::busy::measured;
use lb_lab::cluster::Talk;
use lb_lab::lab::unique_name;
use lb_lab::scenario::one;

#[test]
fn a_stopped_web_server_leaves_the_table_and_returns_when_started() -> Result<()> {
    measured("scenario 1", || {
        let talk = Talk::new(&unique_name("one"))?;
        let director = talk.start_director()?;
        one::play(&talk, &director, &mut |told| println!("{told}"))
    })
}
