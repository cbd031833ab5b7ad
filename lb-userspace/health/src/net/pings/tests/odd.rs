//! Hosts that answer in unusual ways: the peer of a veth pair, whose kernel is silent, answers by a
//! raw socket.

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::*;
use crate::probe::Answer;

/// Types of echo requests.
const REQUEST: u8 = 8;
const REQUEST_V6: u8 = 128;
/// Length of an IPv4 header without options.
const HEADER: usize = 20;
const SHORT: Duration = Duration::from_millis(300);

/// What answers a request: of IPv4 whole packets, of IPv6 messages, whose checksum is the kernel's.
type Odd = fn(&[u8]) -> Vec<Vec<u8>>;

/// A host whose answers change.
struct Host {
    odd: Arc<Mutex<Odd>>,
    task: JoinHandle<()>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Host {
    /// Answers requests of this type that `socket` receives, with the type at `begins`.
    fn on(socket: Socket, request: u8, begins: usize) -> Self {
        let socket = UdpSocket::from_std(socket.into()).expect("a socket of this runtime");
        let odd = Arc::new(Mutex::new(silent as Odd));
        let answers = Arc::clone(&odd);
        let task = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((length, asker)) = socket.recv_from(&mut buffer).await {
                let odd = *lock(&answers);
                let asked = Some(&buffer[..length]).filter(|asked| asked.get(begins) == Some(&request));
                for answer in asked.map(odd).unwrap_or_default() {
                    let _ = socket.send_to(&answer, asker).await;
                }
            }
        });
        Self { odd, task }
    }

    fn answers(&self, odd: Odd) {
        *lock(&self.odd) = odd;
    }

    /// Waits until the link is up and the peer's MAC is known.
    async fn is_there(&self, plain: Odd, address: &str) {
        self.answers(plain);
        while ping(SHORT).at(host(address)).await.is_err() {}
    }
}

fn silent(_: &[u8]) -> Vec<Vec<u8>> {
    Vec::new()
}

/// A raw socket at the far end of the pair, where the kernel answers no pings.
fn far_end(veth: &VethPair, domain: Domain) -> Socket {
    let is_ipv4 = domain == Domain::IPV4;
    let (protocol, setting) = if is_ipv4 {
        (Protocol::ICMPV4, "/proc/sys/net/ipv4/icmp_echo_ignore_all")
    } else {
        (Protocol::ICMPV6, "/proc/sys/net/ipv6/icmp/echo_ignore_all")
    };
    veth.run(1, |_| {
        std::fs::write(setting, "1").expect("a setting of this namespace");
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("a raw socket");
        if is_ipv4 {
            socket.set_header_included_v4(true).expect("an option of raw sockets");
        }
        socket.set_nonblocking(true).expect("a socket that does not block");
        socket
    })
}

/// The message with its Internet checksum.
fn summed(mut message: Vec<u8>) -> Vec<u8> {
    message[2..4].fill(0);
    let word = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    let sum: u32 = message.chunks(2).map(word).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The message that answers a request, with a change.
fn message(request: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = request[HEADER..].to_vec();
    message[0] = 0;
    change(&mut message);
    summed(message)
}

/// A packet back to the asker; the kernel fills in its length and the header's checksum.
/// `fragment`: flags and offset.
fn packet(request: &[u8], fragment: u16, ttl: u8, options: &[u8], message: &[u8]) -> Vec<u8> {
    let words = ((HEADER + options.len()) / 4) as u8;
    let [high, low] = fragment.to_be_bytes();
    let begins = [0x40 | words, 0, 0, 0, 0x12, 0x34, high, low, ttl, 1, 0, 0];
    [&begins[..], &request[16..20], &request[12..16], options, message].concat()
}

fn plain(request: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    packet(request, 0, 64, &[], &message(request, change))
}

/// Answers that ping(8) takes.
const ROWS: [(&str, Odd); 15] = [
    ("plain", |request| vec![plain(request, |_| {})]),
    ("a code that is not 0", |request| vec![plain(request, |message| message[1] = 5)]),
    ("twice", |request| vec![plain(request, |_| {}); 2]),
    ("an answer to an earlier request before", |request| {
        vec![plain(request, |message| message[7] = message[7].wrapping_sub(1)), plain(request, |_| {})]
    }),
    ("an answer to another program before", |request| {
        vec![plain(request, |message| message[5] ^= 1), plain(request, |_| {})]
    }),
    ("a broken answer before", |request| {
        let mut broken = plain(request, |_| {});
        broken[HEADER + 2] ^= 1;
        vec![broken, plain(request, |_| {})]
    }),
    ("an error before", |request| {
        let about = [&[3, 3, 0, 0, 0, 0, 0, 0], &request[..HEADER + 8]].concat();
        vec![packet(request, 0, 64, &[], &summed(about)), plain(request, |_| {})]
    }),
    ("no hop left", |request| vec![packet(request, 0, 1, &[], &message(request, |_| {}))]),
    ("all hops left", |request| vec![packet(request, 0, 255, &[], &message(request, |_| {}))]),
    ("options of IP", |request| vec![packet(request, 0, 64, &[1; 8], &message(request, |_| {}))]),
    ("padding", |request| vec![plain(request, |message| message.extend([0; 12]))]),
    ("a thousand bytes more", |request| vec![plain(request, |message| message.extend([7; 1000]))]),
    ("none of the data", |request| vec![plain(request, |message| message.truncate(8))]),
    ("other data", |request| vec![plain(request, |message| message[8..].fill(0xaa))]),
    ("two fragments", |request| {
        let whole = message(request, |_| {});
        let (first, second) = whole.split_at(32);
        // The first one says that more follow; offsets count eight bytes.
        vec![packet(request, 0x2000, 64, &[], first), packet(request, 4, 64, &[], second)]
    }),
];

#[test]
fn odd_hosts_that_answer_are_up() {
    let veth = VethPair::new("pingodd");
    let socket = far_end(&veth, Domain::IPV4);
    veth.run(0, |_| {
        block_on(async {
            let peer = Host::on(socket, REQUEST, HEADER);
            peer.is_there(ROWS[0].1, "10.9.9.2").await;
            for (name, odd) in ROWS {
                peer.answers(odd);
                assert_eq!(ping(LIMIT).at(host("10.9.9.2")).await, Ok(Answer::default()), "{name}");
            }
        });
    });
}

/// None of these answers the request.
#[test]
fn what_is_no_answer_brings_no_host_up() {
    let rows: [(&str, Odd); 5] = [
        ("nothing", silent),
        ("the request itself", |request| vec![plain(request, |message| message[0] = REQUEST)]),
        ("an answer to another program", |request| vec![plain(request, |message| message[5] ^= 1)]),
        ("an answer to another request", |request| vec![plain(request, |message| message[7] ^= 1)]),
        ("a broken answer", |request| {
            let mut broken = plain(request, |_| {});
            broken[HEADER + 2] ^= 1;
            vec![broken]
        }),
    ];
    let veth = VethPair::new("pingnone");
    let socket = far_end(&veth, Domain::IPV4);
    veth.run(0, |_| {
        block_on(async {
            let peer = Host::on(socket, REQUEST, HEADER);
            peer.is_there(ROWS[0].1, "10.9.9.2").await;
            for (name, odd) in rows {
                peer.answers(odd);
                let found = ping(SHORT).at(host("10.9.9.2")).await;
                assert_eq!(found, Err("no echo reply within 300ms".into()), "{name}");
            }
        });
    });
}

/// The request as an answer, with a change.
fn message_v6(request: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = request.to_vec();
    message[0] = 129;
    change(&mut message);
    message
}

#[test]
fn odd_hosts_that_answer_by_ipv6_are_up() {
    let rows: [(&str, Odd); 7] = [
        ("plain", |request| vec![message_v6(request, |_| {})]),
        ("a code that is not 0", |request| vec![message_v6(request, |message| message[1] = 5)]),
        ("twice", |request| vec![message_v6(request, |_| {}); 2]),
        ("an answer to an earlier request before", |request| {
            let earlier = message_v6(request, |message| message[7] = message[7].wrapping_sub(1));
            vec![earlier, message_v6(request, |_| {})]
        }),
        ("a thousand bytes more", |request| vec![message_v6(request, |message| message.extend([7; 1000]))]),
        ("none of the data", |request| vec![message_v6(request, |message| message.truncate(8))]),
        ("other data", |request| vec![message_v6(request, |message| message[8..].fill(0xaa))]),
    ];
    let veth = VethPair::new("pingodd6");
    for (name, number) in veth.names.iter().zip(1..) {
        ip(&format!("-n {name} address add fd00::{number}/64 dev eth0 nodad"));
    }
    let socket = far_end(&veth, Domain::IPV6);
    veth.run(0, |_| {
        block_on(async {
            let peer = Host::on(socket, REQUEST_V6, 0);
            peer.is_there(rows[0].1, "fd00::2").await;
            for (name, odd) in rows {
                peer.answers(odd);
                assert_eq!(ping(LIMIT).at(host("fd00::2")).await, Ok(Answer::default()), "{name}");
            }
        });
    });
}
