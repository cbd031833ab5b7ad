//! Which server takes a connection.

use lb_common::reason::Reason;
use lb_common::schedule;
use lb_common::schedule::Schedule;
use lb_common::schedule::buckets;
use lb_common::server::ServerId;
use lb_model::Scheduler;

use super::Model;
use super::connections::Key;
use super::setting::ModelServer;
use super::walk::mac;

/// What one established connection weighs beside the others.
const ACTIVE: u64 = 256;

impl Model {
    /// For a connection that begins; the index of its server.
    pub(super) fn pick(&mut self, key: &Key) -> Result<usize, Reason> {
        if let Some(bound) = self.bound(key.service, key.client) {
            return Ok(bound);
        }
        let server = self.choose(key)?;
        self.bind(key.service, key.client, server);
        Ok(server)
    }

    fn choose(&mut self, key: &Key) -> Result<usize, Reason> {
        let service = &mut self.setting.services[key.service];
        let members: Vec<usize> =
            (0..service.servers.len()).filter(|index| service.servers[*index].is_member).collect();
        if members.is_empty() {
            return Err(Reason::NoServer);
        }
        match service.scheduler {
            Scheduler::Rr => {
                let index = members[(service.cursor % members.len() as u64) as usize];
                service.cursor += 1;
                Ok(index)
            }
            Scheduler::Wrr => {
                service.cursor += 1;
                let compiled = &service.compiled;
                let picked = schedule::by_cursor(&compiled.words[..], &compiled.schedule, service.cursor - 1);
                picked.map(index).ok_or(Reason::NoServer)
            }
            Scheduler::Fo => {
                let weight = |index: usize| service.servers[index].weight;
                Ok(best(&members, |one, other| weight(one) > weight(other)))
            }
            Scheduler::Sh | Scheduler::Mh | Scheduler::Dh => self.by_hash(key),
            Scheduler::Twos => Ok(self.drawn(key.service, &members)),
            counting => self.by_connections(counting, key.service, &members),
        }
    }

    /// lc, wlc, sed, nq and ovf.
    fn by_connections(
        &self,
        scheduler: Scheduler,
        service: usize,
        members: &[usize],
    ) -> Result<usize, Reason> {
        let servers: &[ModelServer] = &self.setting.services[service].servers;
        let counts = |index: usize| self.connections.counts(service, index).map(u64::from);
        let load = |index: usize| {
            let [active, inactive] = counts(index);
            active * ACTIVE + inactive
        };
        let weight = |index: usize| u64::from(servers[index].weight);
        // Whether a over the first one's weight is less than b over the other one's.
        let less = |[a, b]: [u64; 2], one, other| a * weight(other) < b * weight(one);
        let delay = |one, other| less([one, other].map(|index| load(index) + ACTIVE), one, other);
        Ok(match scheduler {
            Scheduler::Lc => best(members, |one, other| load(one) < load(other)),
            Scheduler::Wlc => best(members, |one, other| less([one, other].map(load), one, other)),
            Scheduler::Sed => best(members, delay),
            Scheduler::Nq => {
                let idle: Vec<usize> =
                    members.iter().copied().filter(|index| load(*index) < ACTIVE).collect();
                match idle[..] {
                    [] => best(members, delay),
                    _ => best(&idle, |one, other| load(one) < load(other)),
                }
            }
            Scheduler::Ovf => {
                let has_room = |index: &usize| counts(*index)[0] < weight(*index);
                let roomy: Vec<usize> = members.iter().copied().filter(has_room).collect();
                match roomy[..] {
                    [] => return Err(Reason::NoServer),
                    _ => best(&roomy, |one, other| weight(one) > weight(other)),
                }
            }
            other => panic!("{other:?} does not go by connections"),
        })
    }

    /// twos draws: any member may be meant, because both draws may be the same one. Which one it
    /// was tells the MAC of what went out. What does not go out would have gone back to the server
    /// that it came from.
    fn drawn(&self, service: usize, members: &[usize]) -> usize {
        let servers = &self.setting.services[service].servers;
        let told = self.told.as_deref().map_or(self.came_from, |frame| mac(frame, 0));
        let is_it = |index: &usize| servers[*index].mac == Some(told);
        members.iter().copied().find(is_it).unwrap_or(members[0])
    }

    /// For a packet that leaves no trace, and for the schedulers that hash.
    pub(super) fn by_hash(&self, key: &Key) -> Result<usize, Reason> {
        use lb_common::addr::Address as _;

        let service = &self.setting.services[key.service];
        if !service.has_members() {
            return Err(Reason::NoServer);
        }
        let words = &service.compiled.words[..];
        let schedule = &service.compiled.schedule;
        let of_client = || {
            let port = if schedule.has(Schedule::HASHES_PORT) { key.client_port.to_be() } else { 0 };
            buckets::hash(key.client, port)
        };
        let picked = match service.scheduler {
            Scheduler::Sh | Scheduler::Mh => buckets::by_bucket(words, schedule, of_client()),
            Scheduler::Dh => buckets::by_bucket(words, schedule, buckets::hash(service.key.vip.into(), 0)),
            _ => schedule::by_hash(words, schedule, key.client.folded()),
        };
        picked.map(index).ok_or(Reason::NoServer)
    }
}

/// Of equals the first.
fn best(members: &[usize], better: impl Fn(usize, usize) -> bool) -> usize {
    let mut best = members[0];
    for member in &members[1..] {
        if better(*member, best) {
            best = *member;
        }
    }
    best
}

fn index(id: ServerId) -> usize {
    usize::from(id.0) - 1
}
