//! The lab itself: nodes reach each other, links and lines can be cut, and whatever happens to its
//! owner nothing is left behind.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::busy::measured;
use lb_lab::cluster::{FALLBACK_PAGE, Talk, URL, VIP, WWW1_PAGE};
use lb_lab::lab::{Lab, Link, Node, Process, State, cleanup, shell, unique_name};
use lb_lab::scenario::open_loop::Outage;
use lb_lab::scenario::traffic::Answer;
use nix::libc;
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
fn a_link_that_is_down_or_without_carrier_carries_nothing_until_it_is_back() -> Result<()> {
    let talk = Talk::new(&unique_name("link"))?;
    let reached = |address| talk.ha2.get(&format!("http://{address}/index.html")).is_ok();
    assert!(reached("211.58.250.5") && reached("10.0.0.5"));
    for set in [Node::set_link, Node::set_carrier] {
        set(&talk.ha1, "eth1", Link::Down)?;
        assert!(!reached("10.0.0.5"), "eth1 is cut");
        assert!(reached("211.58.250.5"), "eth0 is not");
        set(&talk.ha1, "eth1", Link::Up)?;
        assert!(reached("10.0.0.5"), "eth1 is back");
    }
    talk.ha1.set_carrier("eth0", Link::Down)?;
    let shown = talk.ha1.ip("link show dev eth0")?;
    assert!(shown.contains("NO-CARRIER"), "{shown}");
    Ok(())
}

#[test]
fn heartbeats_can_be_cut_while_all_else_goes_through() -> Result<()> {
    let talk = Talk::new(&unique_name("cut"))?;
    let open = |node: &Node, port| -> Result<UdpSocket> {
        let socket = node.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))??;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(socket)
    };
    let sender = open(&talk.ha2, 0)?;
    let (heartbeats, other) = (open(&talk.ha1, 694)?, open(&talk.ha1, 695)?);
    let arrives = |receiver: &UdpSocket, to: &str| -> Result<bool> {
        sender.send_to(b"x", to)?;
        Ok(lb_lab::uninterrupted(|| receiver.recv(&mut [0; 8])).is_ok())
    };
    assert!(arrives(&heartbeats, "211.58.250.5:694")?);
    talk.cut_heartbeats("eth0")?;
    assert!(!arrives(&heartbeats, "211.58.250.5:694")?);
    assert!(arrives(&other, "211.58.250.5:695")?);
    assert!(arrives(&heartbeats, "10.0.0.5:694")?);
    talk.heal_heartbeats("eth0")?;
    assert!(arrives(&heartbeats, "211.58.250.5:694")?);
    Ok(())
}

#[test]
fn either_end_of_a_serial_line_can_be_closed_and_opened_again() -> Result<()> {
    let lab = Lab::new(&unique_name("serial"))?;
    let line = lab.serial_line("serial")?;
    let open = |end: &Path| OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(end);
    for _ in 0..3 {
        let [a, b] = [open(&line.ends[0])?, open(&line.ends[1])?];
        let bytes: Vec<u8> = (0..=255).collect(); // nothing is taken for a line end or a signal
        for (mut from, mut to) in [(&a, &b), (&b, &a)] {
            from.write_all(&bytes)?;
            let mut received = [0; 256];
            to.read_exact(&mut received)?;
            assert_eq!(received[..], bytes);
        }
    }
    Ok(())
}

#[test]
fn all_who_answer_for_an_address_are_found() -> Result<()> {
    let talk = Talk::new(&unique_name("arp"))?;
    assert_eq!(talk.client.who_has(VIP)?, BTreeSet::new(), "the real servers keep still");
    talk.ha1.own_vip(VIP)?;
    assert_eq!(talk.client.who_has(VIP)?, BTreeSet::from([talk.ha1.mac()]));
    talk.ha2.own_vip(VIP)?;
    assert_eq!(talk.client.who_has(VIP)?, BTreeSet::from([talk.ha1.mac(), talk.ha2.mac()]));

    let vip6: Ipv6Addr = "fd00::6".parse()?;
    for (node, own) in [(&talk.client, 100), (&talk.ha1, 5), (&talk.ha2, 7)] {
        node.add_ipv6(&format!("fd00::{own}/64"))?;
    }
    assert_eq!(talk.client.who_has(vip6)?, BTreeSet::new());
    talk.ha1.add_ipv6("fd00::6/64")?;
    assert_eq!(talk.client.who_has(vip6)?, BTreeSet::from([talk.ha1.mac()]));
    talk.ha2.add_ipv6("fd00::6/64")?;
    assert_eq!(talk.client.who_has(vip6)?, BTreeSet::from([talk.ha1.mac(), talk.ha2.mac()]));
    Ok(())
}

/// A request every millisecond, and an outage of known length.
#[test]
fn an_open_loop_client_sees_an_outage_as_long_as_it_was() -> Result<()> {
    let talk = Talk::new(&unique_name("loop"))?;
    talk.ha1.own_vip(VIP)?;
    let during = |act: &mut dyn FnMut() -> Result<()>| Outage::during(&talk.client, &[Answer::Fallback], act);
    measured("a client that is left alone", || {
        let undisturbed = during(&mut || Ok(()))?;
        ensure!(undisturbed.failed() == 0, "{undisturbed}");
        ensure!(undisturbed.requests() > 900, "{undisturbed}");
        Ok(())
    })?;

    // Not by a link that goes down: the kernel looks after links that come up once a second only.
    let send_to = |mac: &str| {
        let entry = format!("neighbour replace {VIP} lladdr {mac} dev eth0 nud permanent");
        talk.client.ip(&entry).map(drop)
    };
    let cut = Duration::from_millis(300);
    measured("an outage of known length", || {
        let outage = during(&mut || {
            send_to("02:00:00:00:00:01")?;
            thread::sleep(cut);
            send_to(&talk.ha1.mac())
        })?;
        ensure!(outage.failed() == 0, "a second later each SYN is sent again: {outage}");
        ensure!(outage.gap >= cut && outage.gap < cut + Duration::from_millis(150), "{outage}");
        Ok(())
    })?;

    let wrong = Outage::during(&talk.client, &[Answer::Www1], || Ok(()))?;
    assert_eq!(wrong.failed(), wrong.requests(), "ha1's page is not www1's: {wrong}");
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

/// Another process that owns the cluster.
struct Owner(Child);

impl Owner {
    /// Starts it and returns once its cluster is up.
    fn start() -> Result<(Self, String, Traces)> {
        let name = unique_name("owned");
        let mut child =
            Command::new(env!("CARGO_BIN_EXE_lab-owner")).arg(&name).stdout(Stdio::piped()).spawn()?;
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
            assert!(process.ends_within(Duration::from_secs(30)), "process {} still runs", process.pid());
        }
        assert!(State::open(name).is_err(), "the record of {name} is still there");
    }
}
