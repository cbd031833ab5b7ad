//! The lab itself: nodes reach each other, and whatever happens to its owner nothing is left behind.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use lb_tests::cluster::{FALLBACK_PAGE, Talk, URL, VIP, WWW1_PAGE};
use lb_tests::lab::{Lab, Process, State, cleanup, shell, unique_name};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn nodes_reach_each_other_and_drop_leaves_nothing() -> Result<()> {
    let name = unique_name("direct");
    let talk = Talk::new(&name)?;
    assert_eq!(talk.client.get("http://211.58.250.25/index.html")?.trim(), WWW1_PAGE);
    // The real servers hold the VIP too, and keep still about it.
    talk.ha1.own_vip(VIP)?;
    assert_eq!(talk.client.get(URL)?.trim(), FALLBACK_PAGE);
    let neighbours = talk.client.ip("neighbour show 211.58.250.6")?;
    assert!(neighbours.contains("02:00:d3:3a:fa:05"), "the VIP's MAC should be ha1's: {neighbours}");

    let traces = Traces::of(talk.lab.state());
    assert_eq!(traces.namespaces.len(), 6, "five nodes and the switch: {traces:?}");
    assert!(traces.processes.len() >= 6, "three nginx and their workers: {traces:?}");
    drop(talk);
    traces.assert_gone(&name);
    Ok(())
}

#[test]
fn a_web_server_stops_and_starts() -> Result<()> {
    let lab = Lab::new(&unique_name("web"))?;
    let client = lab.node("client", "10.0.0.1/24".parse()?)?;
    let server = lab.node("server", "10.0.0.2/24".parse()?)?;
    let web = server.web_server("a page")?;
    let url = "http://10.0.0.2/index.html";
    for _ in 0..2 {
        web.start()?;
        assert_eq!(client.get(url)?, "a page\n");
        web.stop()?;
        let error = client.get(url).expect_err("a closed port").to_string();
        assert!(error.contains("refused") || error.contains("Couldn't connect"), "{error}");
    }
    Ok(())
}

#[test]
fn labs_of_different_names_stand_side_by_side_and_a_name_in_use_is_refused() -> Result<()> {
    let name = unique_name("same");
    let one = Lab::new(&name)?;
    let _other = Lab::new(&unique_name("other"))?;
    let error = Lab::new(&name).expect_err("in use").to_string();
    assert!(error.contains("in use by process"), "{error}");
    assert!(one.state().exists(), "the refused one must not take the first along");
    Ok(())
}

#[test]
fn the_next_lab_sweeps_what_a_killed_owner_left() -> Result<()> {
    let (mut owner, name, traces) = Owner::start()?;
    owner.0.kill()?;
    owner.0.wait()?;
    assert!(State::open(&name).is_ok(), "SIGKILL gives no time to clean up");
    drop(Lab::new(&unique_name("sweeper"))?);
    traces.assert_gone(&name);
    Ok(())
}

#[test]
fn signals_remove_the_lab() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (mut owner, name, traces) = Owner::start()?;
        kill(Pid::from_raw(i32::try_from(owner.0.id())?), signal)?;
        let status = owner.0.wait()?;
        assert_eq!(status.code(), Some(128 + signal as i32), "{status}");
        traces.assert_gone(&name);
    }
    Ok(())
}

/// Not a test of its own: the process that [`Owner`] starts and that gets killed.
#[test]
#[ignore = "run by the tests that kill a lab's owner"]
fn owner_of_a_lab() -> Result<()> {
    let name = env::var("LAB_NAME")?;
    let talk = Talk::new(&name)?;
    // A process that is not on record either: started on a node by hand.
    let _by_hand = talk.client.command("sleep").arg("600").spawn()?;
    println!("\nup");
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

/// Another process that owns the cluster.
struct Owner(Child);

impl Owner {
    /// Starts it and returns once its cluster is up.
    fn start() -> Result<(Self, String, Traces)> {
        let name = unique_name("owned");
        let mut child = Command::new(env::current_exe()?)
            .args(["--ignored", "--exact", "--nocapture", "owner_of_a_lab"])
            .env("LAB_NAME", &name)
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let owner = Self(child);
        let up = output.lines().map_while(Result::ok).any(|line| line == "up");
        assert!(up, "the owner ended before its lab was up");
        let traces = Traces::of(&State::open(&name)?);
        Ok((owner, name, traces))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a lab consists of outside its own folder.
#[derive(Debug)]
struct Traces {
    namespaces: Vec<String>,
    processes: Vec<Process>,
}

impl Traces {
    fn of(state: &State) -> Self {
        let namespaces = state.namespaces();
        let processes = namespaces.iter().flat_map(|namespace| cleanup::members(namespace)).collect();
        Self { namespaces, processes }
    }

    fn assert_gone(&self, name: &str) {
        let listed = shell::ip("netns list").expect("ip runs");
        for namespace in &self.namespaces {
            assert!(!listed.contains(namespace.as_str()), "{namespace} is still there");
        }
        for process in &self.processes {
            assert!(process.ends_within(Duration::from_secs(1)), "process {} still runs", process.pid());
        }
        assert!(State::open(name).is_err(), "the record of {name} is still there");
    }
}
