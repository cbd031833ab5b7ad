//! Probes through a VIP, from the check to the frames. A task of the test simulates the segment, a
//! smoltcp host the server's VIP, and the kernel's loopback the server's own address.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lb_common::mac::Mac;
use lb_model::{Check, Exchange, Probe, ServiceKey, Via};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::test_server::{OWN, OWN_MAC, SERVER_MAC, Server, VIP};
use super::*;
use crate::net::{Neighbour, Neighbours, Net};
use crate::probe::{self, Report, Subject, test_servers};

/// Time limit of probes without an answer: half of it must suffice to probe the server's own
/// address, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(4);

/// The segment behind the director.
struct Segment {
    net: Net,
    subject: Subject,
    /// `None`: the host with the MAC does not answer.
    server: Option<Server>,
}

fn station(mac: Mac) -> Station {
    Station { interface: "eth0".into(), mac }
}

impl Segment {
    /// A server whose own address is `own`, an address of the kernel.
    fn new(own: SocketAddr, server: Option<Server>) -> Self {
        let net = Net::default();
        let neighbour = Neighbour { mac: Some(SERVER_MAC), own: Some(OWN), ..Neighbour::default() };
        net.vip.add_sockets(0, Vec::new(), &Handle::current()).expect("no socket is no error");
        let vip = SocketAddr::new(VIP.ip(), own.port());
        let key = ServiceKey { vip: vip.ip(), port: vip.port(), protocol: Protocol::Tcp };
        let servers = [((key, own.ip()), neighbour)].into();
        net.vip.set_neighbours(Neighbours { stations: vec![station(OWN_MAC)], servers });
        Self { net, subject: Subject { service: key, server: own.ip(), port: own.port() }, server }
    }

    /// Carries frames between director and server for as long as `work` takes.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let Self { net, server, .. } = self;
        let carry = async {
            loop {
                carry(net, server.as_mut());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            done = work => done,
            () = carry => unreachable!("it carries for ever"),
        }
    }

    async fn probe(&mut self, probe: Probe) -> Report {
        let timeout = if self.server.is_some() { test_servers::PATIENCE } else { LIMIT };
        let check = Check { via: Via::Vip, timeout, ..Check::new(probe) };
        let (net, subject) = (self.net.clone(), self.subject);
        self.during(async move { probe::run(&check, subject, &net).await }).await
    }

    async fn tcp(&mut self) -> Result<(), String> {
        let report = self.probe(Probe::Tcp(Exchange::default())).await;
        report.result.map(drop).map_err(|failure| failure.to_string())
    }

    /// A probe's connection to the VIP.
    async fn connect(&mut self) -> VipStream {
        let probe = Probe::Tcp(Exchange::default());
        let check = Check { via: Via::Vip, timeout: test_servers::PATIENCE, ..Check::new(probe) };
        let (net, subject) = (self.net.clone(), self.subject);
        let connecting = async { net.vip.connect(&Attempt::new(&check, subject, &net)).await };
        self.during(connecting).await.expect("the server accepts")
    }

    fn flows(&self) -> usize {
        self.net.vip.lock().stack.flows()
    }
}

fn carry(net: &Net, server: Option<&mut Server>) {
    let frames = net.vip.lock().link.as_mut().expect("a link").take_waiting();
    if let Some(server) = server {
        let now = Instant::now();
        let answers = server.poll(&frames, now);
        net.vip.with_stack(|inner| answers.iter().for_each(|frame| inner.stack.receive(frame, now)));
    }
}

fn listening_at(port: u16) -> Server {
    Server(host::Host::listening(SocketAddr::new(VIP.ip(), port), Instant::now()))
}

#[tokio::test]
async fn a_service_on_the_vip_is_good() {
    let own = test_servers::closed().await;
    let mut segment = Segment::new(own, Some(listening_at(own.port())));
    assert_eq!(segment.tcp().await, Ok(()));
}

#[tokio::test]
async fn without_the_vip_the_reason_says_so() {
    let own = test_servers::silent().await;
    let mut segment = Segment::new(own.address, None);
    let reason = format!(
        "no answer at the VIP {}, but the server's own address {} accepts connections: is the VIP on the \
         server's loopback? (ip \
         address add {}/32 dev lo)",
        VIP.ip(),
        own.address,
        VIP.ip()
    );
    assert_eq!(segment.tcp().await, Err(reason));
    assert_eq!(segment.flows(), 0);
}

#[tokio::test]
async fn without_a_service_on_the_vip_the_reason_says_so() {
    let own = test_servers::silent().await;
    let mut segment = Segment::new(own.address, Some(Server::deaf(Instant::now())));
    let reason = format!(
        "refuses connections to the VIP {}, but the server's own address {} accepts them: the service does \
         not listen on the \
         VIP",
        VIP.ip(),
        own.address
    );
    assert_eq!(segment.tcp().await, Err(reason));
}

#[tokio::test]
async fn a_server_that_answers_nowhere_has_no_trouble_with_the_vip() {
    let own = test_servers::closed().await;
    let mut segment = Segment::new(own, Some(Server::deaf(Instant::now())));
    assert_eq!(segment.tcp().await, Err("connection refused".into()));
    let mut segment = Segment::new(own, None);
    assert_eq!(segment.tcp().await, Err("no answer to SYN within 4s".into()));
}

#[tokio::test]
async fn without_a_mac_nothing_is_tried() {
    let own = test_servers::silent().await;
    let mut segment = Segment::new(own.address, None);
    let stations = vec![station(OWN_MAC)];
    segment.net.vip.set_neighbours(Neighbours { stations, ..Neighbours::default() });
    let begin = Instant::now();
    assert_eq!(segment.tcp().await, Err("no answer to ARP for 127.0.0.1 on eth0".into()));
    assert!(begin.elapsed() < LIMIT, "{:?}", begin.elapsed());
}

/// Failures of this host say nothing about the server.
#[tokio::test]
async fn without_a_socket_or_an_address_the_server_is_not_blamed() {
    let own = test_servers::silent().await;
    let mut segment = Segment::new(own.address, None);
    let neighbours = segment.net.vip.lock().neighbours.clone();
    let mut nameless = neighbours.clone();
    nameless.servers.values_mut().for_each(|neighbour| neighbour.own = None);
    segment.net.vip.set_neighbours(nameless);
    let failure = segment.probe(Probe::Tcp(Exchange::default())).await.result.expect_err("no address");
    assert!(failure.is_local() && failure.to_string().contains("`source`"), "{failure}");
    let mut elsewhere = neighbours.clone();
    let egress =
        lb_common::forward::egress::Egress { device: 7, ..lb_common::forward::egress::Egress::UNSET };
    elsewhere.servers.values_mut().for_each(|neighbour| neighbour.egress = Some(egress));
    segment.net.vip.set_neighbours(elsewhere);
    let failure = segment.probe(Probe::Tcp(Exchange::default())).await.result.expect_err("no way");
    assert!(failure.is_local() && failure.to_string().contains("none of `interfaces`"), "{failure}");

    segment.net.vip.set_neighbours(neighbours);
    segment.net.vip.close();
    let check = Check { via: Via::Vip, ..Check::new(Probe::Tcp(Exchange::default())) };
    let failure = probe::run(&check, segment.subject, &segment.net).await.result.expect_err("no socket");
    assert!(failure.is_local(), "{failure}");
}

#[tokio::test]
async fn bytes_go_both_ways_however_many() {
    let own = test_servers::closed().await;
    let mut segment = Segment::new(own, Some(listening_at(own.port())));
    let mut stream = segment.connect().await;
    let sent: Vec<u8> = (0..20_000u32).map(|number| number as u8).collect();
    segment.during(stream.write_all(&sent)).await.expect("the stream takes them");
    let socket = |segment: &mut Segment, act: &mut dyn FnMut(&mut smoltcp::socket::tcp::Socket<'static>)| {
        act(segment.server.as_mut().expect("a server").0.tcp().expect("its socket"));
    };
    let mut received = Vec::new();
    while received.len() < sent.len() {
        segment.during(tokio::time::sleep(Duration::from_millis(2))).await;
        socket(&mut segment, &mut |socket| {
            socket.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).expect("a connection");
        });
    }
    assert!(received == sent, "what was received is what was sent");
    socket(&mut segment, &mut |socket| {
        assert_eq!(socket.send_slice(&sent), Ok(sent.len()));
        socket.close();
    });
    let mut answer = Vec::new();
    segment.during(stream.read_to_end(&mut answer)).await.expect("an orderly end");
    assert!(answer == sent, "what comes back is what was sent");
    drop(stream);
    while segment.flows() > 0 {
        segment.during(tokio::time::sleep(Duration::from_millis(10))).await;
    }
}

#[tokio::test]
async fn a_reset_is_an_error_and_no_end() {
    let own = test_servers::closed().await;
    let mut segment = Segment::new(own, Some(listening_at(own.port())));
    let mut stream = segment.connect().await;
    segment.server.as_mut().expect("a server").0.tcp().expect("its socket").abort();
    let result = segment.during(stream.read_u8()).await;
    assert_eq!(result.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
    assert!(stream.write_all(b"more").await.is_err());
}

#[tokio::test]
async fn a_probe_that_is_given_up_leaves_no_flow() {
    let own = test_servers::closed().await;
    let segment = Segment::new(own, None);
    let check = Check { via: Via::Vip, ..Check::new(Probe::Tcp(Exchange::default())) };
    let probing = probe::run(&check, segment.subject, &segment.net);
    let given_up = tokio::time::timeout(Duration::from_millis(20), probing).await;
    assert!(given_up.is_err(), "nobody answers");
    assert_eq!(segment.flows(), 0);
}

/// The stack's timers expire without incoming frames.
#[tokio::test]
async fn a_lost_syn_is_sent_again() {
    let own = test_servers::closed().await;
    let mut segment = Segment::new(own, Some(listening_at(own.port())));
    let check = Check {
        via: Via::Vip,
        timeout: Duration::from_secs(30),
        ..Check::new(Probe::Tcp(Exchange::default()))
    };
    let (net, subject) = (segment.net.clone(), segment.subject);
    let probing = tokio::spawn(async move { probe::run(&check, subject, &net).await });
    while segment.net.vip.lock().link.as_mut().expect("a link").take_waiting().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let report = segment.during(probing).await.expect("it does not panic");
    assert!(report.result.is_ok(), "{report:?}");
}
