//! The ledger with an interface that does as it is asked.

use std::net::Ipv4Addr;

use lb_net::addresses::Answer;
use lb_net::vips::HOST;

use super::*;

/// Requests under way at once.
const REQUESTS: usize = 32;

/// A ledger, its interface, and what has come of it.
struct Bench {
    ledger: Ledger,
    now: Instant,
    /// Forms of an address that it has.
    present: BTreeMap<IpAddr, Vec<Form>>,
    routes: BTreeSet<Network>,
    /// Adding these is refused.
    refused: BTreeSet<IpAddr>,
    under_way: VecDeque<(WorkId, Request)>,
    /// Everything that was asked, in order.
    asked: Vec<Request>,
    events: Vec<Event>,
}

fn vip(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a08_0000 + number).into()
}

fn form(number: u32) -> VipAddress {
    VipAddress { address: vip(number), prefix: HOST, label: None }
}

fn group(numbers: std::ops::Range<u32>) -> Vips {
    let addresses = numbers.clone().map(|number| (vip(number), form(number))).collect();
    let networks = numbers.map(|number| Network::of(Ipv4Addr::from(0x0a08_0000 + number), 16)).collect();
    Vips { addresses, refresh: Duration::from_secs(5), networks }
}

fn numbered(groups: &[Vips]) -> BTreeMap<GroupNumber, Vips> {
    (0..).map(GroupNumber).zip(groups.iter().cloned()).collect()
}

impl Bench {
    fn with(groups: &[Vips]) -> Self {
        let mut ledger = Ledger::default();
        ledger.set_groups(numbered(groups), false);
        let mut bench = Self {
            ledger,
            now: Instant::now(),
            present: BTreeMap::new(),
            routes: BTreeSet::new(),
            refused: BTreeSet::new(),
            under_way: VecDeque::new(),
            asked: Vec::new(),
            events: Vec::new(),
        };
        bench.run();
        bench.asked.clear();
        bench
    }

    fn add_by_hand(&mut self, form: Form) {
        self.present.entry(form.address).or_default().push(form);
    }

    /// Removed by others, which the ledger hears of.
    fn remove_by_hand(&mut self, address: IpAddr) {
        self.present.remove(&address);
        self.ledger.removed(address, self.now);
    }

    /// Hands out what may be under way at once, and carries one request out.
    fn step(&mut self) -> bool {
        self.ledger.pass_time(self.now);
        while self.under_way.len() < REQUESTS
            && let Some((work, request)) = self.ledger.next()
        {
            self.asked.push(request.clone());
            self.under_way.push_back((work, request));
        }
        let Some((work, request)) = self.under_way.pop_front() else { return false };
        let answer = self.carry_out(&request);
        self.ledger.answered(work, request, answer, self.now);
        self.events.extend(self.ledger.take_events());
        true
    }

    fn run(&mut self) -> Vec<Event> {
        while self.step() {}
        assert!(self.ledger.is_idle());
        std::mem::take(&mut self.events)
    }

    fn carry_out(&mut self, request: &Request) -> Answer {
        match request {
            Request::List => Answer::Listed(self.present.values().flatten().cloned().collect()),
            Request::Add { vip, .. } if self.refused.contains(&vip.address) => {
                Answer::Failed("no room".to_owned())
            }
            Request::Add { vip, .. } => {
                let forms = self.present.entry(vip.address).or_default();
                if forms.iter().any(|form| form.prefix == vip.prefix) {
                    return Answer::AsItWas;
                }
                forms.push(Form::with(vip.address, vip.prefix, false));
                Answer::Done
            }
            Request::Delete(form) => {
                let Some(forms) = self.present.get_mut(&form.address) else { return Answer::AsItWas };
                forms.retain(|present| present != form);
                if forms.is_empty() {
                    self.present.remove(&form.address);
                    // The kernel tells of our own doing too.
                    self.ledger.removed(form.address, self.now);
                }
                Answer::Done
            }
            Request::AddRoute(network) => {
                if self.routes.insert(*network) {
                    Answer::Done
                } else {
                    Answer::AsItWas
                }
            }
            Request::DeleteRoute(network) => {
                if self.routes.remove(network) {
                    Answer::Done
                } else {
                    Answer::AsItWas
                }
            }
        }
    }

    fn has(&self, numbers: std::ops::Range<u32>) -> bool {
        self.present.keys().copied().eq(numbers.map(vip))
    }
}

fn outcomes(events: &[Event]) -> Vec<Outcome> {
    let outcome = |event: &Event| match event {
        Event::Outcome(outcome) => Some(outcome.clone()),
        _ => None,
    };
    events.iter().filter_map(outcome).collect()
}

fn put_back(events: &[Event]) -> Vec<IpAddr> {
    let put_back = |event: &Event| match event {
        Event::PutBack(vips) => Some(vips.clone()),
        _ => None,
    };
    events.iter().filter_map(put_back).flatten().collect()
}

#[test]
fn a_group_is_taken_with_one_request_for_each_address_and_released_with_one_list() {
    let mut bench = Bench::with(&[group(0..3000)]);
    bench.ledger.take(GroupNumber(0));
    let events = bench.run();
    assert_eq!(outcomes(&events), [Outcome::Taken(GroupNumber(0))]);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Held(_))).count(), 3000);
    assert!(bench.has(0..3000));
    assert_eq!(bench.asked.len(), 3000 + 1, "and a route");

    bench.asked.clear();
    bench.ledger.release(GroupNumber(0));
    assert_eq!(outcomes(&bench.run()), [Outcome::Released(GroupNumber(0))]);
    assert!(bench.present.is_empty() && bench.routes.is_empty());
    assert_eq!(bench.asked.len(), 3000 + 2, "and a list and the route");
}

#[test]
fn a_small_group_is_taken_while_a_large_one_is_released() {
    let mut bench = Bench::with(&[group(0..3000), group(3000..3001)]);
    bench.ledger.take(GroupNumber(0));
    bench.run();
    bench.ledger.release(GroupNumber(0));
    assert!(bench.step(), "the list");
    bench.ledger.take(GroupNumber(1));
    let mut steps = 0;
    while outcomes(&bench.events).is_empty() {
        assert!(bench.step());
        steps += 1;
    }
    assert_eq!(outcomes(&bench.events), [Outcome::Taken(GroupNumber(1))]);
    assert!(steps <= REQUESTS + 2, "after {steps} requests");
    assert_eq!(outcomes(&bench.run()), [Outcome::Taken(GroupNumber(1)), Outcome::Released(GroupNumber(0))]);
    assert!(bench.has(3000..3001));
}

#[test]
fn many_groups_that_are_released_at_once_are_listed_once() {
    let groups: Vec<Vips> = (0..200).map(|number| group(number * 10..number * 10 + 10)).collect();
    let mut bench = Bench::with(&groups);
    (0..200).for_each(|number| bench.ledger.take(GroupNumber(number)));
    bench.run();
    bench.asked.clear();
    (0..200).for_each(|number| bench.ledger.release(GroupNumber(number)));
    assert_eq!(outcomes(&bench.run()).len(), 200);
    assert!(bench.present.is_empty());
    assert_eq!(bench.asked.iter().filter(|request| **request == Request::List).count(), 1);
}

#[test]
fn a_take_over_that_fails_half_way_is_undone_and_says_why() {
    let mut bench = Bench::with(&[group(0..100), group(100..101)]);
    bench.refused.insert(vip(70));
    bench.ledger.take(GroupNumber(1));
    bench.ledger.take(GroupNumber(0));
    let events = bench.run();
    assert_eq!(
        outcomes(&events),
        [Outcome::Taken(GroupNumber(1)), Outcome::Failed(GroupNumber(0), "no room".to_owned())]
    );
    assert!(bench.has(100..101));
    assert!(bench.asked.len() < 250, "what follows the failure is not tried");
}

#[test]
fn a_release_comes_into_a_take_over_and_is_all_that_is_told() {
    let mut bench = Bench::with(&[group(0..100)]);
    bench.ledger.take(GroupNumber(0));
    (0..40).for_each(|_| assert!(bench.step()));
    bench.ledger.release(GroupNumber(0));
    assert_eq!(outcomes(&bench.run()), [Outcome::Released(GroupNumber(0))]);
    assert!(bench.present.is_empty());
}

#[test]
fn a_group_that_is_wanted_back_while_it_is_released_comes_back_after_that() {
    let mut bench = Bench::with(&[group(0..100)]);
    bench.ledger.take(GroupNumber(0));
    bench.run();
    bench.ledger.release(GroupNumber(0));
    (0..40).for_each(|_| assert!(bench.step()));
    bench.ledger.take(GroupNumber(0));
    assert_eq!(outcomes(&bench.run()), [Outcome::Released(GroupNumber(0)), Outcome::Taken(GroupNumber(0))]);
    assert!(bench.has(0..100));

    bench.ledger.release(GroupNumber(0));
    bench.step();
    bench.ledger.take(GroupNumber(0));
    bench.ledger.release(GroupNumber(0));
    assert_eq!(outcomes(&bench.run()), [Outcome::Released(GroupNumber(0))], "the last word counts");
    assert!(bench.present.is_empty());
}

/// All forms that others have given it go with it.
#[test]
fn what_an_earlier_life_has_left_is_released_too() {
    let mut bench = Bench::with(&[group(0..2)]);
    bench.add_by_hand(Form::with(vip(0), 16, false));
    bench.add_by_hand(Form::with(vip(0), 24, false));
    bench.routes.insert(Network::of(Ipv4Addr::new(10, 8, 0, 0), 16));
    bench.ledger.release(GroupNumber(0));
    bench.run();
    assert!(bench.present.is_empty() && bench.routes.is_empty());
}

/// The director is alone, and was killed when it had them with their networks' prefix.
#[test]
fn a_form_that_could_become_a_source_is_replaced_unless_others_hang_on_it() {
    let mut bench = Bench::with(&[]);
    let forms =
        [Form::with(vip(0), 16, true), Form::with(vip(1), HOST, false), Form::with(vip(2), 16, false)];
    forms.into_iter().for_each(|form| bench.add_by_hand(form));
    bench.ledger.set_groups(numbered(&[group(0..4)]), true);
    bench.run();
    for number in [0, 1, 3] {
        assert_eq!(bench.present[&vip(number)], [Form::with(vip(number), HOST, false)], "{number}");
    }
    assert_eq!(bench.present[&vip(2)].len(), 2, "the first of its network stays beside ours");
}

/// As a DHCP client takes all addresses away and brings its own back.
#[test]
fn a_vip_is_hidden_from_the_choice_of_sources_while_there_is_no_other_address() {
    let mut bench = Bench::with(&[group(0..1)]);
    let own = Form::with(Ipv4Addr::new(10, 8, 200, 5).into(), 16, false);
    bench.add_by_hand(own.clone());
    bench.ledger.added(&own);
    bench.ledger.take(GroupNumber(0));
    bench.run();
    bench.remove_by_hand(own.address);
    bench.remove_by_hand(vip(0));
    bench.run();
    bench.add_by_hand(own.clone());
    bench.ledger.added(&own);
    bench.remove_by_hand(vip(0));
    bench.now += CALM;
    bench.run();
    let hidden = |request: &Request| match request {
        Request::Add { hidden, .. } => Some(*hidden),
        _ => None,
    };
    assert_eq!(bench.asked.iter().filter_map(hidden).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn a_reload_takes_what_is_new_and_gives_up_what_is_gone() {
    let mut bench = Bench::with(&[group(0..10)]);
    bench.ledger.take(GroupNumber(0));
    bench.run();
    bench.ledger.set_groups(numbered(&[group(5..15)]), false);
    let events = bench.run();
    assert!(bench.has(5..15));
    assert_eq!(outcomes(&events), []);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Held(_))).count(), 5);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Lost(_))).count(), 5);

    let mut labelled = group(5..15);
    labelled.addresses.values_mut().for_each(|vip| vip.label = Some("eth0:0".to_owned()));
    bench.asked.clear();
    bench.ledger.set_groups(numbered(&[labelled]), false);
    bench.run();
    assert!(bench.has(5..15));
    assert_eq!(bench.asked.len(), 21, "a list, and each address away and back");
}

#[test]
fn a_reload_comes_into_a_take_over() {
    let mut bench = Bench::with(&[group(0..100)]);
    bench.ledger.take(GroupNumber(0));
    (0..40).for_each(|_| assert!(bench.step()));
    bench.ledger.set_groups(numbered(&[group(50..150)]), false);
    assert_eq!(outcomes(&bench.run()), [Outcome::Taken(GroupNumber(0))]);
    assert!(bench.has(50..150));
}

#[test]
fn what_others_remove_is_put_back_and_told_once() {
    let mut bench = Bench::with(&[group(0..3000)]);
    bench.ledger.take(GroupNumber(0));
    bench.run();
    (0..3000).for_each(|number| bench.remove_by_hand(vip(number)));
    let events = bench.run();
    assert_eq!(put_back(&events).len(), 3000);
    assert!(events.iter().filter(|event| matches!(event, Event::PutBack(_))).count() == 1);
    assert!(bench.has(0..3000));

    // News that is too old: the address is there.
    bench.ledger.removed(vip(0), bench.now);
    bench.now += CALM;
    assert_eq!(bench.run(), []);
}

#[test]
fn a_change_that_was_not_told_is_found_by_looking() {
    let mut bench = Bench::with(&[group(0..10)]);
    bench.ledger.take(GroupNumber(0));
    bench.run();
    bench.present.remove(&vip(3));
    bench.ledger.recheck(true);
    assert_eq!(put_back(&bench.run()), [vip(3)]);
    assert!(bench.has(0..10));
}

/// Removed as soon as it is there: the kernel is left in peace, and so is the log.
#[test]
fn a_remover_that_goes_on_is_answered_less_and_less_often() {
    let mut bench = Bench::with(&[group(0..1)]);
    bench.ledger.take(GroupNumber(0));
    bench.run();
    let mut rounds = 0;
    let begin = bench.now;
    let mut pauses = Vec::new();
    while bench.now < begin + Duration::from_secs(60) {
        bench.remove_by_hand(vip(0));
        let before = bench.now;
        bench.now = bench.ledger.wake().expect("it is put back").max(bench.now);
        pauses.push(bench.now - before);
        assert_eq!(put_back(&bench.run()), [vip(0)]);
        rounds += 1;
    }
    assert_eq!(pauses[0], Duration::ZERO, "at once");
    assert!(pauses[1..].windows(2).all(|pair| pair[0] <= pair[1]) && pauses.last() == Some(&LONGEST_PAUSE));
    assert!(rounds < 80, "{rounds} times in a minute");

    bench.now += CALM;
    bench.run();
    bench.remove_by_hand(vip(0));
    assert_eq!(bench.ledger.wake(), Some(bench.now), "after a calm at once again");
}

#[test]
fn what_cannot_be_put_back_is_told_and_tried_again() {
    let mut bench = Bench::with(&[group(0..2)]);
    bench.ledger.take(GroupNumber(0));
    bench.run();
    bench.refused.insert(vip(1));
    bench.remove_by_hand(vip(1));
    let events = bench.run();
    assert_eq!(outcomes(&events), [Outcome::Failed(GroupNumber(0), "no room".to_owned())]);
    assert!(events.contains(&Event::Lost(vip(1))));
    bench.refused.clear();
    bench.now += RETRY;
    let events = bench.run();
    assert!(events.contains(&Event::Held(form(1))) && bench.has(0..2));
    assert!(put_back(&events).is_empty(), "nobody else has removed it this time");
}

#[test]
fn networks_that_nothing_else_leads_to_have_a_route() {
    let network = Network::of(Ipv4Addr::new(10, 8, 0, 0), 16);
    let own = Form::with(Ipv4Addr::new(10, 8, 200, 5).into(), 16, false);
    let mut bench = Bench::with(&[group(0..2), group(2..4)]);
    bench.add_by_hand(own.clone());
    bench.ledger.added(&own);
    bench.ledger.take(GroupNumber(0));
    bench.run();
    assert!(bench.routes.is_empty(), "by the director's own address");
    bench.remove_by_hand(own.address);
    bench.run();
    assert_eq!(bench.routes, [network].into());
    bench.ledger.take(GroupNumber(1));
    bench.run();
    bench.ledger.release(GroupNumber(0));
    bench.run();
    assert_eq!(bench.routes, [network].into(), "the other group needs it");
    // The kernel has forgotten it with the link.
    bench.routes.clear();
    bench.ledger.recheck(true);
    bench.run();
    assert_eq!(bench.routes, [network].into());
    bench.add_by_hand(own.clone());
    bench.ledger.added(&own);
    bench.run();
    assert!(bench.routes.is_empty(), "the kernel has one of its own again");
}

#[test]
fn the_end_gives_everything_up_and_tells_nobody() {
    let mut bench = Bench::with(&[group(0..10), group(10..20), group(20..30)]);
    bench.ledger.take(GroupNumber(0));
    bench.ledger.take(GroupNumber(2));
    bench.run();
    bench.ledger.end();
    assert_eq!(outcomes(&bench.run()), []);
    assert!(bench.present.is_empty() && bench.routes.is_empty());
}
