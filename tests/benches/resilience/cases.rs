//! What happens to the directors while the connections are open.

mod plan;

use std::fmt;
use std::net::SocketAddrV4;
use std::path::Path;
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
use lb_lab::scenario::methods::Method;
use lb_lab::scenario::newcomers::{AT_ONCE, Newcomers};
use lb_lab::scenario::several::Several;
use lb_lab::scenario::steady::arrivals::Arrivals;
use lb_lab::scenario::steady::{Outcome, Steady};
use lb_lab::statistics::round_to;
use lb_tests::fill::fill;

pub(super) use self::plan::{CASES, Plan};
use super::report::{ALL_SERVED, Case};
use super::{Options, PACE};

/// Of the case `reload-1000`.
const RELOADS: u32 = 1000;

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(60);

/// How old a connection must be for the other director to know it.
const KNOWN_AFTER: Duration = Duration::from_millis(200);

/// Connections that the table has room for.
const TABLE: u32 = 50_000;
pub(super) const MILLION: u32 = 1_000_000;

/// Where nobody dies a director that stands still on a busy machine shall not be taken for dead.
pub(super) const PATIENT: Settings = Settings { dead: Duration::from_secs(1), ..Settings::DEFAULT };

/// One case under way.
pub(super) struct Run<'a> {
    pub plan: &'static Plan,
    pub options: &'a Options,
    pub method: Method,
}

/// The case's name, with the method where it is tried by several.
impl fmt::Display for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.plan.name)?;
        self.method_name().map_or(Ok(()), |method| write!(f, ", {method}"))
    }
}

/// How long the start of an `lb` took, in milliseconds: from its process to its first answer, which
/// `lb status` waits for; 0 where none starts.
pub(super) struct StartMs(pub f64);

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
    let other = run.other_build()?;
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

/// The active one is upgraded first, so that both builds take part in a take-over each way.
fn cluster_upgrade(run: &Run<'_>, several: &mut Several) -> Result<StartMs> {
    let other = run.other_build()?;
    several.pair.ha1.stop()?;
    comes_back_by(several, |ha1| ha1.restart_as(other))
}

fn cluster_resize(several: &mut Several) -> Result<StartMs> {
    let larger = TABLE * 4;
    several.pair.ha1.stop()?;
    several.resize_ha1(larger)?;
    let took = comes_back(several)?;
    let configured = several.pair.ha1.status()?.table.configured;
    ensure!(configured == u64::from(larger), "a table for {configured} connections, not {larger}");
    Ok(took)
}

/// Everyone speaks by the other director meanwhile.
fn comes_back(several: &mut Several) -> Result<StartMs> {
    comes_back_by(several, Director::restart)
}

fn comes_back_by(several: &mut Several, starts: impl FnOnce(&mut Director) -> Result<()>) -> Result<StartMs> {
    several.pair.wait_for_take_over()?;
    sleep(PACE);
    let took = start(&mut several.pair.ha1, starts)?;
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

/// The process of one of three directors stands still, and goes on later. Its program forwards by
/// what it knows meanwhile.
fn ecmp_freeze(anycast: &mut Anycast) -> Result<StartMs> {
    let frozen = &anycast.directors[1];
    frozen.freeze();
    sleep(2 * PACE);
    frozen.thaw();
    anycast.wait_until_spread_over(&["d1", "d2", "d3"])?;
    sleep(PACE);
    Ok(StartMs(0.0))
}

/// The cable of one of three directors is out, and in again.
fn ecmp_cable(anycast: &mut Anycast) -> Result<StartMs> {
    let node = anycast.directors[1].node().clone();
    node.set_carrier("eth0", Link::Down)?;
    anycast.wait_until_spread_over(&["d1", "d3"])?;
    sleep(PACE);
    node.set_carrier("eth0", Link::Up)?;
    anycast.wait_until_spread_over(&["d1", "d2", "d3"])?;
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
fn sync_million(run: &Run<'_>) -> Result<Case> {
    let mut several = run.start_several(MILLION, PATIENT)?;
    let clients = several.clients(run.connections(), PACE)?;
    let took = comes_to_know(&mut several)?;
    run.ends(clients, u64::from(MILLION), &took)
}

/// The same without clients: milliseconds.
pub(super) fn learns_a_million(run: &Run<'_>) -> Result<f64> {
    let mut several = run.start_several(MILLION, PATIENT)?;
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
fn reload(run: &Run<'_>) -> Result<Case> {
    let alone = Alone::start_with(&run.lab(), TABLE, |server| start_echo(server, SERVICE))?;
    let clients = alone.clients(run.connections(), PACE)?;
    let newcomers = start_newcomers(&alone.talk.client, SERVICE)?;
    let reloads = alone.reload_again_and_again(TABLE, RELOADS);
    let served = newcomers.finish()?;
    reloads?;
    let case = run.ends(clients, u64::from(run.options.connections), &StartMs(0.0))?;
    Ok(Case { honest_ok_share: Some(served.share()), least_share: Some(ALL_SERVED), ..case })
}

pub(super) fn peer(status: &Status) -> Option<&SyncPeer> {
    status.cluster.as_ref()?.sync.as_ref()?.peers.first()
}

/// Starts what sends back what it gets, in a process of its own, at this address of a server.
fn start_echo(server: &Node, address: SocketAddrV4) -> Result<()> {
    let this = std::env::current_exe()?;
    let this = this.to_str().context("the path of the benchmark is not UTF-8")?;
    server.start("echo", this, &["--echo", &address.to_string()]).map(drop)
}

/// Clients that connect again and again to the service.
fn start_newcomers(client: &Node, service: SocketAddrV4) -> Result<Newcomers> {
    make_room(client)?;
    Ok(Newcomers::start(client, service, AT_ONCE))
}

/// The ports of connections that have ended are taken for a minute, so clients that connect again
/// and again need many.
fn make_room(client: &Node) -> Result<()> {
    client.sysctl("net/ipv4/ip_local_port_range", "1024 65535")
}

impl Run<'_> {
    /// As [`Self::several`], with connections that the other director knows. More begin until
    /// something happens: of those it may not know the youngest. And requests go over new ones.
    fn known(&self, settings: Settings, play: fn(&mut Several) -> Result<StartMs>) -> Result<Case> {
        let mut several = self.start_several(TABLE, settings)?;
        let clients = several.clients(self.connections(), PACE)?;
        let connections = self.connections() as u64;
        several.ha2_knows(connections)?;
        eprintln!("  {connections} connections are open, and the other director knows them");
        let newcomers = start_newcomers(&several.talk.client, SERVICE)?;
        let arrivals = Arrivals::start(&several.talk.client, SERVICE, PACE);
        sleep(PACE);
        ensure!(
            several.pair.ha1.status()?.held_by("ha1"),
            "the group has moved before anything happened: {}",
            several.pair.shown()
        );
        let happened = arrivals.begin_no_more();
        let took = play(&mut several).with_context(|| several.pair.shown())?;
        let ages = arrivals.finish(happened, KNOWN_AFTER)?;
        ensure!(ages.older > 0, "no connection had been open for {KNOWN_AFTER:?} when it happened");
        eprintln!(
            "  {} more connections were older than {KNOWN_AFTER:?}, {} younger",
            ages.older, ages.younger
        );
        let served = newcomers.finish()?;
        let case = self.ends(clients, connections, &took)?;
        Ok(Case {
            connections: case.connections + ages.older,
            lost: case.lost + ages.older_lost + ages.wrong,
            younger_lost: Some(ages.younger_lost),
            honest_ok_share: Some(served.share()),
            connect_ms_worst: Some(round_to(served.slowest.as_secs_f64() * 1e3, 1)),
            ..case
        })
    }

    /// Three directors that serve one VIP at once, behind a router.
    fn ecmp(&self, play: fn(&mut Anycast) -> Result<StartMs>) -> Result<Case> {
        let echo = |server: &Node| start_echo(server, anycast::SERVICE);
        let mut anycast = Anycast::start(&self.lab(), TABLE, [Daemon::Bird; 3], echo)?;
        let clients = anycast.clients(self.connections(), PACE)?;
        eprintln!("  {} connections are open, and all directors know them", self.connections());
        let newcomers = start_newcomers(&anycast.client, anycast::SERVICE)?;
        let took = play(&mut anycast).with_context(|| anycast.shown())?;
        let served = newcomers.finish()?;
        let case = self.ends(clients, u64::from(self.options.connections), &took)?;
        Ok(Case { honest_ok_share: Some(served.share()), ..case })
    }

    /// Two directors, of whom the active one is flooded.
    fn flood(&self, kind: Kind) -> Result<Case> {
        let several = self.start_several(MILLION, PATIENT)?;
        let clients = several.clients(self.connections(), PACE)?;
        make_room(&several.talk.client)?;
        let found = floods::flood(&several, kind, FLOOD)?;
        let status = several.pair.ha1.status()?;
        ensure!(status.held_by("ha1"), "the group has moved during the flood: {}", several.pair.shown());
        let Findings { frames, rate, served, .. } = found;
        eprintln!(
            "  {frames} frames, {rate:.0} a second; {} honest requests; {} evicted",
            served.requests, status.table.evicted
        );
        let case = self.ends(clients, u64::from(self.options.connections), &StartMs(0.0))?;
        let more_goals = found.promises().to_vec();
        Ok(Case { honest_ok_share: Some(served.share()), more_goals, ..case })
    }

    /// What an upgrade changes to.
    fn other_build(&self) -> Result<&Path> {
        let other = self.options.other_build.as_deref();
        other.context("--other-build is missing; `cargo xtask bench resilience` gives it")
    }

    pub(super) fn connections(&self) -> usize {
        self.options.connections as usize
    }

    /// The method, where the case is tried by several.
    fn method_name(&self) -> Option<&'static str> {
        self.plan.is_by_method().then(|| self.method.name())
    }

    /// A director that is alone, whose table has room for `table` connections and knows `entries`
    /// more than there are.
    fn alone(
        &self,
        table: u32,
        entries: u32,
        play: impl FnOnce(&Self, &mut Alone, u32) -> Result<StartMs>,
    ) -> Result<Case> {
        let mut alone = Alone::start_with(&self.lab(), table, |server| start_echo(server, SERVICE))?;
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
        Ok(Case { keeps_packets: true, ..self.ends(clients, active, &took)? })
    }

    fn several(
        &self,
        settings: Settings,
        play: impl FnOnce(&mut Several) -> Result<StartMs>,
    ) -> Result<Case> {
        let mut several = self.start_several(TABLE, settings)?;
        let clients = several.clients(self.connections(), PACE)?;
        let took = play(&mut several).with_context(|| several.pair.shown())?;
        let case = self.ends(clients, u64::from(self.options.connections), &took)?;
        Ok(Case { keeps_packets: true, ..case })
    }

    /// Two directors with such a table, and servers that are reached by the method of the run.
    pub(super) fn start_several(&self, table: u32, settings: Settings) -> Result<Several> {
        Several::start_by(self.method, &self.lab(), table, settings, "", start_echo)
    }

    fn lab(&self) -> String {
        format!("bench{}", self.plan.name.replace('-', ""))
    }

    /// Each connection speaks at least once more.
    pub(super) fn ends(&self, clients: Steady, entries: u64, took: &StartMs) -> Result<Case> {
        let Outcome { connections, lost, wrong, blocks, datagrams_lost, gap } = clients.finish();
        ensure!(
            lost > 0 || blocks >= 2 * connections,
            "the connections did not go on: {blocks} blocks of {connections}"
        );
        Ok(Case {
            name: self.plan.name,
            method: self.method_name(),
            connections,
            lost: lost + wrong,
            younger_lost: None,
            connect_ms_worst: None,
            honest_ok_share: None,
            least_share: None,
            packets_lost: datagrams_lost,
            keeps_packets: false,
            gap_ms_worst: round_to(gap.as_secs_f64() * 1e3, 1),
            entries,
            start_ms: took.0.round(),
            new_per_s: None,
            kept_share: None,
            more_goals: Vec::new(),
        })
    }
}
