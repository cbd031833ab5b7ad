//! Scenario 1 of the talk, with the real `lb`, real web servers and curl.

use lb_tests::cluster::Talk;
use lb_tests::lab::unique_name;
use lb_tests::scenario::one;

#[test]
fn a_stopped_web_server_leaves_the_table_and_returns_when_started() {
    let talk = Talk::new(&unique_name("one")).expect("the cluster comes up");
    let director = talk.start_director().expect("lb starts on ha1");
    one::play(&talk, &director, &mut |told| println!("{told}")).expect("everything goes as told");
}
