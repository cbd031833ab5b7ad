//! Datagrams that are larger than a link carries: fragments, with real clients and servers.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use lb_api::status::Status;
use lb_lab::busy::measured;
use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::{Director, Node, Responder, TunnelEnd, unique_name};
use lb_lab::uninterrupted;
use socket2::{Domain, Protocol, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(60);
const CHECK: &str = "type: http, request: /index.html, interval: 500ms, timeout: 2s";
/// Of the service of datagrams.
const PORT: u16 = 5353;
/// Of the director's own host.
const HOSTS_PORT: u16 = 5354;

/// A director with a service of each VIP.
fn director(talk: &Talk) -> Director {
    let service = |vip: &str, [www1, www2]: [String; 2]| {
        format!(
            "  - vip: '{vip}:{PORT}'\n    protocol: udp\n    scheduler: rr\n    check: {{ {CHECK}, port: 80 }}\n    \
             servers: [{{ name: www1, address: '{www1}' }}, {{ name: www2, address: '{www2}' }}]\n"
        )
    };
    let servers = [talk.www1.node(), talk.www2.node()];
    let four = service(&VIP.to_string(), servers.map(|node| node.address().to_string()));
    let six = service("[fd00::6]", servers.map(|node| node.ipv6().to_string()));
    let groups = format!("groups: [{{ vips: [{VIP}/25, 'fd00::6/64'] }}]");
    let configuration = format!("interface: eth0\nmetrics: off\n{groups}\nservices:\n{four}{six}");
    let director = Director::start(&talk.ha1, &configuration).expect("lb starts");
    let all_up = director
        .wait_until("all servers up", PATIENCE, |status| status.serves("www1") && status.serves("www2"));
    if let Err(error) = all_up {
        panic!("{error:#}\n{}", director.log_tail());
    }
    director
}

/// Answers each datagram to the VIP with its own name and the datagram's checksum.
fn responder(server: &Node, vip: IpAddr) -> Responder {
    responder_at(server, vip, PORT)
}

fn responder_at(server: &Node, vip: IpAddr, port: u16) -> Responder {
    let name = server.name().to_owned();
    let answer = move |question: &[u8]| format!("{name} {}", checksum(question)).into_bytes();
    Responder::start(server, (vip, port), answer).expect("the node holds the VIP")
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// By a link of 1,500 bytes; the server's kernel puts them together again.
#[test]
fn datagrams_in_fragments_arrive_byte_for_byte() {
    let talk = Talk::with_ipv6(&unique_name("fragments")).expect("the cluster comes up");
    let mut director = director(&talk);
    let vips: [IpAddr; 2] = [VIP.into(), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 6).into()];
    let servers = [talk.www1.node(), talk.www2.node()];
    let _responders: Vec<Responder> =
        vips.iter().flat_map(|vip| servers.map(|server| responder(server, *vip))).collect();
    for vip in vips {
        let own: IpAddr =
            if vip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let mut answered = BTreeSet::new();
        for _ in 0..2 {
            let socket = talk.client.run(|| UdpSocket::bind((own, 0))).expect("the client runs");
            let socket = socket.expect("a socket");
            socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            let mut names = BTreeSet::new();
            for length in [100, 3_000, 9_000, 60_000, 3_000] {
                let question: Vec<u8> = (0..length).map(|index| (index * 31 / 7) as u8).collect();
                socket.send_to(&question, (vip, PORT)).expect("a datagram is sent");
                let mut answer = [0; 64];
                let (read, from) = uninterrupted(|| socket.recv_from(&mut answer)).expect("an answer");
                assert_eq!(from.ip(), vip, "in the VIP's name");
                let answer = String::from_utf8_lossy(&answer[..read]);
                let (name, sum) = answer.split_once(' ').expect("a name and a checksum");
                assert_eq!(sum, checksum(&question).to_string(), "{length} bytes");
                names.insert(name.to_owned());
            }
            assert_eq!(names.len(), 1, "a client's datagrams stay with a server: {names:?}");
            answered.extend(names);
        }
        assert_eq!(answered.len(), 2, "clients are spread: {answered:?}");
    }
    let _hosts = vips.map(|vip| responder_at(&talk.ha1, vip, HOSTS_PORT));
    for vip in vips {
        none_is_lost(&talk, &director, vip, PORT, &[3_000, 9_000, 60_000, 3_000]);
        none_is_lost(&talk, &director, vip, HOSTS_PORT, &[3_000]);
    }
    let fragments = director.status().expect("a status").fragments;
    assert!(fragments.sent > 100, "{fragments:?}");

    // On a segment of jumbo frames the driver hands a datagram to XDP whole, in several buffers.
    for node in [&talk.client, &talk.ha1, servers[0], servers[1]] {
        node.set_mtu(9_000).expect("jumbo frames");
    }
    for vip in vips {
        let (answers, _) = sockets(&talk, vip);
        let question = vec![7; 8_000];
        answers.send_to(&question, (vip, PORT)).expect("a datagram is sent");
        assert_eq!(answer(&director, &answers), checksum(&question).to_string(), "8,000 bytes to {vip}");
    }
    assert_eq!(director.status().expect("a status").fragments.held, fragments.held);

    for (count, vip) in (1..).zip(vips) {
        alone(&talk, &director, vip, count);
    }

    // By a tunnel, too.
    let _ends = servers.map(|server| TunnelEnd::start(server).expect("the end of tunnels"));
    let text = fs::read_to_string(director.configuration().expect("a file")).expect("readable");
    let text = text.replace("    scheduler: rr\n", "    scheduler: rr\n    forward: ipip\n");
    director.reconfigure(&text).expect("a new file");
    let tunnelled = |status: &Status| {
        let servers: Vec<_> = status.services.iter().flat_map(|service| &service.servers).collect();
        servers.len() == 4
            && servers.iter().all(|server| server.tunnel.is_some() && server.effective_weight > 0)
    };
    director.wait_until("tunnels in use", PATIENCE, tunnelled).expect("they are");
    for vip in vips {
        in_any_order(&talk, &director, vip, PORT, &[9_000]);
    }
    // In generic mode the program on the interface sees once more what is left to the host.
    director.reconfigure(&format!("xdp_mode: generic\n{text}")).expect("a new file");
    director.wait_until("generic mode", PATIENCE, |status| status.mode == "generic").expect("it is");
    for vip in vips {
        in_any_order(&talk, &director, vip, PORT, &[3_000]);
        in_any_order(&talk, &director, vip, HOSTS_PORT, &[3_000]);
    }
    for vip in vips {
        over_a_restart(&talk, &mut director, vip);
    }
}

/// What a server behind address translation answers, its last fragment first.
#[test]
fn answers_that_are_translated_back_arrive_in_any_order() {
    let talk = Talk::with_ipv6(&unique_name("fragments2")).expect("the cluster comes up");
    let server = talk.www1.node();
    let pairs: [[IpAddr; 3]; 2] = [
        [VIP.into(), Ipv4Addr::new(211, 58, 250, 90).into(), server.address().into()],
        [
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 6).into(),
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x90).into(),
            server.ipv6().into(),
        ],
    ];
    let services = pairs.map(|[vip, ours, server]| {
        let vip = SocketAddr::new(vip, PORT);
        format!(
            "  - {{ vip: '{vip}', protocol: udp, forward: masq, source_nat: ['{ours}'], servers: [{{ name: www1, address: '{server}' }}] }}\n"
        )
    });
    let vips = "['211.58.250.90/25', 'fd00::90/64'";
    let configuration = format!(
        "interface: eth0\nmetrics: off\ngroups: [{{ vips: {vips}, '{VIP}/25', 'fd00::6/64'] }}]\nservices:\n{}",
        services.concat()
    );
    let director = Director::start(&talk.ha1, &configuration).expect("lb starts");
    let in_use = |status: &Status| {
        let mut servers = status.services.iter().flat_map(|service| &service.servers);
        status.services.len() == 2 && servers.all(|server| server.effective_weight > 0)
    };
    director.wait_until("servers in use", PATIENCE, in_use).expect("they are");
    let answer: Vec<u8> = (0..9_000).map(|index| (index * 31 / 7) as u8).collect();
    for [vip, _, own] in pairs {
        let domain = if vip.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let raw = || Socket::new(domain, Type::RAW, Some(Protocol::from(nix::libc::IPPROTO_RAW)));
        let at_server = server.run(|| (UdpSocket::bind((own, PORT)), raw())).expect("the server runs");
        let (asked, raw) = (at_server.0.expect("a free port"), at_server.1.expect("a raw socket"));
        asked.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        measured(&format!("answers of {vip}"), || {
            let (client, _) = sockets(&talk, vip);
            client.connect((vip, PORT))?;
            client.send(b"who?")?;
            let (_, from) = uninterrupted(|| asked.recv_from(&mut [0; 64]))?;
            let fragments = datagram_in_fragments(SocketAddr::new(own, PORT), from, &answer);
            for fragment in fragments.iter().rev() {
                raw.send_to(fragment, &SocketAddr::new(from.ip(), 0).into())?;
            }
            let mut found = vec![0; 10_000];
            let length = uninterrupted(|| client.recv(&mut found))?;
            assert!(found[..length] == answer, "{length} bytes");
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error:#}"));
    }
    let fragments = director.status().expect("a status").fragments;
    assert!(fragments.sent >= 12, "{fragments:?}");
}

/// Fragments without their first one.
fn left_to_host(status: &Status) -> u64 {
    let reasons = status.passes.iter().filter(|pass| pass.reason == "fragment_unknown");
    reasons.map(|pass| pass.count).sum()
}

/// A fragment of whose datagram nothing else comes is the host's in the end. `count`: of such
/// fragments.
fn alone(talk: &Talk, director: &Director, vip: IpAddr, count: u64) {
    let (answers, raw) = sockets(talk, vip);
    let from = answers.local_addr().expect("an address");
    let mut fragment = datagram_in_fragments(from, SocketAddr::new(vip, PORT), &[7; 3_000]).remove(1);
    // Of an id that no other one has had.
    fragment[if vip.is_ipv4() { 5 } else { 47 }] = 9;
    raw.send_to(&fragment, &SocketAddr::new(vip, 0).into()).expect("a fragment is sent");
    let left = |status: &Status| left_to_host(status) == count;
    director.wait_until("it is left to the host", PATIENCE, left).expect("it is");
}

/// The director dies and comes back while a datagram is under way.
fn over_a_restart(talk: &Talk, director: &mut Director, vip: IpAddr) {
    let (answers, raw) = sockets(talk, vip);
    let from = answers.local_addr().expect("an address");
    let question = vec![9; 6_000];
    let fragments = datagram_in_fragments(from, SocketAddr::new(vip, PORT), &question);
    let send = |index: usize| {
        raw.send_to(&fragments[index], &SocketAddr::new(vip, 0).into()).expect("a fragment is sent");
    };
    send(0);
    send(2);
    director.kill().expect("lb dies");
    send(1);
    director.restart().expect("lb starts again");
    (3..fragments.len()).for_each(send);
    assert_eq!(answer(director, &answers), checksum(&question).to_string(), "to {vip}");
}

/// Sockets of the client: for answers, and for IP packets of its own making.
fn sockets(talk: &Talk, vip: IpAddr) -> (UdpSocket, Socket) {
    let (own, domain): (IpAddr, _) = match vip {
        IpAddr::V4(_) => (talk.client.address().into(), Domain::IPV4),
        IpAddr::V6(_) => (talk.client.ipv6().into(), Domain::IPV6),
    };
    let raw = || Socket::new(domain, Type::RAW, Some(Protocol::from(nix::libc::IPPROTO_RAW)));
    let sockets = talk.client.run(|| (UdpSocket::bind((own, 0)), raw()));
    let (answers, raw) = sockets.expect("the client runs");
    let answers = answers.expect("a socket");
    answers.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    (answers, raw.expect("a raw socket"))
}

/// The checksum in the next answer.
#[track_caller]
fn answer(director: &Director, answers: &UdpSocket) -> String {
    let mut answer = [0; 64];
    let (read, _) = uninterrupted(|| answers.recv_from(&mut answer)).unwrap_or_else(|error| {
        let status = director.status().expect("a status");
        let Status { drops, passes, fragments, .. } = &status;
        panic!("no answer: {error}; dropped: {drops:?}; passed: {passes:?}; {fragments:?}")
    });
    let answer = String::from_utf8_lossy(&answer[..read]);
    answer.split(' ').nth(1).expect("a name and a checksum").to_owned()
}

/// As [`in_any_order`]; and the director says so: every fragment that it has held went on.
fn none_is_lost(talk: &Talk, director: &Director, vip: IpAddr, port: u16, lengths: &[usize]) {
    // Of a measurement on a busy machine that failed, fragments may be left that were given up.
    let lost = |status: &Status| {
        let reasons = ["fragment_overlap", "fragment_scattered", "fragment_given_up"];
        (reasons.map(|reason| status.dropped(reason)), left_to_host(status), status.fragments.given_up)
    };
    // Those of the host's own datagrams are passed to it.
    let under_way = |status: &Status| {
        let fragments = &status.fragments;
        fragments.held - fragments.sent - fragments.passed
    };
    let what = format!("fragments of datagrams to {vip}:{port}");
    measured(&what, || {
        let before = director.status()?;
        each_in_any_order(talk, director, vip, port, lengths);
        let after = director.status()?;
        assert_eq!((lost(&after), under_way(&after)), (lost(&before), under_way(&before)));
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}

/// Networks let fragments overtake each other, and some senders begin with the last one. A director
/// that gets no processor for half a second holds them no longer.
fn in_any_order(talk: &Talk, director: &Director, vip: IpAddr, port: u16, lengths: &[usize]) {
    let what = format!("datagrams to {vip}:{port} in any order");
    measured(&what, || {
        each_in_any_order(talk, director, vip, port, lengths);
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}

fn each_in_any_order(talk: &Talk, director: &Director, vip: IpAddr, port: u16, lengths: &[usize]) {
    let (answers, raw) = sockets(talk, vip);
    let from = answers.local_addr().expect("an address");
    let mut random = 7_u64;
    for length in lengths {
        for order in ["second first", "last first", "shuffled"] {
            let question: Vec<u8> = (0..*length).map(|index| (index * 31 / 7) as u8).collect();
            // The same id for all of them.
            let mut fragments = datagram_in_fragments(from, SocketAddr::new(vip, port), &question);
            match order {
                "second first" => fragments.swap(0, 1),
                "last first" => fragments.reverse(),
                _ => (1..fragments.len()).rev().for_each(|last| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    fragments.swap(last, (random >> 33) as usize % (last + 1));
                }),
            }
            for fragment in &fragments {
                raw.send_to(fragment, &SocketAddr::new(vip, 0).into()).expect("a fragment is sent");
            }
            println!("{length} bytes to {vip}:{port}, {order}");
            assert_eq!(answer(director, &answers), checksum(&question).to_string());
        }
    }
}

/// IP packets for a link of 1,500 bytes.
fn datagram_in_fragments(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<Vec<u8>> {
    let length = (8 + payload.len()) as u16;
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let addresses = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
        _ => panic!("one family"),
    };
    let mut udp = [&ports[..], &length.to_be_bytes(), &[0, 0], payload].concat();
    let pseudo = [&addresses[..], &length.to_be_bytes(), &[0, 17]].concat();
    let words = pseudo.chunks(2).chain(udp.chunks(2));
    let sum: u64 = words.map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0))).sum();
    udp[6..8].copy_from_slice(&(!((sum % 0xffff) as u16)).to_be_bytes());
    let carried = if from.is_ipv4() { 1_480 } else { 1_448 };
    let parts = udp.chunks(carried).enumerate();
    let last = udp.chunks(carried).count() - 1;
    parts
        .map(|(index, part)| {
            let units = (index * carried / 8) as u16;
            let more = u16::from(index < last);
            if from.is_ipv4() {
                let [length, word] = [20 + part.len() as u16, more << 13 | units].map(u16::to_be_bytes);
                let head = [&[0x45, 0], &length[..], &[0, 7], &word, &[64, 17, 0, 0]].concat();
                [&head[..], &addresses, part].concat()
            } else {
                let [length, word] = [8 + part.len() as u16, units << 3 | more].map(u16::to_be_bytes);
                let head = [&[0x60, 0, 0, 0], &length[..], &[44, 64]].concat();
                let fragment = [&[17, 0], &word[..], &[0, 0, 0, 7]].concat();
                [&head[..], &addresses, &fragment, part].concat()
            }
        })
        .collect()
}
