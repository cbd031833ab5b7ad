//! `lab-owner NAME`: lays the talk's cluster out in the lab NAME, says `up`, and stays for ten
//! minutes. For the tests that end it by force and see what is left behind.

use std::env;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_lab::cluster::Talk;

fn main() -> Result<()> {
    let name = env::args().nth(1).context("expected the name of the lab")?;
    let talk = Talk::new(&name)?;
    // A process that is not on record: started on a node by hand.
    let _by_hand = talk.client.command("sleep").arg("600").spawn()?;
    println!("up");
    // Whoever has forgotten it finds it gone after a while.
    thread::sleep(Duration::from_secs(600));
    Ok(())
}
