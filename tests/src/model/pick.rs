//! Which server takes a connection.

use lb_common::addr::V6;
use lb_common::reason::Reason;
use lb_common::schedule::Schedule;
use lb_common::server::ServerId;
use lb_common::{buckets, schedule};
use lb_model::Scheduler;

use super::Model;
use super::setting::ModelServer;

impl Model {
    /// For a connection that begins; the index of its server.
    pub(super) fn pick(&mut self, service: usize, client: V6, port: u16) -> Result<usize, Reason> {
        if let Some(bound) = self.bound(service, client) {
            return Ok(bound);
        }
        let server = self.choose(service, client, port)?;
        self.bind(service, client, server);
        Ok(server)
    }

    fn choose(&mut self, service: usize, client: V6, port: u16) -> Result<usize, Reason> {
        let number = service;
        let service = &mut self.setting.services[number];
        let members: Vec<usize> =
            (0..service.servers.len()).filter(|index| service.servers[*index].is_member).collect();
        if members.is_empty() {
            return Err(Reason::NoServer);
        }
        let words = &service.compiled.words[..];
        let schedule = &service.compiled.schedule;
        let picked = match service.scheduler {
            Scheduler::Rr => {
                let index = members[(service.cursor % members.len() as u64) as usize];
                service.cursor += 1;
                return Ok(index);
            }
            Scheduler::Wrr => {
                service.cursor += 1;
                schedule::by_cursor(words, schedule, service.cursor - 1)
            }
            Scheduler::Lc | Scheduler::Wlc => {
                let weighs = service.scheduler == Scheduler::Wlc;
                return Ok(self.least(number, &members, weighs));
            }
            Scheduler::Sh => {
                let port = if schedule.has(Schedule::HASHES_PORT) { port } else { 0 };
                buckets::by_bucket(words, schedule, buckets::hash(client, port))
            }
            other => panic!("the model has no {other:?}"),
        };
        picked.map(index).ok_or(Reason::NoServer)
    }

    /// The least `active * 256 + inactive`, over the weight; of equals the first.
    fn least(&self, service: usize, members: &[usize], weighs: bool) -> usize {
        let servers: &[ModelServer] = &self.setting.services[service].servers;
        let load = |index: usize| {
            let [active, inactive] = self.connections.counts(service, index);
            u64::from(active) * 256 + u64::from(inactive)
        };
        let weight = |index: usize| if weighs { u64::from(servers[index].weight) } else { 1 };
        let less = |one: usize, other: usize| load(one) * weight(other) < load(other) * weight(one);
        let mut best = members[0];
        for member in &members[1..] {
            if less(*member, best) {
                best = *member;
            }
        }
        best
    }

    /// For a packet that leaves no trace.
    pub(super) fn by_hash(&self, service: usize, client: V6, port: u16) -> Result<usize, Reason> {
        use lb_common::addr::Address as _;

        let service = &self.setting.services[service];
        if !service.has_members() {
            return Err(Reason::NoServer);
        }
        let words = &service.compiled.words[..];
        let schedule = &service.compiled.schedule;
        let picked = match service.scheduler {
            Scheduler::Sh => {
                let port = if schedule.has(Schedule::HASHES_PORT) { port } else { 0 };
                buckets::by_bucket(words, schedule, buckets::hash(client, port))
            }
            _ => schedule::by_hash(words, schedule, client.folded()),
        };
        picked.map(index).ok_or(Reason::NoServer)
    }
}

fn index(id: ServerId) -> usize {
    usize::from(id.0) - 1
}
