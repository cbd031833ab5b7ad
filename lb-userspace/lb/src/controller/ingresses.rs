//! The interfaces that packets come in by besides the main one: clients', and what servers send
//! that are reached by address translation.

use anyhow::Result;
use lb_api::events::Record;
use lb_api::findings::{Finding, Findings, Kind};
use lb_api::status::InterfaceStatus;
use lb_cluster::takeover::segments::Station;
use lb_common::mac::Mac;
use lb_datapath::attach::pins::Pins;
use lb_datapath::attach::{self, Mode};
use lb_model::{Config, XdpMode};
use nix::net::if_::if_nametoindex;

use super::forwarder::Forwarder;
use super::instance::Instance;
use super::interface::{Interface, ModeChange, Role};

pub(super) struct Ingresses {
    here: Vec<Interface>,
    /// Servers alone name these, and they are not there: nothing waits for them.
    absent: Vec<String>,
}

impl Ingresses {
    /// Nobody else can have these interfaces from now on.
    pub(super) fn claim(config: &Config, findings: &Findings) -> Result<Self> {
        let is_wanted =
            |name: &&str| config.interfaces().any(|one| one == *name) || if_nametoindex(*name).is_ok();
        let others = config.ingresses().into_iter().skip(1);
        let (wanted, absent): (Vec<&str>, Vec<&str>) = others.partition(is_wanted);
        let claim = |name| Interface::claim(Role::Other, name, findings.clone());
        let here = wanted.into_iter().map(claim).collect::<Result<_>>()?;
        Ok(Self { here, absent: absent.into_iter().map(str::to_owned).collect() })
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
        let attach = |other: &mut Interface| other.attach(forwarder, wanted, in_cluster);
        Ok(self.here.iter_mut().map(attach).collect::<Result<Vec<_>>>()?.concat())
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
        let gone = self.here.iter().filter(|other| other.is_gone()).map(Interface::name);
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
/// packets come in by, and that the configuration does not name any more.
pub(super) fn remove_left(config: &Config) {
    let Ok(pins) = Pins::of(&config.interface) else { return };
    for (name, link) in pins.without_maps() {
        // Another lb may have it.
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
