//! A start where another `lb` has been before, which was stopped, killed or replaced: its program
//! forwards on, and its connections go on with this one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lb_api::events::{Events, Level, Record};
use lb_common::mac::Mac;
use lb_datapath::attach::pins::Pins;
use lb_datapath::inherited::{self, Inherited, Known, PinnedMaps};
use lb_datapath::lease::Start;
use lb_datapath::object::{self, Sizes};
use lb_datapath::plan::Target;
use lb_datapath::table::Table;
use lb_datapath::{DataPath, attach};
use lb_model::{Config, Scheduler, ServiceKey};

use super::Controller;
use super::desired::RuntimeState as _;
use super::host;
use super::service_manager::Step;

/// How long packets in mid-connection that no entry knows may have to wait for the last copies.
const LAST_COPIES: Duration = Duration::from_secs(2);

/// What an `lb` before this one left, until it is taken over.
pub(super) struct Predecessor {
    pub inherited: Option<Inherited>,
    /// Removes the pins of the maps, should the start come to nothing.
    pub pinned_maps: PinnedMaps,
}

/// How much the maps hold. Without an IPv6 service at the start the table of IPv6, whose slots are
/// twice as large, is small; the next start makes it as large as that of IPv4, and copies
/// connections.
pub(super) fn sizes(config: &Config) -> Sizes {
    const SMALL: u32 = 64;
    let has_ipv6 = config.services.iter().any(|service| service.key.vip.is_ipv6());
    let connections_v6 = if has_ipv6 { config.connections } else { config.connections / SMALL };
    let of_mh = config.services.iter().filter(|service| service.scheduler == Scheduler::Mh).count();
    let places = config.services.iter().map(|service| service.ports.places());
    let sizes = Sizes::for_connections(config.connections, connections_v6).with_services(places.sum(), of_mh);
    // Without persistence at the start there is room for few clients; the next start makes more.
    let binds = config.services.iter().any(|service| service.persistence.is_some());
    Sizes { bindings: if binds { config.bindings } else { sizes.bindings }, ..sizes }
}

/// The event of a configuration that has got its first IPv6 service since `lb` started.
pub(super) fn outgrown(config: &Config, table: &Table) -> Option<Record> {
    let wanted = sizes(config).pages_v6() as usize;
    (table.v6.count() < wanted).then(|| {
        let text = format!(
            "the table of IPv6 connections has {} slots, because there was no IPv6 service when lb started: restart lb, \
             which loses no connection, for all {} connections",
            table.v6.slots(),
            config.connections
        );
        Record::new(Level::Warning, "ipv6_table_small", text)
    })
}

/// The interface's pins; that a file system was mounted for them is an event.
fn pins(interface: &str, events: &mut Events) -> Result<Pins> {
    let pins = Pins::of(interface)?;
    pins.mounted().into_iter().for_each(|mounted| events.record(host::mounted(mounted)));
    Ok(pins)
}

/// What there is to take over; what cannot be is told before anything is touched.
pub(super) fn find(interface: &str, index: u32, sizes: &Sizes, events: &mut Events) -> Option<Inherited> {
    // Without a BPF file system nothing can have been left.
    let pins = pins(interface, events).ok()?;
    let program = attach::left_behind(&pins, index)?;
    let found = pins.left_maps().context("its maps are not pinned beside it");
    match found.and_then(|folder| inherited::find(program, folder, sizes)) {
        Ok(found) => Some(found),
        Err(error) => {
            let text = format!(
                "the lb before this one left program {program} on {interface}, and its connections cannot be taken over: \
                 {error:#}. They end as soon as this lb has attached its own program"
            );
            events.record(Record::new(Level::Warning, "connections_lost", text));
            None
        }
    }
}

/// Maps and program, with those maps that go on.
pub(super) fn data_path(
    inherited: Option<&mut Inherited>,
    interface: &str,
    sizes: Sizes,
    mac: Mac,
    start: Start,
    events: &mut Events,
) -> Result<(DataPath, PinnedMaps)> {
    Step::begin("starting: making the maps");
    let mut inherited = inherited;
    // Without a BPF file system nothing outlives the process, which is told when the program is
    // attached.
    let pinned_maps = match pins(interface, events) {
        Ok(pins) => inherited::pin_maps(&pins, inherited.as_deref_mut(), &sizes)?,
        Err(_) => PinnedMaps::default(),
    };
    let object = object::load(&sizes, &pinned_maps)?;
    Ok((DataPath::new(object, sizes, mac, random_keys()?, start, inherited.as_deref())?, pinned_maps))
}

impl Controller {
    /// What the lb before knew of the servers is taken to be so until this one has looked itself: a
    /// restart takes nobody out, not even for the moment that a look takes. Servers that the
    /// configuration does not name any more drain, as they do after a reload.
    pub(super) fn presume_what_was_known(&mut self, inherited: &Inherited) {
        self.runtime.draining.reload(&inherited.services(), &self.config.services, Instant::now());
        let known: HashMap<(ServiceKey, Target), Known> =
            inherited.servers.iter().map(|known| ((known.service, known.target), *known)).collect();
        self.follow_servers();
        let now = self.lifecycle.age();
        for Known { target, mac, tunnel, translation, egress, .. } in known.values() {
            if let Target::Real(address) = target
                && (tunnel.is_some() || translation.is_some() || egress.is_some())
            {
                // Of the route of address translation nothing is needed but that there is one.
                let tunnel = tunnel.map(|tunnel| (tunnel.source.into(), tunnel.mtu));
                self.runtime.ways.presume(*address, tunnel, egress.as_ref());
            }
            if let (Target::Real(address), Some(mac)) = (target, mac)
                && self.runtime.mac(*address).is_none()
            {
                let (_, notifications) = self.runtime.set_mac(*address, Some(*mac), now);
                self.notify(notifications);
            }
        }
        let was_usable = |service: &ServiceKey, address| {
            known.get(&(*service, Target::Real(address))).is_some_and(|known| known.usable)
        };
        let notifications = self.runtime.presume_again(&self.config.services, was_usable, now);
        self.notify(notifications);
    }

    /// Puts this program in the place of the one before, and brings over what that one knows.
    pub(super) fn take_over(&mut self, predecessor: &mut Predecessor) -> Result<()> {
        match predecessor.inherited.take() {
            Some(inherited) => self.take_over_from(&inherited)?,
            None => self.attach()?,
        }
        self.program
            .forwarder
            .give_sources_back()
            .context("cannot start the thread that gives ports back")?;
        // Without a pinned program the maps go with the process too.
        let pinned_maps = std::mem::take(&mut predecessor.pinned_maps);
        if self.program.interface.is_pinned() {
            pinned_maps.keep();
        }
        Ok(())
    }

    fn take_over_from(&mut self, inherited: &Inherited) -> Result<()> {
        self.program.forwarder.purge_unclaimed();
        let sizes = sizes(&self.config);
        let step = Step::begin("starting: bringing over which clients are bound");
        if let Err(error) = self.program.forwarder.copy_bindings(inherited, &sizes, &|| step.goes_on()) {
            tracing::warn!("{error:#}: clients are bound anew");
        }
        let text = match inherited.fits(&sizes) {
            true => {
                self.attach()?;
                let counts =
                    inherited.servers.iter().map(|known| self.program.forwarder.table().counts(known.id));
                let connections: u64 =
                    counts.map(|counts| u64::from(counts.active()) + u64::from(counts.inactive())).sum();
                format!("taken over from program {}: {connections} connections go on", inherited.program)
            }
            false => self.attach_with_copies(inherited)?,
        };
        self.announcer
            .record(Record::new(Level::Info, "taken_over", text).from(&inherited.program.to_string()));
        if let Err(error) = inherited.forget() {
            tracing::warn!("{error:#}");
        }
        Ok(())
    }

    fn attach_with_copies(&mut self, inherited: &Inherited) -> Result<String> {
        let from = inherited.table()?;
        let step = Step::begin("starting: copying connections into a table of another size");
        let goes_on = || step.goes_on();
        let before = self.program.forwarder.copy(&from, true, &goes_on);
        // What has changed meanwhile, so that little is left for the moment that counts.
        let again = self.program.forwarder.copy(&from, true, &goes_on);
        self.program.forwarder.hold_strays(LAST_COPIES);
        self.attach()?;
        let last = self.program.forwarder.copy(&from, false, &goes_on);
        self.program.forwarder.hold_strays(Duration::ZERO);
        Ok(format!(
            "taken over from program {}: {} connections copied into a table for {}{}",
            inherited.program,
            before.copied + again.copied + last.copied,
            self.config.connections,
            match last.without_slot {
                0 => String::new(),
                lost => format!("; {lost} found no slot there and end"),
            }
        ))
    }
}

/// Keys of the connection table's hash.
fn random_keys() -> Result<[u64; 2]> {
    let mut keys = [0; 2];
    for key in &mut keys {
        *key = getrandom::u64().context("no random numbers for the connection table's keys")?;
    }
    Ok(keys)
}
