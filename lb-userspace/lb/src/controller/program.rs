//! The XDP program: the interfaces that it is attached to, its maps, and how soon these follow the
//! runtime state.

use std::time::Instant;

use anyhow::Result;
use lb_api::events::Record;
use lb_common::mac::Mac;
use lb_model::{Config, XdpMode};

use super::forwarder::Forwarder;
use super::ingresses::Ingresses;
use super::interface::{Interface, ModeChange};
use super::throttle::Throttle;

pub(super) struct Program {
    /// The main interface.
    pub interface: Interface,
    /// The other interfaces that packets come in by.
    pub ingresses: Ingresses,
    pub forwarder: Forwarder,
    pub throttle: Throttle,
}

impl Program {
    pub(super) fn new(interface: Interface, ingresses: Ingresses, forwarder: Forwarder) -> Self {
        Self { interface, ingresses, forwarder, throttle: Throttle::new(Instant::now()) }
    }

    /// All interfaces, the main one first.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        [&self.interface].into_iter().chain(self.ingresses.iter())
    }

    /// The maps are filled by now: the first packet finds everything in its place.
    pub(super) fn attach(&mut self, config: &Config) -> Result<Vec<Record>> {
        let Self { interface, ingresses, forwarder, throttle: _ } = self;
        ingresses.tell(interface.index(), forwarder)?;
        let in_cluster = config.cluster.is_some();
        // The main interface last: until all can be had, what an lb before this one has left there
        // goes on.
        let attached = ingresses.attach(forwarder, config.xdp_mode, in_cluster).and_then(|others| {
            let main = interface.attach(forwarder, config.xdp_mode, in_cluster)?;
            Ok([main, others].concat())
        });
        if attached.is_err() {
            ingresses.leave(false);
        }
        attached
    }

    /// The main interface goes over to the best mode that it can have now.
    pub(super) fn change_mode(&mut self, wanted: XdpMode, why: &str) -> Result<ModeChange> {
        self.interface.change_mode(&mut self.forwarder, wanted, why)
    }

    /// So do the others; with `lossy` those alone that lose what native mode sends.
    pub(super) fn change_mode_of_ingresses(
        &mut self,
        wanted: XdpMode,
        why: &str,
        lossy: bool,
    ) -> Result<Vec<Record>> {
        self.ingresses.change_mode(&mut self.forwarder, wanted, why, lossy)
    }

    /// The main interface has this MAC now.
    pub(super) fn set_mac(&mut self, mac: Mac) {
        self.interface.set_mac(mac);
        self.forwarder.set_mac(mac);
    }

    /// Another interface has it. Returns its place behind the main one; `None`: packets do not come
    /// in by it.
    pub(super) fn set_mac_of_ingress(&mut self, index: u32, mac: Mac) -> Option<usize> {
        let place = self.ingresses.set_mac(index, mac)?;
        if let Err(error) = self.ingresses.tell(self.interface.index(), &mut self.forwarder) {
            self.forwarder.note_failure(&error);
        }
        Some(place)
    }

    /// From now on the program of this name is the entry.
    pub(super) fn exchange_entry(&mut self, name: &'static str) -> Result<()> {
        self.forwarder.set_entry(name)?;
        self.interface.exchange_entry(&mut self.forwarder)
    }

    /// Whether the program would stay where it is if the process ended.
    pub(super) fn can_stay(&self) -> bool {
        self.interface.is_pinned() && self.interface.is_attached()
    }
}
