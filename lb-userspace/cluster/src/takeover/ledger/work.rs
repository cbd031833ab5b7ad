//! Pieces of work: requests that belong together, and what follows when all are answered.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use lb_net::addresses::{Answer, Form, Request};
use lb_net::vips::HOST;
use tokio::time::Instant;

use super::{Event, GroupNumber, Ledger, Outcome, PutBacks, RETRY, VipAddress};

/// Errors of one piece of work that are told.
const TOLD: usize = 3;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WorkId(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// All of the group's VIPs are added, or none.
    Take(GroupNumber),
    Release(GroupNumber),
    /// A take-over that has failed, and why.
    Undo(GroupNumber, String),
    /// The configuration has changed: what is surplus goes,
    Follow,
    /// then what is missing comes.
    Fill,
    PutBack,
    /// The interface is looked at.
    Look,
    Routes,
}

/// Whether the interface's addresses are listed before the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    No,
    Wanted,
    UnderWay,
}

#[derive(Debug)]
pub(super) struct Work {
    pub id: WorkId,
    pub kind: Kind,
    pub requests: VecDeque<Request>,
    under_way: usize,
    list: List,
    /// Once listed, these are deleted in every form they have.
    surplus: BTreeSet<IpAddr>,
    added: Vec<VipAddress>,
    /// Of those that were held, the ones that had gone.
    restored: Vec<IpAddr>,
    deleted: BTreeSet<IpAddr>,
    errors: Vec<String>,
}

impl Work {
    pub(super) fn new(kind: Kind, requests: VecDeque<Request>) -> Self {
        Self {
            id: WorkId::default(),
            kind,
            requests,
            under_way: 0,
            list: List::No,
            surplus: BTreeSet::new(),
            added: Vec::new(),
            restored: Vec::new(),
            deleted: BTreeSet::new(),
            errors: Vec::new(),
        }
    }

    pub(super) fn listing(kind: Kind, surplus: BTreeSet<IpAddr>) -> Self {
        Self { list: List::Wanted, surplus, ..Self::new(kind, VecDeque::new()) }
    }

    pub(super) fn takes(&self) -> Option<GroupNumber> {
        if let Kind::Take(group) = self.kind { Some(group) } else { None }
    }

    pub(super) fn releases(&self) -> Option<GroupNumber> {
        match self.kind {
            Kind::Release(group) | Kind::Undo(group, _) => Some(group),
            _ => None,
        }
    }

    pub(super) fn waits_for_list(&self) -> bool {
        self.list == List::Wanted
    }

    fn is_done(&self) -> bool {
        self.list == List::No && self.requests.is_empty() && self.under_way == 0
    }

    fn failed(&mut self, why: String) {
        if self.errors.len() < TOLD {
            self.errors.push(why);
        }
    }
}

impl Ledger {
    /// The next request to the kernel. They are to be made in this order; each is answered by
    /// [`Self::answered`].
    pub(crate) fn next(&mut self) -> Option<(WorkId, Request)> {
        if !self.is_listing && self.works.iter().any(Work::waits_for_list) {
            self.is_listing = true;
            for work in self.works.iter_mut().filter(|work| work.waits_for_list()) {
                work.list = List::UnderWay;
            }
            return Some((WorkId::default(), Request::List));
        }
        let place = self.works.iter().position(|work| !work.requests.is_empty())?;
        // Works before this one wait for answers; this one goes to the end, so that all take turns.
        let mut work = self.works.remove(place)?;
        let request = work.requests.pop_front()?;
        work.under_way += 1;
        let id = work.id;
        self.works.push_back(work);
        Some((id, request))
    }

    /// What has come of a request.
    pub(crate) fn answered(&mut self, id: WorkId, request: Request, answer: Answer, now: Instant) {
        if let Request::List = request {
            self.listed(answer, now);
            return self.finish_works();
        }
        let place = self.works.iter().position(|work| work.id == id);
        // Without one: the work was called off. What it has added is not wanted, and is found by
        // the release's list.
        if let Some(place) = place {
            let mut work = std::mem::replace(&mut self.works[place], Work::new(Kind::Look, VecDeque::new()));
            work.under_way -= 1;
            self.account(&mut work, request, answer, now);
            self.works[place] = work;
        }
        self.finish_works();
    }

    fn account(&mut self, work: &mut Work, request: Request, answer: Answer, now: Instant) {
        let answer_is_news = answer == Answer::Done;
        match (request, answer) {
            (Request::Add { vip, .. }, Answer::Done | Answer::AsItWas)
                if self.wanted_form(vip.address).is_none() =>
            {
                // The configuration has lost it meanwhile.
                self.begin(Work::listing(Kind::Look, [vip.address].into()));
            }
            (Request::Add { vip, .. }, Answer::Done | Answer::AsItWas)
                if self.held.contains_key(&vip.address) =>
            {
                if answer_is_news {
                    self.was_put_back(vip.address, now);
                    work.restored.push(vip.address);
                    self.events.push(Event::Held(vip));
                }
            }
            (Request::Add { vip, .. }, Answer::Done | Answer::AsItWas) => {
                self.held.insert(vip.address, vip.clone());
                self.events.push(Event::Held(vip.clone()));
                work.added.push(vip);
            }
            (Request::Add { vip, .. }, Answer::Failed(why)) => {
                if work.takes().is_some() {
                    work.requests.clear();
                } else if self.wanted_form(vip.address).is_some() {
                    self.missing.insert((now + RETRY, vip.address));
                    if self.held.remove(&vip.address).is_some() {
                        self.events.push(Event::Lost(vip.address));
                    }
                }
                work.failed(why);
            }
            (Request::Delete(_), Answer::Failed(why)) => work.failed(why),
            (Request::Delete(form), _) => _ = work.deleted.insert(form.address),
            (Request::AddRoute(network), Answer::Failed(why)) => {
                self.routes.remove(&network);
                self.events.push(Event::Trouble(why));
            }
            (_, Answer::Failed(why)) => self.events.push(Event::Trouble(why)),
            (Request::AddRoute(_) | Request::DeleteRoute(_) | Request::List, _) => {}
            (Request::Add { .. }, Answer::Listed(_)) => {}
        }
    }

    /// The interface's addresses, for all that have waited for them.
    fn listed(&mut self, answer: Answer, now: Instant) {
        self.is_listing = false;
        let forms = match answer {
            Answer::Listed(forms) => {
                self.reconcile(&forms, now);
                forms
            }
            Answer::Failed(why) => {
                self.trouble(why);
                Vec::new()
            }
            Answer::Done | Answer::AsItWas => Vec::new(),
        };
        for mut work in std::mem::take(&mut self.works) {
            if work.list == List::UnderWay {
                work.list = List::No;
                let surplus = forms.iter().filter(|form| {
                    let is_wanted = self.wanted_form(form.address).is_some();
                    let goes =
                        work.surplus.contains(&form.address) && (!is_wanted || work.kind == Kind::Follow);
                    goes || (work.kind == Kind::Follow && is_wanted && is_replaced(form))
                });
                work.requests.extend(surplus.cloned().map(Request::Delete));
            }
            self.works.push_back(work);
        }
    }

    /// Puts held addresses back that are not on the interface, and notes those that others put
    /// there.
    fn reconcile(&mut self, forms: &[Form], now: Instant) {
        let present: BTreeSet<IpAddr> = forms.iter().map(|form| form.address).collect();
        let gone: Vec<IpAddr> = self.held.keys().filter(|vip| !present.contains(vip)).copied().collect();
        gone.into_iter().for_each(|vip| self.put_back(vip, now));
        self.own = forms
            .iter()
            .filter_map(|form| self.own_network(form).map(|network| (form.address, network)))
            .collect();
        self.follow_routes();
    }

    pub(super) fn finish_works(&mut self) {
        while let Some(place) = self.works.iter().position(Work::is_done) {
            let Some(work) = self.works.remove(place) else { return };
            self.finish(work);
        }
    }

    fn finish(&mut self, work: Work) {
        let Work { kind, added, restored, deleted, errors, .. } = work;
        if !deleted.is_empty() {
            self.events.push(Event::Released(deleted));
        }
        if !added.is_empty() {
            self.events.push(Event::Taken(added));
        }
        if !restored.is_empty() {
            self.events.push(Event::PutBack(restored));
        }
        let errors = errors.join("; ");
        match kind {
            Kind::Take(group) if errors.is_empty() => self.tell(Outcome::Taken(group)),
            Kind::Take(group) => self.give_up(group, Kind::Undo(group, errors)),
            Kind::Release(group) => {
                self.trouble(errors);
                self.tell(Outcome::Released(group));
                self.take_next(group);
            }
            Kind::Undo(group, why) => {
                self.trouble(errors);
                self.tell(Outcome::Failed(group, why));
                self.take_next(group);
            }
            Kind::Follow => {
                self.trouble(errors);
                self.fill();
            }
            Kind::Fill | Kind::PutBack => self.fail_those_without(errors),
            Kind::Look | Kind::Routes => self.trouble(errors),
        }
    }

    fn fill(&mut self) {
        let mut requests: VecDeque<Request> = self.routes_to_set().collect();
        for group in &self.wanted {
            requests.extend(self.missing_of(*group));
        }
        if !requests.is_empty() {
            self.begin(Work::new(Kind::Fill, requests));
        }
    }

    fn take_next(&mut self, group: GroupNumber) {
        if self.next_takes.remove(&group) {
            self.take(group);
        }
    }

    /// What cannot be had is told of each group that it is missing from.
    fn fail_those_without(&mut self, why: String) {
        if why.is_empty() {
            return;
        }
        let lacking = self.wanted.iter().filter(|group| !self.missing_of(**group).is_empty());
        for group in lacking.copied().collect::<Vec<_>>() {
            self.tell(Outcome::Failed(group, why.clone()));
        }
        self.trouble(why);
    }

    fn was_put_back(&mut self, vip: IpAddr, now: Instant) {
        let fight = self.fights.entry(vip).or_insert(PutBacks { last: now, rounds: 0 });
        *fight = PutBacks { last: now, rounds: fight.rounds.saturating_add(1) };
    }

    fn tell(&mut self, outcome: Outcome) {
        if !self.is_ending {
            self.events.push(Event::Outcome(outcome));
        }
    }

    fn trouble(&mut self, what: String) {
        if !what.is_empty() {
            self.events.push(Event::Trouble(what));
        }
    }
}

/// An IPv4 VIP with the prefix of a network, as an earlier version or somebody else has put it
/// there. Not one that is the first of its network: with it the kernel would remove the others, the
/// director's own among them.
fn is_replaced(form: &Form) -> bool {
    form.address.is_ipv4() && form.prefix < HOST && form.is_secondary
}
