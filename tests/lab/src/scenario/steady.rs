//! Clients with open connections that verify every byte: they show the effect of a director's
//! restart.

pub mod arrivals;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use lb_api::status::Status;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{MissedTickBehavior, sleep, timeout};

use crate::lab::Node;

/// The block that each connection sends and gets back, once per [`Steady`]'s pace.
const BLOCK: usize = 64;
/// A connection without an answer for this long is lost. TCP retransmits after 0.2, 0.6, 1.4, 3 and
/// 6.2 s.
const PATIENCE: Duration = Duration::from_secs(15);
/// Interval of the datagrams, whose gaps show the length of an outage.
const PROBE_EVERY: Duration = Duration::from_millis(1);
/// How long the last answers to datagrams may take on a busy machine.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Lost connections that are printed with the reason.
const TOLD: u32 = 3;

/// Echo servers for TCP and UDP on one port, which end with the process. Answers to datagrams have
/// `address` as their source: the VIP, which the client expects, or what a director translates to
/// the VIP.
pub fn echo(node: &Node, address: SocketAddrV4) -> Result<()> {
    serve(node.run(|| bind(address))??).map(drop)
}

/// Runs an echo server as a separate process, inside the node's namespace, because a process's
/// descriptors are limited.
pub fn echo_here(address: SocketAddrV4) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let thread = serve(bind(address)?)?;
    thread.join().map_err(|_| anyhow!("the servers have panicked"))?.context("the servers have ended")
}

fn bind(address: SocketAddrV4) -> io::Result<(std::net::TcpListener, std::net::UdpSocket)> {
    let tcp = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))?;
    Ok((tcp, datagrams(address)?))
}

/// A socket with room for what comes while its thread gets no processor: a frame that went through
/// XDP takes a page.
fn datagrams(address: SocketAddrV4) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    setsockopt(&socket, RcvBufForce, &(32 << 20))?;
    Ok(socket)
}

fn serve((tcp, udp): (std::net::TcpListener, std::net::UdpSocket)) -> Result<JoinHandle<io::Result<()>>> {
    tcp.set_nonblocking(true)?;
    udp.set_nonblocking(true)?;
    on_a_thread("echo", async move {
        let (tcp, udp) = (TcpListener::from_std(tcp)?, UdpSocket::from_std(udp)?);
        tokio::spawn(async move {
            let mut datagram = [0; 2048];
            while let Ok((length, from)) = udp.recv_from(&mut datagram).await {
                let _ = udp.send_to(&datagram[..length], from).await;
            }
        });
        loop {
            let (mut stream, _) = tcp.accept().await?;
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    })
}

/// Open connections of TCP that a director knows.
pub(super) fn known(status: &Status) -> u64 {
    let services = status.services.iter().filter(|service| service.protocol == "tcp");
    services.flat_map(|service| &service.servers).map(|server| u64::from(server.active)).sum()
}

/// Open connections, which continue until [`Self::finish`].
pub struct Steady {
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    thread: JoinHandle<io::Result<()>>,
    opened: u64,
}

#[derive(Default)]
struct Seen {
    lost: AtomicU64,
    wrong: AtomicU64,
    blocks: AtomicU64,
    probes_sent: AtomicU64,
    probes_back: AtomicU64,
    /// The longest time without an answer to a datagram, in microseconds.
    gap: AtomicU64,
}

impl Seen {
    fn has_all_probes_back(&self) -> bool {
        self.probes_back.load(Ordering::Relaxed) >= self.probes_sent.load(Ordering::Relaxed)
    }
}

/// What became of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub connections: u64,
    /// Reset, or without an answer for 15 s.
    pub lost: u64,
    /// Blocks that came back changed.
    pub wrong: u64,
    pub blocks: u64,
    /// Datagrams without an answer, of a flow of one per millisecond.
    pub datagrams_lost: u64,
    pub gap: Duration,
}

impl Steady {
    /// Opens this many connections from `client`, each of which sends a block every `pace`, and a
    /// flow of datagrams.
    pub fn open(client: &Node, to: SocketAddrV4, connections: usize, pace: Duration) -> Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        // The servers may be in this process, too.
        let wanted = (connections as u64 * 2 + 1000).min(hard);
        if soft < wanted {
            setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
        }
        let streams = client.run(|| (0..connections).map(|_| connect(to)).collect::<io::Result<Vec<_>>>())?;
        let streams = streams.context("cannot connect")?;
        let probe = client.run(|| -> io::Result<_> {
            let socket = datagrams(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(SocketAddr::from(to))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })??;
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let (ending, noting) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = on_a_thread("clients", async move {
            let probing = tokio::spawn(probe_until(
                UdpSocket::from_std(probe)?,
                Arc::clone(&ending),
                Arc::clone(&noting),
            ));
            let mut all = Vec::new();
            let count = streams.len() as u32;
            for (number, stream) in (0..).zip(streams) {
                let stream = TcpStream::from_std(stream)?;
                // Spread the connections over the pace.
                let delay = pace * number / count.max(1);
                all.push(tokio::spawn(speak(
                    stream,
                    u64::from(number),
                    delay,
                    pace,
                    Arc::clone(&ending),
                    Arc::clone(&noting),
                )));
            }
            let mut told = 0;
            for (number, one) in (0_u32..).zip(all) {
                if let Ok(Some(why)) = one.await
                    && told < TOLD
                {
                    told += 1;
                    eprintln!("connection {number} is lost: {why}");
                }
            }
            let _ = probing.await;
            Ok(())
        })?;
        let steady = Self { stop, seen, thread, opened: connections as u64 };
        // Each connection has sent a block, so all are established.
        let deadline = Instant::now() + Duration::from_secs(60);
        while steady.seen.blocks.load(Ordering::Relaxed) < steady.opened {
            ensure!(Instant::now() < deadline, "the connections do not get going: {:?}", steady.look());
            ensure!(steady.look().lost == 0, "connections are lost at the start: {:?}", steady.look());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(steady)
    }

    pub fn look(&self) -> Outcome {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let seen = &self.seen;
        Outcome {
            connections: self.opened,
            lost: load(&seen.lost),
            wrong: load(&seen.wrong),
            blocks: load(&seen.blocks),
            datagrams_lost: load(&seen.probes_sent).saturating_sub(load(&seen.probes_back)),
            gap: Duration::from_micros(load(&seen.gap)),
        }
    }

    /// Each connection sends one more block and waits for it; then all end.
    pub fn finish(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        while !self.thread.is_finished() {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.look()
    }

    /// As [`Self::finish`].
    ///
    /// # Panics
    /// A connection was lost or got other bytes than it sent, or they did not go on.
    #[track_caller]
    pub fn finish_intact(self) -> Outcome {
        let outcome = self.finish();
        let Outcome { connections, lost, wrong, blocks, .. } = outcome;
        assert_eq!((lost, wrong), (0, 0), "{outcome:?}");
        assert!(blocks >= connections * 2, "they went on: {outcome:?}");
        outcome
    }
}

/// What fails before [`Steady::finish`] leaves no clients behind.
impl Drop for Steady {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn connect(to: SocketAddrV4) -> io::Result<std::net::TcpStream> {
    let stream = std::net::TcpStream::connect(to)?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Returns why the connection was lost; `None`: it went on to the end.
async fn speak(
    mut stream: TcpStream,
    number: u64,
    delay: Duration,
    pace: Duration,
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
) -> Option<String> {
    sleep(delay).await;
    for round in 0_u64.. {
        let last = stop.load(Ordering::Relaxed);
        let block: Vec<u8> = (0..BLOCK as u64).map(|byte| (number * 31 + round * 7 + byte) as u8).collect();
        let mut back = [0; BLOCK];
        let exchange = async {
            stream.write_all(&block).await?;
            stream.read_exact(&mut back).await
        };
        let lost = match timeout(PATIENCE, exchange).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer for {PATIENCE:?}")),
        };
        let count = match lost {
            Some(_) => &seen.lost,
            None if back[..] == block[..] => &seen.blocks,
            None => &seen.wrong,
        };
        count.fetch_add(1, Ordering::Relaxed);
        if last || lost.is_some() {
            return lost;
        }
        sleep(pace).await;
    }
    None
}

/// Waits for the answers to the last datagrams.
async fn probe_until(socket: UdpSocket, stop: Arc<AtomicBool>, seen: Arc<Seen>) {
    let mut every = tokio::time::interval(PROBE_EVERY);
    // After a moment without a processor, all those that were due would be a burst that no veth's
    // ring has room for.
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut heard = Instant::now();
    let mut back = [0; 16];
    let mut ending: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = every.tick() => {
                if ending.is_none() && stop.load(Ordering::Relaxed) {
                    ending = Some(Instant::now());
                }
                match ending {
                    Some(_) if seen.has_all_probes_back() => return,
                    Some(since) if since.elapsed() > LAST_ANSWERS => return,
                    Some(_) => {}
                    None => if socket.send(b"probe").await.is_ok() {
                        seen.probes_sent.fetch_add(1, Ordering::Relaxed);
                    },
                }
            }
            got = socket.recv(&mut back) => if got.is_ok() {
                let gap = u64::try_from(heard.elapsed().as_micros()).unwrap_or(u64::MAX);
                seen.gap.fetch_max(gap, Ordering::Relaxed);
                seen.probes_back.fetch_add(1, Ordering::Relaxed);
                heard = Instant::now();
            },
        }
    }
}

fn on_a_thread(
    name: &str,
    work: impl Future<Output = io::Result<()>> + Send + 'static,
) -> Result<JoinHandle<io::Result<()>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(work))?;
    Ok(thread)
}
