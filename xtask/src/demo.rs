//! `cargo xtask demo`: runs both scenarios on the talk's cluster, with real clients, and the page
//! by each method.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result};
use clap::Args;
use lb_lab::cluster::pair::{Pair, Settings};
use lb_lab::cluster::{self, NODES, Talk};
use lb_lab::lab::state::Owner;
use lb_lab::lab::{State, browser, cleanup, director};
use lb_lab::scenario::{Tell, methods, one, two};
use lb_lab::workspace::target;

use crate::setup::{self, Scope};
use crate::{lab, workspace};

/// The lab of the methods' scene.
const METHODS_LAB: &str = "methods";

/// Ports of this machine's loopback by which the directors' pages are seen.
const PAGES: [u16; 2] = [9206, 9207];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave the cluster and the directors running at the end, and print how to look around.
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(Scope::Lab)?;
    // Only the pictures at the end take a browser: where it cannot be had, all else is told.
    let no_browser = setup::ensure(Scope::Demo).err();
    let lb = workspace::build_lb()?;
    replace_kept_lab();

    let start = Instant::now();
    let mut tell = |text: &str| narrate(start, text);
    let talk = Talk::new(lab::DEFAULT_NAME).context("laying out the cluster")?;
    let nodes: Vec<_> = NODES.iter().map(|(name, octet)| format!("{name} 211.58.250.{octet}")).collect();
    tell(&format!("the cluster is up: {}", nodes.join(", ")));

    let played = play_methods(&mut tell).and_then(|()| play(&talk, no_browser.as_ref(), &mut tell));
    if played.is_ok() {
        tell("everything went as told");
    }
    if options.keep {
        let sockets = [&talk.ha1, &talk.ha2].map(director::socket);
        talk.lab.keep()?;
        println!("\nLeft running. Look around:");
        for socket in sockets {
            println!("    {} status --socket {}", lb.display(), socket.display());
        }
        println!("    http://127.0.0.1:{}/ and http://127.0.0.1:{}/ in a browser", PAGES[0], PAGES[1]);
        println!("{}", lab::how_to_look_around(lab::DEFAULT_NAME));
    } else {
        drop(talk);
        tell("the cluster is removed");
    }
    played
}

/// On a cluster of its own, whose nodes have IPv6 and more addresses.
fn play_methods(tell: Tell) -> Result<()> {
    let talk = Talk::with_ipv6(METHODS_LAB).context("laying out the cluster")?;
    methods::play(&talk, tell)
}

fn play(talk: &Talk, no_browser: Option<&Error>, tell: Tell) -> Result<()> {
    play_one(talk, tell)?;
    play_two(talk, no_browser, tell)
}

fn play_one(talk: &Talk, tell: Tell) -> Result<()> {
    let director = talk.start_director()?;
    tell(&format!("lb runs on ha1 (pid {}) and answers for 211.58.250.6", director.process().pid()));
    one::play(talk, &director, tell)
        .with_context(|| format!("The end of lb's log:\n{}\n\nThe demo failed", director.log_tail()))?;
    director.stop()
}

fn play_two(talk: &Talk, no_browser: Option<&Error>, tell: Tell) -> Result<()> {
    let configuration = cluster::configuration()? + "\nweb: on\n";
    let mut pair = Pair::start_with(talk, Settings::DEFAULT, &configuration)?;
    let pages = [(&talk.ha1, PAGES[0]), (&talk.ha2, PAGES[1])];
    let pages: Vec<String> =
        pages.into_iter().map(|(node, port)| browser::relay_page(node, port)).collect::<Result<_>>()?;
    tell(&format!(
        "lb runs on ha1 (pid {}), which is active, and on ha2 (pid {}), which stands by; heartbeats use two \
         networks:\n\n{}",
        pair.ha1.process().pid(),
        pair.ha2.process().pid(),
        pair.ha1.listing()?
    ));
    let forwarded = PAGES.map(|port| format!("-L {port}:127.0.0.1:{port}")).join(" ");
    tell(&format!(
        "watch what follows on their pages, in a browser on this machine: {}\na browser elsewhere takes the same \
         addresses after `ssh {forwarded} HERE`, with this machine's name for HERE",
        pages.join(" and ")
    ));
    let played = two::play(talk, &mut pair, tell).and_then(|()| match no_browser {
        None => show_page(talk, &pair, tell),
        Some(error) => {
            tell(&format!("NO PICTURES OF THE PAGE: there is no browser to take them with\n{error:#}"));
            Ok(())
        }
    });
    played.with_context(|| format!("{}\n\nThe demo failed", pair.shown()))
}

/// Pictures of the active director's page, while all runs.
fn show_page(talk: &Talk, pair: &Pair, tell: Tell) -> Result<()> {
    let holder = pair.wait_until_held_by_one_of(&["ha1", "ha2"])?;
    let node = if holder == "ha1" { &talk.ha1 } else { &talk.ha2 };
    let driver = browser::start_driver(node)?;
    let taken = browser::take_pictures(node, &target().join("demo"));
    driver.stop(Duration::from_secs(5))?;
    let [desktop, phone] = taken.context("taking pictures of the page")?;
    tell(&format!(
        "{holder}'s page as it is now, in a desktop browser and on a phone:\n{}\n{}",
        desktop.display(),
        phone.display()
    ));
    Ok(())
}

/// Removes a lab that an earlier demo kept.
fn replace_kept_lab() {
    if let Ok(state) = State::open(lab::DEFAULT_NAME)
        && state.owner() == Owner::Kept
    {
        println!("Removing the cluster that an earlier command left running.");
        cleanup::remove(&state);
    }
}

/// Prints `[  3.2 s] text`, with further lines indented below.
fn narrate(start: Instant, text: &str) {
    let mut lines = text.trim_end().lines();
    println!("[{:5.1} s] {}", start.elapsed().as_secs_f64(), lines.next().unwrap_or_default());
    for line in lines {
        println!("{}", format!("          {line}").trim_end());
    }
}
