//! What is wrong around the director although its configuration is right: the checks for it that
//! the controller itself makes.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context as _, Result};
use lb_api::findings::{Findings, Kind};
use lb_common::mac::Mac;
use lb_datapath::attach::Mode;
use lb_model::Config;

use super::checksums::Checksums;
use super::forwarder::Forwarder;
use super::interface::Interface;
use super::runtime::Runtime;
use super::sources::Sources;
use super::topology::{self, Topology};
use super::ways::Ways;
use crate::device::Device;
use crate::firewall::Firewall;

pub(super) struct Inspections {
    findings: Findings,
    sources: Sources,
    firewall: Firewall,
    device: Device,
    topology: Topology,
    checksums: Checksums,
}

impl Inspections {
    /// # Errors
    /// The threads that look at the host's firewall and at the interface cannot be started.
    pub(super) fn start(findings: Findings) -> Result<Self> {
        let threads = || -> io::Result<_> {
            Ok((Firewall::start(findings.clone())?, Device::start(findings.clone())?))
        };
        let (firewall, device) =
            threads().context("cannot start the threads that look at the host's firewall and device")?;
        Ok(Self {
            firewall,
            device,
            findings,
            sources: Sources::default(),
            topology: Topology::default(),
            checksums: Checksums::default(),
        })
    }

    /// The firewall and the interface are looked at now, and from now on for this configuration.
    pub(super) fn follow_configuration(&self, config: &Config) {
        self.firewall.follow_configuration(config);
        self.device.follow_configuration(config);
    }

    /// Packets leave by other devices, too, and by `main` from others in native mode; `mode` is
    /// that of the main interface.
    pub(super) fn follow_exits(&self, ways: &Ways, main: Option<u32>, mode: Option<Mode>) {
        let by_main = if mode == Some(Mode::Native) { ways.other_devices() } else { BTreeSet::new() };
        self.device.follow_exits(by_main.into_iter().chain(main).collect());
    }

    /// What the data path saw, and what source the host's own packets have.
    pub(super) fn check(
        &mut self,
        config: &Config,
        runtime: &Runtime,
        forwarder: &Forwarder,
        interface: &Interface,
    ) {
        self.topology.check_loops(config, runtime, forwarder, &self.findings);
        self.sources.check(config, &self.findings, Instant::now());
        self.checksums.check(config, forwarder, interface.mode(), &self.findings);
    }

    /// Servers, their MACs or their VIPs may have changed.
    pub(super) fn check_own_vips(&self, config: &Config, runtime: &Runtime, forwarder: &Forwarder) {
        topology::check_own_vips(config, runtime, forwarder.mac(), &self.findings);
    }

    /// The program is in another mode now, and what was seen before says nothing of that.
    pub(super) fn forget_checksums(&mut self, config: &Config, forwarder: &Forwarder, interface: &Interface) {
        self.checksums.check(config, forwarder, interface.mode(), &self.findings);
        self.findings.set(Kind::ChecksumsUnfinished, Vec::new());
    }

    /// A neighbour has this MAC. Returns the MACs of all directors if it is one of them and has a
    /// new one.
    pub(super) fn director_is_at(
        &mut self,
        address: IpAddr,
        mac: Mac,
        config: &Config,
    ) -> Option<BTreeSet<Mac>> {
        self.topology.director_is_at(address, mac, config)
    }
}
