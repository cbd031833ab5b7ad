//! The watch with scripted claims and a paused clock.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use lb_common::mac::Mac;
use lb_model::ids::GroupNumber;

use super::*;
use crate::segment::claimant::Machine;

const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 5]);
const OTHER: Mac = Mac::new([2, 0, 0, 0, 0, 7]);
const SERVER: Mac = Mac::new([2, 0, 0, 0, 0, 21]);
const NOW: Duration = Duration::ZERO;
const ETH1: Mac = Mac::new([2, 0, 0, 0, 1, 5]);

/// A source of scripted claims; it stays silent after the last one.
struct Script(VecDeque<io::Result<Heard>>);

impl Source for Script {
    async fn next(&mut self) -> io::Result<Heard> {
        match self.0.pop_front() {
            Some(said) => said,
            None => std::future::pending().await,
        }
    }
}

fn claim(address: &str, mac: Mac) -> io::Result<Heard> {
    waited(address, mac, NOW)
}

/// One that came so long ago.
fn waited(address: &str, mac: Mac, age: Duration) -> io::Result<Heard> {
    Ok(Heard { claim: Claim { address: address.parse().expect("an address"), mac }, age })
}

fn failure() -> io::Result<Heard> {
    Err(io::Error::other("no buffer space"))
}

fn ours() -> watch::Receiver<Ours> {
    let vips = [("10.9.9.6", 0), ("2001:db8::6", 3)];
    let vips = vips.map(|(vip, group)| (vip.parse().expect("an address"), GroupNumber(group)));
    let server = Machine::Server { name: "w1".to_owned(), address: [10, 9, 9, 21].into() };
    let machines = Machines::from([(SERVER, vec![server])]);
    watch::channel(Ours { interface: "eth0".to_owned(), mac: MAC, vips: vips.into(), machines }).1
}

/// The actions of one minute, and the ids of the findings. Each opened source yields its own
/// claims.
async fn heard(sources: Vec<Vec<io::Result<Heard>>>, holds: bool) -> (Vec<Response>, Vec<String>) {
    heard_since(sources, holds.then_some(Duration::MAX)).await
}

/// As [`heard`], by a director that holds the groups since so long ago.
async fn heard_since(
    sources: Vec<Vec<io::Result<Heard>>>,
    held: Option<Duration>,
) -> (Vec<Response>, Vec<String>) {
    let responses: Arc<Mutex<Vec<Response>>> = Arc::default();
    let told = Arc::clone(&responses);
    let findings = Findings::default();
    let judge = Judge {
        ours: ours(),
        own: watch::channel(Some([10, 9, 9, 5].into())).1,
        own_interface: Box::new(|mac, _| (mac == ETH1).then(|| "no-such-interface".to_owned())),
        findings: findings.clone(),
        holds: Arc::new(move |_, age| held.is_some_and(|held| age <= held)),
        respond: Box::new(move |response| told.lock().unwrap_or_else(PoisonError::into_inner).push(response)),
        defended: HashMap::new(),
    };
    let mut sources = sources.into_iter().map(|said| Script(said.into()));
    let first = sources.next().expect("a source");
    let rest: Rc<RefCell<VecDeque<Script>>> = Rc::new(RefCell::new(sources.collect()));
    let open = || rest.borrow_mut().pop_front().ok_or_else(|| io::Error::other("no such device"));
    let listening = listen(first, open, judge);
    assert!(tokio::time::timeout(Duration::from_secs(60), listening).await.is_err(), "it goes on");
    let ids = findings.status().into_iter().map(|finding| finding.finding).collect();
    let responses = std::mem::take(&mut *responses.lock().unwrap_or_else(PoisonError::into_inner));
    (responses, ids)
}

#[tokio::test(start_paused = true)]
async fn our_vips_announced_by_others_are_told_and_nothing_else() {
    let said = vec![
        claim("10.9.9.6", MAC),
        claim("10.9.9.7", OTHER),
        claim("2001:db8::6", OTHER),
        claim("2001:db8::7", OTHER),
        claim("10.9.9.6", OTHER),
    ];
    let (responses, findings) = heard(vec![said], true).await;
    assert_eq!(
        responses,
        [Response::Conflict(GroupNumber(3), OTHER, NOW), Response::Conflict(GroupNumber(0), OTHER, NOW)]
    );
    assert_eq!(findings, ["vip_claimed", "vip_claimed"]);
}

/// A failback right after a failover: what the other director announced while it had the VIPs is
/// read afterwards.
#[tokio::test(start_paused = true)]
async fn what_was_announced_before_the_director_held_the_vip_is_no_conflict() {
    let second = Duration::from_secs(1);
    let said = vec![waited("10.9.9.6", OTHER, second * 2), waited("2001:db8::6", OTHER, second / 2)];
    let (responses, findings) = heard_since(vec![said], Some(second)).await;
    assert_eq!(findings, ["vip_claimed"], "the second one alone");
    // The director's rules know the times, too.
    let wanted = [
        Response::Conflict(GroupNumber(0), OTHER, second * 2),
        Response::Conflict(GroupNumber(3), OTHER, second / 2),
    ];
    assert_eq!(responses, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_is_no_rival_and_clients_are_told_again() {
    let (responses, findings) = heard(vec![vec![claim("10.9.9.6", SERVER)]], true).await;
    assert_eq!(responses, [Response::Announce(GroupNumber(0))]);
    assert_eq!(findings, ["vip_claimed"]);
    let (responses, findings) = heard(vec![vec![claim("10.9.9.6", SERVER)]], false).await;
    assert!(responses.is_empty() && findings.is_empty(), "the director that holds the VIP sees to it");
}

#[tokio::test(start_paused = true)]
async fn an_interface_of_our_own_is_named() {
    let (responses, findings) = heard(vec![vec![claim("10.9.9.6", ETH1)]], true).await;
    assert_eq!(responses, [Response::Announce(GroupNumber(0))]);
    assert_eq!(findings, ["vip_on_other_interface"]);
}

/// It would answer for the VIP, too: it is found whether the director holds one or not.
#[tokio::test(start_paused = true)]
async fn an_interface_of_our_own_is_found_by_the_directors_own_address() {
    let said = vec![
        claim("10.9.9.5", MAC),
        claim("10.9.9.5", OTHER),
        claim("10.9.9.4", ETH1),
        claim("10.9.9.5", ETH1),
    ];
    let (responses, findings) = heard(vec![said], false).await;
    assert!(responses.is_empty(), "{responses:?}");
    assert_eq!(findings, ["vip_on_other_interface"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_it_hears_again() {
    let sources = vec![
        vec![failure()],
        vec![failure(), claim("10.9.9.6", OTHER), failure()],
        vec![claim("2001:db8::6", OTHER), failure(), claim("10.9.9.6", OTHER)],
    ];
    let (responses, _) = heard(sources, false).await;
    let wanted =
        [Response::Conflict(GroupNumber(3), OTHER, NOW), Response::Conflict(GroupNumber(0), OTHER, NOW)];
    assert_eq!(responses, wanted, "the old source is kept where there is no new one");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_conflicts_is_answered_at_a_pace() {
    let flood = (0..1_000_000).map(|_| claim("10.9.9.6", OTHER)).collect();
    let most = Duration::from_secs(60).as_millis() / DEFENCE_PAUSE.as_millis();
    let (responses, findings) = heard(vec![flood], true).await;
    assert!((1..=most as usize + 1).contains(&responses.len()), "{} times", responses.len());
    assert_eq!(findings.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_vip_that_is_held_has_its_turn() {
    let v6 = |host: u8| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)]);
    let [held, other] = [0, 1].map(GroupNumber);
    let vips: HashMap<IpAddr, GroupNumber> = (0..128)
        .flat_map(|host| {
            [([10, 0, 0, host].into(), held), (v6(host), held), ([10, 0, 1, host].into(), other)]
        })
        .collect();
    let holds = |group| group == held;
    let mut questions = Questions::default();
    let start = Instant::now();
    let asked: Vec<usize> =
        (0..13).map(|second| questions.due(&vips, &holds, start + second * ROUND).len()).collect();
    assert_eq!(asked, [100, 100, 56, 0, 0, 0, 0, 0, 0, 0, 100, 100, 56]);
    assert!(questions.due(&vips, &|_| false, start + Duration::from_secs(60)).is_empty(), "on standby");
}
