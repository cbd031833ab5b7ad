//! A director that gets a group back remembers connections of old. Clients have used their ports
//! again meanwhile, through the other director, and those connections must not go where the old
//! ones went.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use lb_lab::cluster::VIP;
use lb_lab::lab::{Link, Node};
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::*;

/// Ports that the client uses twice, an even number: the second time from the last to the first, so
/// that round robin gives each the other server.
const PORTS: std::ops::Range<u16> = 40_001..40_041;
const FIRST_HALF: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: ha\r\n";
const SECOND_HALF: &[u8] = b"Connection: close\r\n\r\n";

fn connect(port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).expect("the port is free");
    let vip = SocketAddr::from((VIP, 80)).into();
    socket.connect_timeout(&vip, Duration::from_secs(3)).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(3))).expect("an option");
    socket.into()
}

/// Sends what is left of a request and reads the answer to its end.
fn finish(mut stream: TcpStream, rest: &[u8]) -> std::io::Result<String> {
    stream.write_all(rest)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Whole requests from all the ports.
fn use_ports(client: &Node) {
    let whole = || PORTS.for_each(|port| drop(finish(connect(port), &[FIRST_HALF, SECOND_HALF].concat())));
    client.run(whole).expect("the client's namespace");
}

/// Connections from all the ports with half a request sent.
fn begin(client: &Node) -> Vec<TcpStream> {
    let half = || {
        PORTS.rev().map(|port| {
            let mut stream = connect(port);
            stream.write_all(FIRST_HALF).expect("half a request");
            stream
        })
    };
    client.run(|| half().collect()).expect("the client's namespace")
}

#[track_caller]
fn all_are_answered(streams: Vec<TcpStream>) {
    let answers = streams.into_iter().map(|stream| finish(stream, SECOND_HALF));
    let failed: Vec<String> = answers
        .filter_map(|answer| match answer {
            Ok(answer) if answer.contains("Test Page of www") => None,
            Ok(answer) => Some(format!("{answer:?}")),
            Err(error) => Some(error.to_string()),
        })
        .collect();
    assert!(failed.is_empty(), "{} of {} connections failed: {failed:?}", failed.len(), PORTS.len());
}

#[test]
fn connections_from_used_ports_outlive_a_link_that_comes_back() {
    let cluster = Cluster::start("portslink", &Plan::default());
    let (client, ha1) = (&cluster.talk.client, &cluster.talk.ha1);
    use_ports(client);
    ha1.set_link("eth0", Link::Down).expect("ip works");
    cluster.directors[1].wait_until("ha2 active", PATIENCE, |status| status.held_by("ha2")).expect("it is");
    let streams = begin(client);
    ha1.set_link("eth0", Link::Up).expect("ip works");
    cluster.wait_until_held_by("ha1");
    all_are_answered(streams);
}

#[test]
fn connections_from_used_ports_outlive_two_planned_moves() {
    let cluster = Cluster::start("portsmove", &Plan::default());
    let client = &cluster.talk.client;
    use_ports(client);
    // The client's kernel believes no other MAC for a second (net.ipv4.neigh.eth0.locktime). What
    // goes to the director that has given the VIP up meanwhile is another case.
    sleep(Duration::from_millis(1200));
    cluster.directors[0].failover().expect("ha2 takes it");
    cluster.wait_until_held_by("ha2");
    let streams = begin(client);
    cluster.directors[0].failback().expect("ha1 takes it back");
    cluster.wait_until_held_by("ha1");
    all_are_answered(streams);
}
