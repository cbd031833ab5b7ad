//! Floods from made-up sources at the rate that one sender reaches, and what they cost those who
//! are served meanwhile.

mod frames;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_api::events::Record;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use self::frames::Frames;
pub use self::frames::Kind;
use super::alone::{METRICS_PORT, SERVICE};
use super::newcomers::{AT_ONCE, Newcomers, Served};
use super::several::Several;
use crate::lab::{Director, Node};

/// How often the director is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// A scrape that takes longer fails.
const SCRAPE: Duration = Duration::from_secs(10);

/// As long as an answer may take during a flood.
pub const IN_TIME: Duration = Duration::from_secs(1);
/// As much as the memory of a director may grow during a flood.
pub const MOST_GROWTH_KIB: u64 = 16 * 1024;

/// What is told of a server that checks have found to be otherwise.
const VERDICTS: [&str; 4] = ["server_down", "server_up", "quorum_lost", "quorum_won"];
/// What is told of heartbeats that came too late, and of a thread that did.
const MOVES: [&str; 4] = ["node_dead", "role_changed", "split_brain", "thread_hangs"];

/// What happened during a flood.
#[derive(Debug, Clone, Copy)]
pub struct Findings {
    /// Frames that were sent, and how many in a second.
    pub frames: u64,
    pub rate: f64,
    /// Requests of honest clients.
    pub served: Served,
    /// The slowest answer of `lb status`.
    pub slowest_answer: Duration,
    /// The slowest page of metrics.
    pub slowest_scrape: Duration,
    /// How often checks have found a server down or up again, on both directors.
    pub verdicts: usize,
    /// How often a director was taken for dead, or a role changed.
    pub moves: usize,
    /// Growth of the memory of that director whose memory grew most.
    pub grown_kib: u64,
}

impl Findings {
    /// What a director owes its operator during a flood, in words, and whether it was kept.
    pub fn promises(&self) -> [(String, bool); 5] {
        let Self { slowest_answer, slowest_scrape, verdicts, moves, grown_kib, .. } = self;
        let (answer, scrape) = (slowest_answer.as_millis(), slowest_scrape.as_millis());
        let most = IN_TIME.as_millis();
        [
            (
                format!("slowest answer of `lb status` {answer} ms, goal {most} at most"),
                *slowest_answer <= IN_TIME,
            ),
            (format!("slowest scrape {scrape} ms, goal {most} at most"), *slowest_scrape <= IN_TIME),
            (format!("servers found down or up again {verdicts} times, goal 0"), *verdicts == 0),
            (format!("take-overs and late heartbeats {moves}, goal 0"), *moves == 0),
            (
                format!("memory grew by {grown_kib} KiB, goal {MOST_GROWTH_KIB} at most"),
                *grown_kib <= MOST_GROWTH_KIB,
            ),
        ]
    }
}

/// A director as it was before a flood.
struct Before<'a> {
    director: &'a Director,
    memory_kib: u64,
    last_event: u64,
}

impl<'a> Before<'a> {
    fn of(director: &'a Director) -> Result<Self> {
        let last_event = director.events()?.last().map_or(0, |event| event.number);
        Ok(Self { director, memory_kib: memory_kib(director)?, last_event })
    }

    fn grown_kib(&self) -> Result<u64> {
        Ok(memory_kib(self.director)?.saturating_sub(self.memory_kib))
    }

    /// How many events of these ids it has told since.
    fn told(&self, ids: &[&str]) -> Result<usize> {
        let events = self.director.events()?;
        let of = |event: &&Record| event.number > self.last_event && ids.contains(&event.event.as_str());
        Ok(events.iter().filter(of).count())
    }
}

/// Floods the service at the active one of two directors for `length`, while honest clients connect
/// and the director is asked for its status and its metrics.
pub fn flood(several: &Several, kind: Kind, length: Duration) -> Result<Findings> {
    let (client, director) = (&several.talk.client, &several.pair.ha1);
    let before = [Before::of(director)?, Before::of(&several.pair.ha2)?];
    let newcomers = Newcomers::start(client, SERVICE, AT_ONCE);
    let (sent, asked) = thread::scope(|scope| {
        let sender = scope.spawn(|| client.run(|| send(client, director.node(), kind, length))?);
        let asked = ask_until(director, || sender.is_finished());
        (sender.join().expect("the sender has a result"), asked)
    });
    let served = newcomers.finish()?;
    let (frames, took) = sent?;
    let Asked { slowest_answer, slowest_scrape } = asked?;
    let mut findings = Findings {
        frames,
        rate: frames as f64 / took.as_secs_f64(),
        served,
        slowest_answer,
        slowest_scrape,
        verdicts: 0,
        moves: 0,
        grown_kib: 0,
    };
    for before in &before {
        findings.verdicts += before.told(&VERDICTS)?;
        findings.moves += before.told(&MOVES)?;
        findings.grown_kib = findings.grown_kib.max(before.grown_kib()?);
    }
    Ok(findings)
}

#[derive(Default)]
struct Asked {
    slowest_answer: Duration,
    slowest_scrape: Duration,
}

fn ask_until(director: &Director, is_over: impl Fn() -> bool) -> Result<Asked> {
    let mut asked = Asked::default();
    loop {
        let begun = Instant::now();
        director.status().context("the director does not answer during the flood")?;
        asked.slowest_answer = asked.slowest_answer.max(begun.elapsed());
        let took = director.node().run(scrape)?.context("the director's metrics during the flood")?;
        asked.slowest_scrape = asked.slowest_scrape.max(took);
        if is_over() {
            return Ok(asked);
        }
        thread::sleep(ASK_EVERY);
    }
}

/// How long the page of metrics took, of the director in the calling thread's namespace.
fn scrape() -> Result<Duration> {
    let begun = Instant::now();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, METRICS_PORT));
    let mut stream = TcpStream::connect_timeout(&address, SCRAPE)?;
    stream.set_read_timeout(Some(SCRAPE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let took = begun.elapsed();
    ensure!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\nlb_table_slots"), "{answer}");
    Ok(took)
}

/// Sends as fast as it goes. Returns how many frames, and how long that took.
fn send(client: &Node, director: &Node, kind: Kind, length: Duration) -> Result<(u64, Duration)> {
    let socket = socket()?;
    let mut frames = Frames::new([&director.mac(), &client.mac()], SERVICE, kind)?;
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < length {
        for _ in 0..64 {
            // What the interface has no room for is lost, as on a cable.
            count += u64::from(socket.send(frames.following()).is_ok());
        }
    }
    Ok((count, begun.elapsed()))
}

/// A packet socket on eth0 of the calling thread's namespace.
fn socket() -> Result<Socket> {
    let socket =
        Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).context("no packet socket")?;
    let index = if_nametoindex("eth0").context("no eth0")?;
    // SAFETY: the storage is all zeros and large enough for a sockaddr_ll, whose every field is an
    // integer.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = &mut *storage.cast::<nix::libc::sockaddr_ll>();
            address.sll_family = nix::libc::AF_PACKET as u16;
            address.sll_ifindex = index as i32;
            *length = size_of::<nix::libc::sockaddr_ll>() as u32;
            Ok(())
        })?
    };
    socket.bind(&address).context("cannot bind a packet socket to eth0")?;
    Ok(socket)
}

/// The director's own memory. Pages of its maps, which it sees as those of a file, are not in it:
/// the sizes of maps are fixed, and they come into sight as they are swept.
fn memory_kib(director: &Director) -> Result<u64> {
    let file = format!("/proc/{}/status", director.process().pid());
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    line.trim().trim_end_matches(" kB").parse().context("RssAnon is no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_promise_can_be_broken_by_itself() {
        let kept = Findings {
            frames: 1,
            rate: 1.0,
            served: Served::default(),
            slowest_answer: IN_TIME,
            slowest_scrape: IN_TIME,
            verdicts: 0,
            moves: 0,
            grown_kib: MOST_GROWTH_KIB,
        };
        assert!(kept.promises().iter().all(|(_, is_kept)| *is_kept), "{kept:?}");
        let late = IN_TIME + Duration::from_millis(1);
        let broken = [
            Findings { slowest_answer: late, ..kept },
            Findings { slowest_scrape: late, ..kept },
            Findings { verdicts: 1, ..kept },
            Findings { moves: 1, ..kept },
            Findings { grown_kib: MOST_GROWTH_KIB + 1, ..kept },
        ];
        for (place, findings) in broken.iter().enumerate() {
            let missed: Vec<usize> = (0..5).filter(|at| !findings.promises()[*at].1).collect();
            assert_eq!(missed, [place], "{findings:?}");
        }
    }
}
