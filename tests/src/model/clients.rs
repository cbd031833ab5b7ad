//! Whom services take, and how much of them. Nothing is filled again here, and no walk over the
//! table counts connections: rates give one in so long a time that no test sees the second one.

use std::collections::HashMap;
use std::net::IpAddr;

use lb_common::addr::V6;
use lb_common::reason::Reason;
use lb_common::service::admission::Rate;
use lb_model::ClientPrefix;

use super::Model;
use super::connections::{Key, first};
use super::walk::{Seen, check, mac};

/// What was taken of each kind of limit, by service and masked client; of all clients together
/// without one.
#[derive(Default)]
pub(super) struct Taken(HashMap<(Kind, usize, Option<[u64; 2]>), u64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    New,
    Packets,
    Opened,
}

impl Taken {
    /// Takes one, if `most` have not been taken yet; `None`: there is no limit.
    fn take(&mut self, kind: Kind, service: usize, client: Option<[u64; 2]>, most: Option<u64>) -> bool {
        let Some(most) = most else { return true };
        let taken = self.0.entry((kind, service, client)).or_default();
        let room = *taken < most;
        *taken += u64::from(room);
        room
    }
}

/// How many a bucket gives that nobody fills again.
fn burst(rate: Rate) -> Option<u64> {
    (!rate.is_none()).then(|| rate.burst / rate.interval)
}

fn is_in(client: V6, prefix: &ClientPrefix) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    };
    let outside = if prefix.address.is_ipv4() { 96 } else { 0 } + u32::from(prefix.length);
    let differs = bits(client.into()) ^ bits(prefix.address);
    outside == 0 || differs >> (128 - outside) == 0
}

impl Model {
    /// Before anything else is looked at, if this director serves the packet's service.
    pub(super) fn admit(
        &mut self,
        frame: &[u8],
        service: usize,
        seen: &Seen,
        now: u64,
    ) -> Result<(), Reason> {
        if mac(frame, 0) != self.setting.mac || now >= self.setting.lease(service).balance_until {
            return Ok(());
        }
        let Ok(flags) = check(frame, seen) else { return Ok(()) };
        let known = self.connections.get(&Key::of(seen, service));
        let goes_on = known.is_some_and(|known| known.after(flags).is_some());
        let opens = first(seen.protocol, flags).is_some() && !goes_on;
        self.listed(service, seen.client, opens)?;
        self.limited(service, seen.client, opens)
    }

    fn listed(&self, service: usize, client: V6, opens: bool) -> Result<(), Reason> {
        let lists = &self.setting.services[service].clients.lists;
        let longest = |list: &[ClientPrefix]| {
            list.iter().filter(|prefix| is_in(client, prefix)).map(|prefix| prefix.length).max()
        };
        match (longest(&lists.allow), longest(&lists.deny)) {
            (allowed, Some(denied)) if allowed.is_none_or(|allowed| allowed < denied) => {
                Err(Reason::ClientDenied)
            }
            (None, None) if opens && !lists.allow.is_empty() => Err(Reason::ClientUnlisted),
            _ => Ok(()),
        }
    }

    fn limited(&mut self, service: usize, client: V6, opens: bool) -> Result<(), Reason> {
        let admission = self.setting.services[service].clients.admission;
        let [high, low] = admission.mask;
        let client = Some([client.0[0] & high, client.0[1] & low]);
        let most = Some(admission.connections).filter(|most| *most != 0);
        let opened = self.taken.0.get(&(Kind::Opened, service, client)).copied().unwrap_or_default();
        let mut take = |kind, client, rate| self.taken.take(kind, service, client, burst(rate));
        match () {
            () if !take(Kind::Packets, client, admission.client_packets) => Err(Reason::ClientPacketLimit),
            () if opens && most.is_some_and(|most| opened >= most) => Err(Reason::ClientConnectionLimit),
            () if opens && !take(Kind::New, client, admission.client_new) => Err(Reason::ClientNewLimit),
            () if !take(Kind::Packets, None, admission.service_packets) => Err(Reason::ServicePacketLimit),
            () if opens && !take(Kind::New, None, admission.service_new) => Err(Reason::ServiceNewLimit),
            () => {
                if opens {
                    *self.taken.0.entry((Kind::Opened, service, client)).or_default() += 1;
                }
                Ok(())
            }
        }
    }
}
