//! What happens to the directors while the connections are open.

use std::net::SocketAddrV4;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_api::status::{Status, SyncPeer};
use lb_lab::cluster::pair::{PATIENCE, Settings};
use lb_lab::lab::routing::Daemon;
use lb_lab::lab::{Director, Link, Node};
use lb_lab::scenario::alone::{Alone, BOTH, SERVICE};
use lb_lab::scenario::anycast::{self, Anycast};
use lb_lab::scenario::floods::{self, Findings, Kind};
use lb_lab::scenario::reloads::Newcomers;
use lb_lab::scenario::several::Several;
use lb_lab::scenario::steady::{Outcome, Steady};
use lb_tests::fill::fill;

use super::{Case, Options, PACE};

type Play = fn(Run<'_>) -> Result<Case>;

pub(super) const CASES: [(&str, Play); 24] = [
    ("restart", |run| run.alone(TABLE, 0, restart)),
    ("crash", |run| run.alone(TABLE, 0, crash)),
    ("upgrade", |run| run.alone(TABLE, 0, upgrade)),
    ("resize", |run| run.alone(TABLE, 0, resize)),
    ("restart-million", |run| run.alone(MILLION, MILLION, restart)),
    ("resize-million", |run| run.alone(MILLION, MILLION, resize)),
    ("cluster-restart", |run| run.several(PATIENT, cluster_restart)),
    ("cluster-crash", |run| run.several(Settings::DEFAULT, cluster_crash)),
    ("cluster-standby", |run| run.several(PATIENT, cluster_standby)),
    ("takeover-kill", |run| run.known(Settings::DEFAULT, takeover_kill)),
    ("takeover-freeze", |run| run.known(Settings::DEFAULT, takeover_freeze)),
    ("takeover-link", |run| run.known(Settings::DEFAULT, takeover_link)),
    ("return", |run| run.known(Settings::DEFAULT, comes_back_empty)),
    ("ecmp-leave", |run| run.ecmp(ecmp_leave)),
    ("ecmp-join", |run| run.ecmp(ecmp_join)),
    ("sync-million", sync_million),
    ("reload-1000", reload),
    ("flood-syn", |run| run.flood(Kind::Syn)),
    ("flood-synack", |run| run.flood(Kind::SynAck)),
    ("flood-udp2", |run| run.flood(Kind::TwoDatagrams)),
    ("flood-ack", |run| run.flood(Kind::Ack)),
    ("flood-rst", |run| run.flood(Kind::Rst)),
    ("flood-icmp", |run| run.flood(Kind::IcmpErrors)),
    ("flood-fragments", |run| run.flood(Kind::Fragments)),
];

/// Of the case `reload-1000`.
const RELOADS: u32 = 1000;

/// Of the cases with three directors at most.
const ECMP: u32 = 3000;

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(60);

/// Connections that the table has room for.
const TABLE: u32 = 50_000;
pub(super) const MILLION: u32 = 1_000_000;

/// Where nobody dies a director that stands still on a busy machine shall not be taken for dead.
pub(super) const PATIENT: Settings = Settings { dead: Duration::from_secs(1), ..Settings::DEFAULT };

/// One case under way.
pub(super) struct Run<'a> {
    pub name: &'static str,
    pub options: &'a Options,
}

/// How long the start of an `lb` took, in milliseconds: from its process to its first answer, which
/// `lb status` waits for.
struct StartMs(f64);

fn start(director: &mut Director, start: impl FnOnce(&mut Director) -> Result<()>) -> Result<StartMs> {
    let begun = Instant::now();
    start(director)?;
    Ok(StartMs(begun.elapsed().as_secs_f64() * 1e3))
}

fn restart(_: &Run<'_>, alone: &mut Alone, _: u32) -> Result<StartMs> {
    alone.director.stop()?;
    start(&mut alone.director, Director::restart)
}

fn crash(_: &Run<'_>, alone: &mut Alone, _: u32) -> Result<StartMs> {
    alone.director.kill()?;
    start(&mut alone.director, Director::restart)
}

fn upgrade(run: &Run<'_>, alone: &mut Alone, _: u32) -> Result<StartMs> {
    let other = run.options.other_build.as_deref();
    let other = other.context("--other-build is missing; `cargo xtask bench resilience` gives it")?;
    alone.director.stop()?;
    start(&mut alone.director, |director| director.restart_as(other))
}

fn resize(_: &Run<'_>, alone: &mut Alone, connections: u32) -> Result<StartMs> {
    let larger = connections * 4;
    alone.director.stop()?;
    alone.reconfigure(larger, BOTH)?;
    let took = start(&mut alone.director, Director::restart)?;
    alone.has_taken_over(larger.into())?;
    Ok(took)
}

fn cluster_restart(several: &mut Several) -> Result<StartMs> {
    several.pair.ha1.stop()?;
    comes_back(several)
}

fn cluster_crash(several: &mut Several) -> Result<StartMs> {
    several.pair.ha1.kill()?;
    comes_back(several)
}

/// Everyone speaks by the other director meanwhile.
fn comes_back(several: &mut Several) -> Result<StartMs> {
    several.pair.wait_for_take_over()?;
    sleep(PACE);
    let took = start(&mut several.pair.ha1, Director::restart)?;
    several.pair.wait_until_held_by("ha1")?;
    several.ha1_has_taken_over()?;
    Ok(took)
}

/// The connections began there when it was the active one.
fn cluster_standby(several: &mut Several) -> Result<StartMs> {
    several.pair.ha1.failover()?;
    several.pair.wait_until_held_by("ha2")?;
    several.pair.ha1.stop()?;
    sleep(PACE);
    let took = start(&mut several.pair.ha1, Director::restart)?;
    several.ha1_has_taken_over()?;
    Ok(took)
}

/// The process is killed and its machine gone: nobody relays.
fn takeover_kill(several: &mut Several) -> Result<StartMs> {
    several.pair.ha1.kill()?;
    several.talk.ha1.set_carrier("eth0", Link::Down)?;
    several.pair.wait_for_take_over()?;
    sleep(PACE);
    Ok(StartMs(0.0))
}

/// It stands still, and goes on when another one is active.
fn takeover_freeze(several: &mut Several) -> Result<StartMs> {
    several.pair.ha1.freeze();
    several.pair.wait_for_take_over()?;
    sleep(PACE);
    several.pair.ha1.thaw();
    several.pair.wait_until_held_by("ha1")?;
    sleep(PACE);
    Ok(StartMs(0.0))
}

/// The active director's cable is out, and in again.
fn takeover_link(several: &mut Several) -> Result<StartMs> {
    several.talk.ha1.set_carrier("eth0", Link::Down)?;
    several.pair.wait_for_take_over()?;
    sleep(PACE);
    several.talk.ha1.set_carrier("eth0", Link::Up)?;
    several.pair.wait_until_held_by("ha1")?;
    sleep(PACE);
    Ok(StartMs(0.0))
}

/// As [`takeover_kill`], and the machine comes back as one that knows nothing.
fn comes_back_empty(several: &mut Several) -> Result<StartMs> {
    takeover_kill(several)?;
    several.pair.ha1.release()?;
    several.talk.ha1.set_carrier("eth0", Link::Up)?;
    let took = start(&mut several.pair.ha1, Director::restart)?;
    several.pair.wait_until_held_by("ha1")?;
    sleep(PACE);
    Ok(took)
}

/// One of three directors that serve the VIP at once ends, by a stop, and another one by a kill.
fn ecmp_leave(anycast: &mut Anycast) -> Result<StartMs> {
    anycast.directors[1].stop()?;
    anycast.wait_until_spread_over(&["d1", "d3"])?;
    sleep(PACE);
    anycast.directors[2].kill()?;
    anycast.wait_until_spread_over(&["d1"])?;
    sleep(PACE);
    Ok(StartMs(0.0))
}

/// Two of three directors, one after the other, come back as ones that know nothing.
fn ecmp_join(anycast: &mut Anycast) -> Result<StartMs> {
    let mut took = StartMs(0.0);
    for place in [1, 2] {
        anycast.directors[place].stop()?;
        anycast.directors[place].release()?;
        sleep(PACE);
        took = start(&mut anycast.directors[place], Director::restart)?;
        anycast.wait_until_spread_over(&["d1", "d2", "d3"])?;
        sleep(PACE);
    }
    Ok(took)
}

/// A director that comes back empty learns a million connections. `start_ms` is from its process to
/// its knowing them.
fn sync_million(run: Run<'_>) -> Result<Case> {
    let echo = |server: &Node| run.echo(server);
    let mut several = Several::start_with(&run.lab(), MILLION, PATIENT, "", echo)?;
    let clients = several.clients(run.connections(), PACE)?;
    let took = comes_to_know(&mut several)?;
    run.ends(clients, u64::from(MILLION), &took)
}

/// The same without clients: milliseconds.
pub(super) fn learns_a_million(run: &Run<'_>) -> Result<f64> {
    let mut several = Several::start_with(&run.lab(), MILLION, PATIENT, "", |server| run.echo(server))?;
    Ok(comes_to_know(&mut several)?.0)
}

fn comes_to_know(several: &mut Several) -> Result<StartMs> {
    fill(&several.talk.ha1, "eth0", MILLION, MILLION)?;
    several.pair.ha2.stop()?;
    several.pair.ha2.release()?;
    start(&mut several.pair.ha2, |ha2| {
        ha2.restart()?;
        ha2.wait_until("ha2 knows what ha1 knows", PATIENCE, |status| {
            peer(status).is_some_and(|peer| peer.knows_theirs && peer.taken >= u64::from(MILLION))
        })
        .map(drop)
    })
}

/// A configuration that changes a thousand times, but for the service of the connections.
/// `honest_ok_share` is of requests over new ones.
fn reload(run: Run<'_>) -> Result<Case> {
    let alone = Alone::start_with(&run.lab(), TABLE, |server| run.echo(server))?;
    let clients = alone.clients(run.connections(), PACE)?;
    let newcomers = Newcomers::start(&alone.talk.client);
    let reloads = alone.reload_again_and_again(TABLE, RELOADS);
    let served = newcomers.finish()?;
    reloads?;
    let case = run.ends(clients, u64::from(run.options.connections), &StartMs(0.0))?;
    Ok(Case { honest_ok_share: Some(served.share()), ..case })
}

pub(super) fn peer(status: &Status) -> Option<&SyncPeer> {
    status.cluster.as_ref()?.sync.as_ref()?.peers.first()
}

impl Run<'_> {
    /// As [`Self::several`], with connections that the other director knows.
    fn known(&self, settings: Settings, play: fn(&mut Several) -> Result<StartMs>) -> Result<Case> {
        self.several(settings, |several| {
            let connections = self.connections() as u64;
            several.pair.ha2.wait_until("ha2 knows them", PATIENCE, |status| {
                peer(status).is_some_and(|peer| peer.taken >= connections)
            })?;
            play(several)
        })
    }

    /// Three directors that serve one VIP at once, behind a router.
    fn ecmp(&self, play: fn(&mut Anycast) -> Result<StartMs>) -> Result<Case> {
        let echo = |server: &Node| self.echo_at(server, anycast::SERVICE);
        let mut anycast = Anycast::start(&self.lab(), TABLE, [Daemon::Bird; 3], echo)?;
        let connections = self.options.connections.min(ECMP);
        let clients = anycast.clients(connections as usize, PACE)?;
        let took = play(&mut anycast).with_context(|| anycast.shown())?;
        self.ends(clients, u64::from(connections), &took)
    }

    /// Two directors, of whom the active one is flooded.
    fn flood(&self, kind: Kind) -> Result<Case> {
        let echo = |server: &Node| self.echo(server);
        let several = Several::start_with(&self.lab(), MILLION, PATIENT, "", echo)?;
        let clients = several.clients(self.connections(), PACE)?;
        let ha1 = &several.pair.ha1;
        let found = floods::flood(&several.talk.client, ha1, SERVICE, kind, FLOOD)?;
        let status = ha1.status()?;
        ensure!(status.held_by("ha1"), "the group has moved during the flood: {}", several.pair.shown());
        let Findings { frames, rate, honest, slowest_answer, grown_kib, .. } = found;
        eprintln!(
            "  {frames} frames, {rate:.0} a second; {honest} honest clients; slowest answer {slowest_answer:?}; memory \
             grew by {grown_kib} KiB; {} evicted",
            status.table.evicted
        );
        let case = self.ends(clients, u64::from(self.options.connections), &StartMs(0.0))?;
        Ok(Case { honest_ok_share: Some(found.honest_ok_share()), ..case })
    }

    pub(super) fn echo(&self, server: &Node) -> Result<()> {
        self.echo_at(server, SERVICE)
    }

    fn echo_at(&self, server: &Node, vip: SocketAddrV4) -> Result<()> {
        let this = std::env::current_exe()?;
        let this = this.to_str().context("the path of the benchmark is not UTF-8")?;
        server.start("echo", this, &["--echo", &vip.to_string()]).map(drop)
    }

    fn connections(&self) -> usize {
        self.options.connections as usize
    }

    /// A director that is alone, whose table has room for `table` connections and knows `entries`
    /// more than there are.
    fn alone(
        &self,
        table: u32,
        entries: u32,
        play: impl FnOnce(&Self, &mut Alone, u32) -> Result<StartMs>,
    ) -> Result<Case> {
        let mut alone = Alone::start_with(&self.lab(), table, |server| self.echo(server))?;
        let clients = alone.clients(self.connections(), PACE)?;
        fill(&alone.talk.ha1, "eth0", table, entries)?;
        let took = play(self, &mut alone, table)?;
        alone.wait_until_served()?;
        alone.director.wait_for_events("taken_over", 1, PATIENCE, |_| true)?;
        let status = alone.director.status()?;
        let servers = status.services.iter().flat_map(|service| &service.servers);
        let active: u64 = servers.map(|server| u64::from(server.active)).sum();
        let expected = u64::from(entries) + u64::from(self.options.connections);
        ensure!(active >= expected, "{active} of {expected} connections are known");
        self.ends(clients, active, &took)
    }

    fn several(
        &self,
        settings: Settings,
        play: impl FnOnce(&mut Several) -> Result<StartMs>,
    ) -> Result<Case> {
        let echo = |server: &Node| self.echo(server);
        let mut several = Several::start_with(&self.lab(), TABLE, settings, "", echo)?;
        let clients = several.clients(self.connections(), PACE)?;
        let took = play(&mut several).with_context(|| several.pair.shown())?;
        self.ends(clients, u64::from(self.options.connections), &took)
    }

    pub(super) fn lab(&self) -> String {
        format!("bench{}", self.name.replace('-', ""))
    }

    /// Each connection speaks at least once more.
    fn ends(&self, clients: Steady, entries: u64, took: &StartMs) -> Result<Case> {
        let Outcome { connections, lost, wrong, blocks, datagrams_lost, gap } = clients.finish();
        ensure!(
            lost > 0 || blocks >= 2 * connections,
            "the connections did not go on: {blocks} blocks of {connections}"
        );
        Ok(Case {
            name: self.name,
            connections,
            lost: lost + wrong,
            honest_ok_share: None,
            packets_lost: datagrams_lost,
            gap_ms_worst: tenths(gap.as_secs_f64() * 1e3),
            entries,
            start_ms: took.0.round(),
        })
    }
}

pub(super) fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
