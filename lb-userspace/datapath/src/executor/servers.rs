//! Servers of services: how each is reached, and what it has a copy of.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use lb_common::mac::Mac;
use lb_common::server::{NextHop, ServerEntry, ServerId};
use lb_common::service::limits::Limits;
use lb_common::shared::Shared;
use lb_model::{Forwarding, ServiceKey};

use super::values::service_info;
use super::{Executor, Serving};
use crate::plan::{Server, Target};

impl Executor {
    pub(super) fn add_server(&mut self, key: &ServiceKey, server: &Server) -> Result<()> {
        let known = self.unclaimed.servers.remove(&(*key, server.target));
        let id = known.or_else(|| self.server_ids.take().map(ServerId)).with_context(|| {
            format!("{key}: there is room for {} servers, and all numbers are taken", self.sizes.servers)
        })?;
        let record = self.record(key)?;
        record.servers.insert(server.target, id);
        let service = service_info(key, record);
        let next_hop = match known {
            // The program before goes by it.
            Some(_) => self.maps.servers.read(usize::from(id.0)).next_hop,
            None => {
                self.maps.stats.clear(id)?;
                self.maps.limits.write(usize::from(id.0), Limits::default());
                Shared::new(NextHop::UNSET)
            }
        };
        // Whoever finds the entry finds its address.
        self.maps.targets.write(usize::from(id.0), server.target.address());
        self.maps.servers.write(usize::from(id.0), ServerEntry { next_hop, service });
        self.write_next_hop(key, id, server)
    }

    /// What packets go by has changed, in the service itself or in who its servers are.
    pub(super) fn service_changed(&mut self, key: &ServiceKey) -> Result<()> {
        self.services_changed = true;
        self.copy_service_to_servers(key)
    }

    pub(super) fn look_who_serves(&mut self, key: &ServiceKey) -> Result<()> {
        let (own, directors) = (self.mac(), self.directors.clone());
        let record = self.record(key)?;
        let is_one = |mac: &Mac| *mac == own || directors.contains(mac);
        let serving = match directors.is_empty() {
            true => Serving::default(),
            false => Serving {
                host: record.macs.values().any(|mac| *mac == own),
                any: record.macs.values().any(is_one),
            },
        };
        match std::mem::replace(&mut record.serving, serving) == serving {
            true => Ok(()),
            false => self.service_changed(key),
        }
    }

    /// Servers on their way out included: their connections live on.
    fn copy_service_to_servers(&mut self, key: &ServiceKey) -> Result<()> {
        let record = self.record(key)?;
        let (info, slow_way) = (service_info(key, record), record.needs_slow_way());
        let servers: Vec<ServerId> = record.servers.values().chain(&record.purging).copied().collect();
        for server in servers {
            let mut entry = self.maps.servers.read(usize::from(server.0));
            entry.service = info;
            entry.next_hop = Shared::new(entry.next_hop.get().by_the_slow_way(slow_way));
            self.maps.servers.write(usize::from(server.0), entry);
        }
        Ok(())
    }

    /// The server's MAC stays, so that packets go on being served until its entries are purged.
    pub(super) fn remove_server(&mut self, key: &ServiceKey, target: Target) -> Result<ServerId> {
        let record = self.record(key)?;
        let id =
            record.servers.remove(&target).with_context(|| format!("{key}: no such server: {target}"))?;
        record.purging.push(id);
        record.macs.remove(&target);
        record.binding.remove(&target);
        self.bound_changed |= self.record(key)?.settings.persistence.is_some();
        self.look_who_serves(key)?;
        Ok(id)
    }

    /// Lets packets leave by the interface of this index, if it is one.
    pub(super) fn make_known(&mut self, device: u32) -> Result<()> {
        if device == 0 || self.maps.devices.get(device, 0).is_ok() {
            return Ok(());
        }
        self.maps.devices.insert(device, device, None, 0).with_context(|| {
            format!("packets cannot leave by interface {device}: it is gone, or there are more than 64")
        })
    }

    pub(super) fn write_next_hop(&mut self, key: &ServiceKey, id: ServerId, server: &Server) -> Result<()> {
        let own = self.mac();
        let record = self.record(key)?;
        match server.mac {
            // The next hop's MAC does not tell whose the server is.
            Some(mac) if server.tunnel.is_none() && server.translation.is_none() => {
                record.macs.insert(server.target, mac)
            }
            _ => record.macs.remove(&server.target),
        };
        let bound = match server.binds && server.usable && server.target != Target::Local {
            true => record.binding.insert(server.target),
            false => record.binding.remove(&server.target),
        };
        let bound_changed = bound && record.settings.persistence.is_some();
        let next_hop = match (server.forwarding(own), server.mac) {
            (Forwarding::Local, None) => NextHop::local(server.usable),
            (Forwarding::Local, Some(mac)) => NextHop::local_server(mac, server.usable),
            (Forwarding::Direct, mac) => NextHop::remote(mac, server.usable),
            (Forwarding::Tunnel, mac) => NextHop::tunnel(mac, server.usable),
            (Forwarding::Masq, mac) => NextHop::masq(mac, server.usable),
        };
        // What is this host's leaves by no interface.
        let egress = server.egress.filter(|_| server.forwarding(own) != Forwarding::Local);
        let next_hop = next_hop
            .giving_up(server.gives_up)
            .by_the_slow_way(record.needs_slow_way())
            .by_egress(egress.is_some());
        // Whoever is sent into the tunnel finds it. A packet that meets a change half done is lost.
        if let Some(tunnel) = server.tunnel {
            self.maps.tunnels.write(usize::from(id.0), tunnel);
        }
        self.set_translation(key, id, server.translation, egress)?;
        let thresholds = self.maps.limits.word(usize::from(id.0), offset_of!(Limits, thresholds));
        thresholds.store(server.thresholds.0, Ordering::Release);
        if server.thresholds.is_none() {
            // Nobody looks any more whether it is full.
            let full = self.maps.limits.word(usize::from(id.0), offset_of!(Limits, full));
            full.store(0, Ordering::Release);
        }
        if let Some(egress) = egress {
            self.make_known(egress.device)?;
            self.maps.egresses.write(usize::from(id.0), egress);
        }
        let word = self.maps.servers.word(usize::from(id.0), offset_of!(ServerEntry, next_hop));
        word.store(next_hop.0, Ordering::Release);
        self.bound_changed |= bound_changed;
        self.look_who_serves(key)
    }
}
