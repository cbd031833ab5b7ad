//! Why a probe failed, as an operator reads it beside the server.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_model::Statuses;
use lb_net::neighbours;
use lb_net::vips::on_loopback;

use super::expectation::Mismatch;

/// Why a probe failed; its display is the reason shown by `lb status`.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("connection refused")]
    Refused,
    /// The server did not answer the SYN.
    #[error("no answer to SYN within {}", duration(.0))]
    NoAnswerToSyn(Duration),
    /// ARP, neighbour discovery or ICMP reported the host as unreachable, or there is no route.
    #[error("host unreachable: its MAC address is not known, or there is no route to it")]
    Unreachable,
    #[error("no answer to {} for {server} on {interface}", neighbours::protocol(*server))]
    NoMac { server: IpAddr, interface: String },
    /// No answer to a SYN at the VIP, while the server's own address accepts connections.
    #[error(
        "no answer at the VIP {vip}, but the server's own address {own} accepts connections: is the VIP on the \
         server's loopback? ({})",
        on_loopback(*vip)
    )]
    VipUnreachable { vip: IpAddr, own: SocketAddr },
    /// No answer to a datagram at the VIP, while the server's own address answers.
    #[error(
        "no answer at the VIP {vip}, but the server's own address {own} answers: does the service listen on \
         the VIP, \
         and is the VIP on the server's loopback? ({})",
        on_loopback(*vip)
    )]
    VipSilent { vip: IpAddr, own: SocketAddr },
    #[error(
        "refuses connections to the VIP {vip}, but the server's own address {own} accepts them: the service \
         does not \
         listen on the VIP"
    )]
    VipRefuses { vip: IpAddr, own: SocketAddr },
    #[error(
        "this host does not hold the VIP {vip}, which it needs as a real server ({})",
        on_loopback(*vip)
    )]
    VipNotHere { vip: IpAddr },
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("no answer within {}", duration(.0))]
    NoAnswer(Duration),
    /// `expected` names what did not arrive.
    #[error("no {expected} within {}", duration(.within))]
    Late { expected: &'static str, within: Duration },
    #[error("closed before the {expected}")]
    Closed { expected: &'static str },
    #[error("reset before the {expected}")]
    Reset { expected: &'static str },
    /// The whole message.
    #[error("{0}")]
    Wrong(String),
    #[error("the answer is not HTTP: {0}")]
    NotHttp(String),
    /// `got` is the status code and its reason phrase.
    #[error("status {got}, expected {expected}")]
    Status { got: String, expected: Statuses },
    /// `whole`: the whole answer was searched.
    #[error("no {} in the {}{}", .mismatch.sought, extent(.mismatch, *.whole), got(.mismatch))]
    Mismatch { mismatch: Mismatch, whole: bool },
    #[error("no {} within {}{}", .mismatch.sought, duration(.within), so_far(.mismatch))]
    MismatchAtTimeout { mismatch: Mismatch, within: Duration },
    #[error("no {} before the connection was lost{}", .mismatch.sought, so_far(.mismatch))]
    MismatchAtClose { mismatch: Mismatch },
    /// This host could not send the probe.
    #[error("{0} on this host")]
    Local(io::Error),
}

impl Failure {
    /// Whether the failure is this host's own and says nothing about the server.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// The failure for an error of connect(2) or socket(2).
    pub fn from_connect(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Refused,
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => Self::Unreachable,
            // Descriptors, memory and local ports are local failures: a shortage on this host must
            // not take out all servers at once.
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL) => {
                Self::Local(error)
            }
            _ => Self::Connect(error),
        }
    }

    /// The failure for an error of a connection or UDP socket while waiting for `expected`.
    pub fn from_stream(error: &io::Error, expected: &'static str) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed { expected },
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                Self::Reset { expected }
            }
            _ => match error.raw_os_error().map(io::Error::from_raw_os_error).map(Self::from_connect) {
                None | Some(Self::Connect(_)) => Self::Wrong(format!("no {expected}: {error}")),
                Some(known) => known,
            },
        }
    }
}

fn duration(time: &Duration) -> String {
    humantime::format_duration(*time).to_string()
}

fn extent(mismatch: &Mismatch, whole: bool) -> String {
    match (mismatch.seen, whole) {
        (0, true) => "empty answer".into(),
        (seen, true) => format!("answer's {seen} bytes"),
        (seen, false) => format!("first {seen} bytes of the answer"),
    }
}

/// The end of a message about an answer that was not complete.
fn so_far(mismatch: &Mismatch) -> String {
    if mismatch.seen == 0 {
        String::new()
    } else {
        format!(", in the {}{}", extent(mismatch, false), got(mismatch))
    }
}

fn got(mismatch: &Mismatch) -> String {
    if mismatch.seen == 0 { String::new() } else { format!(": got {}", mismatch.begins) }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
    const WWW1: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 21)), 80);

    #[test]
    fn reads_as_a_sentence() {
        let mismatch =
            |seen, begins: &str| Mismatch { sought: "'Test Page'".into(), seen, begins: begins.into() };
        let cases = [
            (Failure::NoAnswerToSyn(Duration::from_secs(3)), "no answer to SYN within 3s"),
            (
                Failure::Status { got: "500".into(), expected: Statuses(vec![200..=299]) },
                "status 500, expected 200-299",
            ),
            (
                Failure::Status { got: "200 OK".into(), expected: Statuses(vec![204..=204, 300..=399]) },
                "status 200 OK, expected 204, 300-399",
            ),
            (
                Failure::Mismatch { mismatch: mismatch(612, "'It works!'"), whole: false },
                "no 'Test Page' in the first 612 bytes of the answer: got 'It works!'",
            ),
            (
                Failure::Mismatch { mismatch: mismatch(612, "'It works!'"), whole: true },
                "no 'Test Page' in the answer's 612 bytes: got 'It works!'",
            ),
            (
                Failure::Mismatch { mismatch: mismatch(0, "''"), whole: true },
                "no 'Test Page' in the empty answer",
            ),
            (
                Failure::MismatchAtTimeout {
                    mismatch: mismatch(9, "'It works!'"),
                    within: Duration::from_millis(1500),
                },
                "no 'Test Page' within 1s 500ms, in the first 9 bytes of the answer: got 'It works!'",
            ),
            (
                Failure::MismatchAtTimeout { mismatch: mismatch(0, "''"), within: Duration::from_secs(3) },
                "no 'Test Page' within 3s",
            ),
            (
                Failure::NoMac { server: WWW1.ip(), interface: "eth0".into() },
                "no answer to ARP for 192.0.2.21 on eth0",
            ),
            (
                Failure::VipUnreachable { vip: VIP, own: WWW1 },
                "no answer at the VIP 192.0.2.10, but the server's own address 192.0.2.21:80 accepts \
                 connections: is the VIP on the server's loopback? (ip address add 192.0.2.10/32 dev lo)",
            ),
            (
                Failure::VipSilent { vip: VIP, own: WWW1 },
                "no answer at the VIP 192.0.2.10, but the server's own address 192.0.2.21:80 answers: does \
                 the service listen \
                 on the VIP, and is the VIP on the server's loopback? (ip address add 192.0.2.10/32 dev lo)",
            ),
            (
                Failure::VipRefuses { vip: VIP, own: WWW1 },
                "refuses connections to the VIP 192.0.2.10, but the server's own address 192.0.2.21:80 \
                 accepts them: the \
                 service does not listen on the VIP",
            ),
        ];
        for (failure, expected) in cases {
            assert_eq!(failure.to_string(), expected);
        }
    }

    #[test]
    fn a_full_table_here_is_not_the_servers_fault() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL] {
            assert!(Failure::from_connect(io::Error::from_raw_os_error(code)).is_local(), "{code}");
        }
        for code in [libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::ECONNRESET] {
            assert!(!Failure::from_connect(io::Error::from_raw_os_error(code)).is_local(), "{code}");
        }
    }
}
