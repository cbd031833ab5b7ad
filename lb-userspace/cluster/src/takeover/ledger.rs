//! What is to be done to the interface so that it holds what it shall: pure, times are handed in.
//!
//! Orders and changes come in, requests to the kernel go out ([`Ledger::next`]), and their answers
//! come back ([`Ledger::answered`]). What belongs together is a piece of work ([`work`]); several
//! are under way side by side, and their requests take turns, so that a small group does not wait
//! behind a large one.
//!
//! What others remove is put back at once; a remover that goes on is answered less and less often.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use lb_model::ids::GroupNumber;
use lb_net::addresses::{Form, Request};
use lb_net::vips::{Network, VipAddress, Vips};
use tokio::time::Instant;

pub(super) use self::work::WorkId;
use self::work::{Kind, Work};
use super::holder::Outcome;

#[cfg(test)]
mod tests;
mod work;

/// What has come of orders and changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// The address is on the interface from now on, or again, and is to be announced.
    Held(VipAddress),
    /// The address is not held any more.
    Lost(IpAddr),
    /// A piece of work has put these on the interface.
    Taken(Vec<VipAddress>),
    Released(BTreeSet<IpAddr>),
    /// Others had removed these.
    PutBack(Vec<IpAddr>),
    Outcome(Outcome),
    Trouble(String),
}

/// From a failure to put an address back to the next attempt.
const RETRY: Duration = Duration::from_secs(1);
/// Who removes an address again within this time after it was put back, fights for it:
const CALM: Duration = Duration::from_secs(5);
/// it is put back after this time, then after twice as long, and so on
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often an address was put back lately.
#[derive(Debug, Clone, Copy)]
struct PutBacks {
    last: Instant,
    rounds: u32,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    groups: BTreeMap<GroupNumber, Vips>,
    /// The group of each VIP.
    index: HashMap<IpAddr, GroupNumber>,
    /// Groups that are held, or being taken.
    wanted: BTreeSet<GroupNumber>,
    /// Known to be on the interface.
    held: BTreeMap<IpAddr, VipAddress>,
    works: VecDeque<Work>,
    last_work: WorkId,
    is_listing: bool,
    /// Groups that are to be taken once they are released.
    next_takes: BTreeSet<GroupNumber>,
    /// The networks of the interface's other IPv4 addresses.
    own: BTreeMap<IpAddr, Network>,
    /// Networks of VIPs that there is a route to only because we made it.
    routes: BTreeSet<Network>,
    /// The kernel may have removed some of them.
    recheck_routes: bool,
    /// Addresses that are to be put back, and when.
    missing: BTreeSet<(Instant, IpAddr)>,
    fights: HashMap<IpAddr, PutBacks>,
    is_ending: bool,
    events: Vec<Event>,
}

impl Ledger {
    /// From now on these are the groups; those that are held follow. With `hold_all` all of them
    /// are.
    pub(super) fn set_groups(&mut self, groups: BTreeMap<GroupNumber, Vips>, hold_all: bool) {
        self.groups = groups;
        let vips = self.groups.iter();
        self.index =
            vips.flat_map(|(number, vips)| vips.addresses.keys().map(move |vip| (*vip, *number))).collect();
        if hold_all {
            self.wanted = self.groups.keys().copied().collect();
        }
        let surplus = self.held.iter().filter(|(vip, form)| self.wanted_form(**vip) != Some(form));
        let surplus: BTreeSet<IpAddr> = surplus.map(|(vip, _)| *vip).collect();
        surplus.iter().for_each(|vip| self.lose(*vip));
        // Its addresses may be others now.
        let takes: Vec<GroupNumber> = self.works.iter().filter_map(Work::takes).collect();
        for group in takes {
            let requests = self.missing_of(group);
            if let Some(work) = self.works.iter_mut().find(|work| work.takes() == Some(group)) {
                work.requests = requests;
            }
        }
        self.begin(Work::listing(Kind::Follow, surplus));
        self.finish_works();
    }

    /// Takes the group, as soon as it is released if it is being released.
    pub(super) fn take(&mut self, group: GroupNumber) {
        if self.works.iter().any(|work| work.releases() == Some(group)) {
            self.next_takes.insert(group);
            return;
        }
        self.wanted.insert(group);
        if !self.works.iter().any(|work| work.takes() == Some(group)) {
            let requests = self.routes_to_set().chain(self.missing_of(group)).collect();
            self.begin(Work::new(Kind::Take(group), requests));
        }
        self.finish_works();
    }

    /// Takes the group's VIPs off the interface, those that an earlier life has left there too.
    pub(super) fn release(&mut self, group: GroupNumber) {
        self.give_up(group, Kind::Release(group));
        self.finish_works();
    }

    /// Everything that is held goes; [`Self::is_idle`] tells when it has.
    pub(super) fn end(&mut self) {
        self.is_ending = true;
        self.next_takes.clear();
        for group in self.wanted.clone() {
            self.release(group);
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.works.is_empty()
    }

    /// Whether addresses are being added that were not there before.
    pub(super) fn is_taking(&self) -> bool {
        self.works.iter().any(|work| matches!(work.kind, Kind::Take(_) | Kind::Follow | Kind::Fill))
    }

    /// The group's addresses that are known to be on the interface.
    pub(super) fn held_of(&self, group: GroupNumber) -> impl Iterator<Item = IpAddr> + '_ {
        let addresses = self.groups.get(&group).map(|vips| vips.addresses.keys());
        addresses.into_iter().flatten().copied().filter(|vip| self.held.contains_key(vip))
    }

    pub(super) fn holds(&self, vip: IpAddr) -> bool {
        self.held.contains_key(&vip)
    }

    pub(super) fn held(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.held.keys().copied()
    }

    /// How often an address that is held is announced anew.
    pub(super) fn refresh_of(&self, vip: IpAddr) -> Duration {
        self.group_of(vip).map_or(Duration::ZERO, |group| group.refresh)
    }

    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Somebody has removed the address from the interface, or we ourselves have.
    pub(super) fn removed(&mut self, address: IpAddr, now: Instant) {
        if self.held.contains_key(&address) {
            self.put_back(address, now);
        } else if self.own.remove(&address).is_some() {
            self.follow_routes();
        }
    }

    /// The address was added, or something about it has changed.
    pub(super) fn added(&mut self, form: &Form) {
        if let Some(network) = self.own_network(form)
            && self.own.insert(form.address, network) != Some(network)
        {
            self.follow_routes();
        }
    }

    /// Lists the addresses again, because a change may have gone unreported. `routes`: the kernel
    /// may have removed the holder's routes too.
    pub(super) fn recheck(&mut self, routes: bool) {
        self.recheck_routes |= routes;
        let looks = |work: &Work| work.kind == Kind::Look && work.waits_for_list();
        if !self.held.is_empty() && !self.works.iter().any(looks) {
            self.begin(Work::listing(Kind::Look, BTreeSet::new()));
        }
    }

    /// When [`Self::pass_time`] has something to do.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.missing.first().map(|(at, _)| *at)
    }

    pub(super) fn pass_time(&mut self, now: Instant) {
        let mut requests = VecDeque::new();
        while let Some((_, vip)) = self.missing.first().copied().filter(|(at, _)| *at <= now) {
            self.missing.pop_first();
            requests.extend(self.wanted_form(vip).map(|vip| self.add(vip)));
        }
        if !requests.is_empty() {
            self.begin(Work::new(Kind::PutBack, requests));
        }
        self.fights.retain(|_, fight| now.saturating_duration_since(fight.last) < CALM);
    }

    fn begin(&mut self, mut work: Work) {
        self.last_work.0 += 1;
        work.id = self.last_work;
        self.works.push_back(work);
    }

    fn give_up(&mut self, group: GroupNumber, kind: Kind) {
        self.wanted.remove(&group);
        self.next_takes.remove(&group);
        self.works.retain(|work| work.takes() != Some(group));
        let Vips { addresses, networks, .. } = self.groups.get(&group).cloned().unwrap_or_default();
        let addresses: BTreeSet<IpAddr> = addresses.into_keys().collect();
        addresses.iter().for_each(|vip| self.lose(*vip));
        // One that is being undone is released with that.
        if let Some(work) = self.works.iter_mut().find(|work| work.releases() == Some(group)) {
            work.kind = kind;
            return;
        }
        // An earlier life may have left some.
        self.routes.extend(networks);
        let mut work = Work::listing(kind, addresses);
        work.requests = self.routes_to_set().collect();
        self.begin(work);
    }

    fn lose(&mut self, vip: IpAddr) {
        if self.held.remove(&vip).is_some() {
            self.events.push(Event::Lost(vip));
        }
        self.fights.remove(&vip);
    }

    /// The kernel refuses to add what is there: asked for in vain, it does no harm.
    fn put_back(&mut self, vip: IpAddr, now: Instant) {
        let pause = self.fights.get(&vip).map_or(Duration::ZERO, |fight| {
            let doubled = FIRST_PAUSE * 2_u32.saturating_pow(fight.rounds.min(20));
            doubled.min(LONGEST_PAUSE)
        });
        self.missing.insert((now + pause, vip));
    }

    /// The number of the VIP's group.
    pub(super) fn number_of(&self, vip: IpAddr) -> Option<GroupNumber> {
        self.index.get(&vip).copied()
    }

    fn group_of(&self, vip: IpAddr) -> Option<&Vips> {
        let number = self.index.get(&vip).filter(|number| self.wanted.contains(number))?;
        self.groups.get(number)
    }

    /// `None`: it is of no group that is held.
    fn wanted_form(&self, vip: IpAddr) -> Option<&VipAddress> {
        self.group_of(vip)?.addresses.get(&vip)
    }

    fn missing_of(&self, group: GroupNumber) -> VecDeque<Request> {
        let addresses = self.groups.get(&group).map(|vips| vips.addresses.values());
        let missing = addresses.into_iter().flatten().filter(|vip| !self.held.contains_key(&vip.address));
        missing.map(|vip| self.add(vip)).collect()
    }

    fn add(&self, vip: &VipAddress) -> Request {
        Request::Add { vip: vip.clone(), hidden: self.own.is_empty() }
    }

    /// The network of an IPv4 address that is no VIP.
    fn own_network(&self, form: &Form) -> Option<Network> {
        let IpAddr::V4(address) = form.address else { return None };
        (!self.index.contains_key(&form.address)).then(|| Network::of(address, form.prefix))
    }

    /// As a /32 a VIP brings no route to its network. Where no other address of the interface does,
    /// one is made, for clients of that network: the host answers them, and with `rp_filter` it
    /// would hear nobody that it has no route to.
    fn routes_to_set(&mut self) -> impl Iterator<Item = Request> + use<> {
        let wanted = self.wanted.iter().filter_map(|group| self.groups.get(group));
        let networks = wanted.flat_map(|vips| &vips.networks).copied();
        let own: BTreeSet<Network> = self.own.values().copied().collect();
        let needed: BTreeSet<Network> =
            networks.filter(|network| !own.iter().any(|own| own.covers(*network))).collect();
        let surplus: Vec<Network> = self.routes.difference(&needed).copied().collect();
        let sure = if std::mem::take(&mut self.recheck_routes) { &BTreeSet::new() } else { &self.routes };
        let missing: Vec<Network> = needed.difference(sure).copied().collect();
        self.routes = needed;
        let missing = missing.into_iter().map(Request::AddRoute);
        missing.chain(surplus.into_iter().map(Request::DeleteRoute))
    }

    fn follow_routes(&mut self) {
        let requests: VecDeque<Request> = self.routes_to_set().collect();
        if !requests.is_empty() {
            self.begin(Work::new(Kind::Routes, requests));
        }
    }
}
