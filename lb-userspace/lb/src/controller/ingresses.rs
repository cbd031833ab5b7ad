//! The interfaces that packets come in by besides the main one: clients', and what servers send
//! that are reached by address translation.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, Result};
use lb_api::events::Record;
use lb_api::findings::{Finding, Findings, Kind};
use lb_api::status::InterfaceStatus;
use lb_cluster::takeover::segments::Station;
use lb_common::forward::egress::Egress;
use lb_common::mac::Mac;
use lb_datapath::attach::pins::Pins;
use lb_datapath::attach::{self, Mode};
use lb_datapath::inherited::{Inherited, Known};
use lb_datapath::plan::Target;
use lb_model::{Config, MAX_INTERFACES, Vlan, XdpMode};
use lb_net::links::{Exit, Links};
use nix::net::if_::if_nametoindex;

use super::draining::Draining;
use super::forwarder::Forwarder;
use super::instance::Instance;
use super::interface::{Interface, ModeChange, Role};

pub(super) struct Ingresses {
    here: Vec<Interface>,
    /// Servers alone name these, and they are not there: nothing waits for them.
    absent: Vec<String>,
    /// Those of `here` that the configuration does not name.
    departed: BTreeSet<String>,
}

impl Ingresses {
    /// Nobody else can have these interfaces from now on: those of the configuration, and after
    /// them those that servers are behind which have left it, and whose connections go on. `main`
    /// is the index of the main interface.
    pub(super) async fn claim(
        config: &Config,
        main: u32,
        inherited: Option<&Inherited>,
        findings: &Findings,
    ) -> Result<Self> {
        let is_wanted =
            |name: &&str| config.interfaces().any(|one| one == *name) || if_nametoindex(*name).is_ok();
        let others = config.ingresses().into_iter().skip(1);
        let (wanted, absent): (Vec<&str>, Vec<&str>) = others.partition(is_wanted);
        let claim = |name: &str| Interface::claim(Role::Other, name, findings.clone());
        let mut here: Vec<Interface> = wanted.into_iter().map(claim).collect::<Result<_>>()?;
        let absent: Vec<String> = absent.into_iter().map(str::to_owned).collect();
        let mut departed = match inherited {
            Some(inherited) => behind_departed(config, main, inherited).await,
            None => BTreeSet::new(),
        };
        departed.retain(|name| {
            let has_room = 1 + here.len() + absent.len() < MAX_INTERFACES;
            let room =
                has_room.then_some(()).with_context(|| format!("{MAX_INTERFACES} interfaces are in use"));
            let claimed = room.and_then(|()| claim(name)).map(|other| here.push(other));
            claimed.inspect_err(|error| tell_connections_end(name, error)).is_ok()
        });
        Ok(Self { here, absent, departed })
    }

    /// Whether what comes in by one of them is redirected by its driver.
    pub(super) fn is_any_native(&self) -> bool {
        self.here.iter().any(|other| other.mode() == Some(Mode::Native))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Interface> {
        self.here.iter()
    }

    pub(super) fn status(&self) -> Vec<InterfaceStatus> {
        let mode = |other: &Interface| match other.is_attached() {
            true => other.mode().map_or("none", Mode::name),
            false => "none",
        };
        let status =
            |other| InterfaceStatus { name: Interface::name(other).to_owned(), mode: mode(other).to_owned() };
        self.here.iter().map(status).collect()
    }

    pub(super) fn stations(&self) -> impl Iterator<Item = Station> {
        self.here.iter().map(Interface::station)
    }

    /// Tells the data path of them; `main` is the index of the main interface.
    pub(super) fn tell(&self, main: u32, forwarder: &mut Forwarder) -> Result<()> {
        let others: Vec<_> = self.here.iter().map(|other| (other.index(), other.mac())).collect();
        forwarder.set_ingresses(main, &others)
    }

    /// The interface of this index has this MAC now. Returns its place behind the main one among
    /// [`Self::stations`]; `None`: it is none of these.
    pub(super) fn set_mac(&mut self, index: u32, mac: Mac) -> Option<usize> {
        let place = self.here.iter().position(|other| other.index() == index)?;
        self.here[place].set_mac(mac);
        Some(place + 1)
    }

    pub(super) fn attach(
        &mut self,
        forwarder: &mut Forwarder,
        wanted: XdpMode,
        in_cluster: bool,
    ) -> Result<Vec<Record>> {
        let (mut records, departed) = (Vec::new(), &self.departed);
        let mut attach = |other: &mut Interface| match other.attach(forwarder, wanted, in_cluster) {
            Ok(told) => {
                records.extend(told);
                Ok(true)
            }
            // Nothing that the configuration names waits for it.
            Err(error) if departed.contains(other.name()) => {
                tell_connections_end(other.name(), &error);
                Ok(false)
            }
            Err(error) => Err(error),
        };
        let mut here = Vec::new();
        for mut other in std::mem::take(&mut self.here) {
            if attach(&mut other)? {
                here.push(other);
            }
        }
        self.here = here;
        Ok(records)
    }

    /// Each goes over to the best mode that it can have now; with `lossy` those alone that lose
    /// what native mode sends.
    pub(super) fn change_mode(
        &mut self,
        forwarder: &mut Forwarder,
        wanted: XdpMode,
        why: &str,
        lossy: bool,
    ) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for other in self.here.iter_mut().filter(|other| !lossy || other.loses_frames()) {
            let ModeChange { is_anew: _, records: told } = other.change_mode(forwarder, wanted, why)?;
            other.watch(wanted)?;
            records.extend(told);
        }
        Ok(records)
    }

    /// Tells which are gone. `true`: one of them is there again, and all must begin anew with it.
    pub(super) fn look(&self, findings: &Findings) -> bool {
        // An operator may remove what the configuration does not name.
        let named = self.here.iter().filter(|other| !self.departed.contains(other.name()));
        let gone = named.filter(|other| other.is_gone()).map(Interface::name);
        let gone: Vec<&str> = gone.chain(self.absent.iter().map(String::as_str)).collect();
        findings.set(Kind::IngressGone, gone.iter().map(|name| finding(name)).collect());
        gone.into_iter().any(|name| if_nametoindex(name).is_ok())
    }

    /// Takes the programs off; with `stays` they are left to the next `lb`.
    pub(super) fn leave(&mut self, stays: bool) {
        for attachment in self.here.iter_mut().filter_map(Interface::take_attachment).filter(|_| !stays) {
            if let Err(error) = attachment.detach_for_good() {
                tracing::warn!("{error:#}");
            }
        }
    }
}

/// The interfaces that servers of address translation are behind which the configuration does not
/// have any more, and which drain: an `lb` before this one had what they send come in there. None
/// of those that the configuration names.
async fn behind_departed(config: &Config, main: u32, inherited: &Inherited) -> BTreeSet<String> {
    let mut draining = Draining::default();
    draining.reload(&inherited.services(), &config.services, Instant::now());
    let drains = |known: &&Known| match known.target {
        Target::Real(address) => draining.since(&known.service, address).is_some(),
        Target::Local => false,
    };
    let translated = inherited.servers.iter().filter(|known| known.translation.is_some());
    let egresses: Vec<Egress> = translated.filter(drains).filter_map(|known| known.egress).collect();
    if egresses.is_empty() {
        return BTreeSet::new();
    }
    let (Ok(pins), Ok(links)) = (Pins::of(&config.interface), Links::look().await) else {
        return BTreeSet::new();
    };
    let named = config.ingresses();
    let leads_to_one = |name: &str| {
        let exit = links.named(name).and_then(|link| links.exit_even_down(link.index, main).ok());
        exit.is_some_and(|exit| egresses.iter().any(|egress| leaves_by(egress, &exit)))
    };
    let left = pins.without_maps().into_iter().map(|(name, _)| name);
    left.filter(|name| !named.contains(&name.as_str()) && leads_to_one(name)).collect()
}

fn tell_connections_end(interface: &str, error: &anyhow::Error) {
    tracing::warn!(
        "connections of servers behind {interface} that have left the configuration end: {error:#}"
    );
}

/// Whether packets that leave so leave by this interface.
fn leaves_by(egress: &Egress, exit: &Exit) -> bool {
    egress.device == exit.device && egress.to == exit.vlan.unwrap_or(Vlan::UNTAGGED)
}

fn finding(name: &str) -> Finding {
    Finding {
        kind: Kind::IngressGone,
        subject: name.to_owned(),
        text: format!(
            "interface {name} is gone: what comes in by it is not served, and VIPs on it are not there"
        ),
        mend: "once it is back lb goes on with it by itself".to_owned(),
    }
}

/// Takes programs off other interfaces of this network namespace that an `lb` before this one had
/// packets come in by, and that neither the configuration names any more nor any `lb` has.
pub(super) fn remove_left(config: &Config) {
    let Ok(pins) = Pins::of(&config.interface) else { return };
    for (name, link) in pins.without_maps() {
        // Another lb may have it, or this one for servers that drain.
        if config.ingresses().contains(&name.as_str()) || Instance::claim(&name).is_err() {
            continue;
        }
        match attach::detach_pinned(&link) {
            Ok(()) => tracing::info!(
                "the program of an earlier lb is off {name}, which the configuration does not name"
            ),
            Err(error) => tracing::warn!("{error:#}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use lb_datapath::plan::egress;

    use super::*;

    #[test]
    fn an_interface_is_told_by_how_packets_leave_to_the_servers_behind_it() {
        let mac = Mac::new([2, 0, 0, 0, 0, 9]);
        let exit = |interface, device, vlan| Exit { interface, device, mac, vlan, tpid: 0x8100, mtu: 1500 };
        let plain = exit(7, 7, None);
        let (tagged, other) = (exit(8, 7, Some(Vlan::single(120))), exit(9, 9, None));
        for (to, expected) in
            [(plain, [true, false, false]), (tagged, [false, true, false]), (other, [false, false, true])]
        {
            let Exit { device, vlan, tpid, mtu, .. } = to;
            let planned = egress::Exit { other: Some((device, mac)), vlan, tpid, mtu };
            let egress = egress::egress(None, None, planned).expect("they leave by another device");
            let found = [plain, tagged, other].map(|exit| leaves_by(&egress, &exit));
            assert_eq!(found, expected, "{to:?}");
        }
    }
}
