//! The way out: a director that waits for its connections, and one whose interface is gone.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use lb_api::status::Status;
use lb_lab::cluster::VIP;
use lb_lab::lab::cleanup;
use nix::sys::signal::Signal;

use crate::harness::*;

/// Asks for a page over the connection, which stays open.
fn ask(connection: &mut TcpStream) -> String {
    connection.write_all(b"GET /index.html HTTP/1.1\r\nHost: lb\r\n\r\n").expect("it can be sent");
    let mut answer = [0; 2048];
    let length = lb_lab::uninterrupted(|| connection.read(&mut answer)).expect("an answer");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[test]
fn a_director_that_stops_for_good_waits_for_connections_answers_and_can_be_told_not_to() {
    let cluster = Cluster::start("linger", &Plan { cluster: "  linger: 1h".to_owned(), ..Plan::default() });
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    let connected = cluster.talk.client.run(|| TcpStream::connect((VIP, 80)));
    let mut connection = connected.expect("the client runs").expect("the VIP serves");
    connection.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    assert!(ask(&mut connection).contains("200 OK"));

    thread::scope(|scope| {
        let stop = scope.spawn(|| ha1.order(&["stop", "--release"]));
        let gone = |status: &Status| status.stopping && status.held_by("ha2");
        ha1.wait_until("ha1 to stop", PATIENCE, gone).expect("it answers");
        ha2.wait_until("ha2 active", PATIENCE, |status| status.held_by("ha2")).expect("it takes over");
        let serves_on = |status: &Status| status.group("web").is_some_and(|group| group.serves_on);
        ha1.wait_until("ha1 to serve its connections on", PATIENCE, serves_on).expect("it does");
        let refused = ha1.order(&["resume"]).expect_err("it is too late for that").to_string();
        assert!(refused.contains("this node is stopping"), "{refused}");
        wait_for_event(ha1, "role_changed", |event| event.cause_id.as_deref() == Some("standby_command"));
        // Longer than it stays for nothing.
        thread::sleep(Duration::from_secs(3));
        assert!(ask(&mut connection).contains("200 OK"), "the connection goes on");
        assert!(ha1.process().is_alive() && !stop.is_finished());

        ha1.process().signal(Signal::SIGTERM);
        assert!(ha1.process().ends_within(PATIENCE), "told twice, it does not wait");
        ha1.wait_for_logged("stopping_at_once", 1, Duration::ZERO).expect("it says so");
        stop.join().expect("no panic").expect("lb stop says that it has ended");
    });
    assert!(!ha1.socket().exists());
    let pins = cleanup::pins(&ha1.node().state().namespace("ha1"));
    assert!(pins.is_empty(), "{pins:?}");
}

/// Its program serves them on: how many there are and how long they last does not matter.
#[test]
fn a_director_whose_program_stays_does_not_wait_for_connections() {
    let cluster = Cluster::start("nowait", &Plan { cluster: "  linger: 1h".to_owned(), ..Plan::default() });
    let connected = cluster.talk.client.run(|| TcpStream::connect((VIP, 80)));
    let mut connection = connected.expect("the client runs").expect("the VIP serves");
    connection.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    assert!(ask(&mut connection).contains("200 OK"));
    cluster.directors[0].stop().expect("within a minute");
    assert!(ask(&mut connection).contains("200 OK"), "the connection goes on");
    cluster.wait_until_held_by("ha2");
}

#[test]
fn a4_a_director_whose_interface_is_gone_leaves_in_order_and_comes_back_with_it() {
    let cluster = Cluster::start("vanished", &Plan::default());
    let [ha1, ha2] = &cluster.directors[..] else { panic!("two directors") };
    let node = ha1.node();
    node.remove_interface().expect("it was there");
    ha2.wait_until("ha2 active", PATIENCE, |status| status.held_by("ha2")).expect("it takes over");
    ha1.wait_for_logged("waiting_for_interface", 1, PATIENCE).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(ha1.process().is_alive());
    assert!(!ha1.socket().exists(), "{}", ha1.log_tail());
    let pins = cleanup::pins(&node.state().namespace("ha1"));
    assert!(pins.is_empty(), "{pins:?}, {}", ha1.log_tail());

    node.make_interface("02:00:00:00:aa:05").expect("a new one");
    wait_for("ha1 to answer", || ha1.status().is_ok());
    cluster.wait_until_held_by("ha1");
    let answers = cluster.talk.client.who_has(VIP).expect("arping works");
    assert_eq!(Vec::from_iter(answers), ["02:00:00:00:aa:05"]);
    wait_for_event(ha1, "interface_gone", |_| true);
}
