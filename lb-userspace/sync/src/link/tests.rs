use std::collections::VecDeque;

use fastrand::Rng;
use proptest::prelude::*;

use super::*;
use crate::simulation::lot;

const STEP: Duration = Duration::from_millis(5);

fn link(me: u8, session: u64) -> Link {
    Link::new(NodeId(me), NodeId(1 - me), session, lot(session << 8 | u64::from(me)))
}

/// A network between two links that loses, doubles and reorders datagrams, and records them all.
struct Network {
    rng: Rng,
    /// Percent.
    trouble: u8,
    under_way: VecDeque<(Header, Vec<u8>)>,
    recorded: Vec<(Header, Vec<u8>)>,
}

impl Network {
    fn new(seed: u64, trouble: u8) -> Self {
        Self { rng: Rng::with_seed(seed), trouble, under_way: VecDeque::new(), recorded: Vec::new() }
    }

    fn hit(&mut self) -> bool {
        self.rng.u8(..100) < self.trouble
    }

    fn carry(&mut self, from: &mut Link, now: Duration) {
        let mut sent = Vec::new();
        from.send(now, &mut u64::MAX.clone(), |header, messages| {
            sent.push((*header, messages.to_vec()));
            messages.len()
        });
        for datagram in sent {
            self.recorded.push(datagram.clone());
            if self.hit() {
                continue;
            }
            if self.hit() {
                self.under_way.push_back(datagram.clone());
            }
            let place =
                if self.hit() { self.rng.usize(..=self.under_way.len()) } else { self.under_way.len() };
            self.under_way.insert(place, datagram);
        }
    }

    /// One step of both sides. What each has received is appended to `received`.
    fn step(&mut self, links: &mut [Link; 2], received: &mut [Vec<Vec<u8>>; 2], now: Duration) {
        links.iter_mut().for_each(|link| self.carry(link, now));
        for _ in 0..self.under_way.len() {
            let Some((header, messages)) = self.under_way.pop_front() else { break };
            let to = usize::from(header.to.0);
            let result = links[to].receive(&header, &messages, now);
            if result.begins_anew || result.stream_begins {
                received[to].clear();
            }
            received[to].extend(result.messages);
        }
    }
}

fn time(step: u32) -> Duration {
    Duration::from_secs(100) + STEP * step
}

#[test]
fn two_messages_each_way_and_they_know_each_other() {
    let (mut links, mut received) = ([link(0, 1), link(1, 2)], Default::default());
    let mut network = Network::new(1, 0);
    for step in 0..4 {
        network.step(&mut links, &mut received, time(step));
    }
    assert!(links.iter().all(|link| link.is_up(time(4))));
    let later = time(4) + SILENT;
    assert!(links.iter().all(|link| !link.is_up(later)), "nobody speaks");
}

proptest! {
    #[test]
    fn everything_comes_once_and_in_order_whatever_the_network_does(
        seed in any::<u64>(),
        trouble in 0_u8..40,
        count in 1_usize..600,
    ) {
        let (mut links, mut received) = ([link(0, 1), link(1, 2)], [Vec::new(), Vec::new()]);
        let mut network = Network::new(seed, trouble);
        let mut step = 0;
        while !links.iter().all(|link| link.is_up(time(step))) {
            network.step(&mut links, &mut received, time(step));
            step += 1;
            prop_assert!(step < 2000, "they never meet");
        }
        received.iter_mut().for_each(Vec::clear);
        let sent: Vec<Vec<u8>> = (0..count).map(|number| number.to_be_bytes().to_vec()).collect();
        sent.iter().for_each(|messages| {
            let pushed = links[0].push(messages.clone(), time(step));
            assert_eq!(pushed, Ok(()));
        });
        while links[0].backlog() > 0 {
            network.step(&mut links, &mut received, time(step));
            step += 1;
            prop_assert!(step < 20_000, "{} of {count} are left", links[0].backlog());
        }
        prop_assert_eq!(&received[1], &sent);
    }

    #[test]
    fn no_recording_has_an_effect(seed in any::<u64>(), restarts in proptest::collection::vec(0_usize..2, 0..3)) {
        let (mut links, mut received) = ([link(0, 1), link(1, 2)], [Vec::new(), Vec::new()]);
        let mut network = Network::new(seed, 10);
        let (mut step, mut session) = (0, 10);
        let mut restarts = restarts.into_iter();
        loop {
            for _ in 0..400 {
                let _ = links[0].push(vec![1], time(step));
                let _ = links[1].push(vec![2], time(step));
                network.step(&mut links, &mut received, time(step));
                step += 1;
            }
            prop_assert!(links.iter().all(|link| link.is_up(time(step))));
            let Some(who) = restarts.next() else { break };
            session += 1;
            links[who] = link(who as u8, session);
        }
        // What has not come yet may come late.
        while links.iter().any(|link| link.backlog() > 0) {
            network.step(&mut links, &mut received, time(step));
            step += 1;
            prop_assert!(step < 20_000, "they never catch up");
        }
        for link in &mut links {
            let challenge = link.challenge;
            for (header, messages) in network.recorded.clone() {
                let result = link.receive(&header, &messages, time(step));
                prop_assert!(!result.begins_anew && !result.stream_begins && result.messages.is_empty());
            }
            prop_assert_eq!(link.challenge, challenge);
        }
        // And they go on.
        for _ in 0..100 {
            network.step(&mut links, &mut received, time(step));
            step += 1;
        }
        prop_assert!(links.iter().all(|link| link.is_up(time(step))));
    }
}

#[test]
fn a_director_that_begins_anew_is_noticed_and_a_silent_one_is_given_up() {
    let (mut links, mut received) = ([link(0, 1), link(1, 2)], [Vec::new(), Vec::new()]);
    let mut network = Network::new(1, 0);
    for step in 0..10 {
        network.step(&mut links, &mut received, time(step));
    }
    // The second one starts again; one that is in the queue for its life before never comes.
    links[1] = link(1, 3);
    assert_eq!(links[0].push(vec![1], time(10)), Ok(()));
    let mut anew = false;
    for step in 10..200 {
        links.iter_mut().for_each(|link| network.carry(link, time(step)));
        for (header, messages) in network.under_way.drain(..) {
            let result = links[usize::from(header.to.0)].receive(&header, &messages, time(step));
            anew |= header.to == NodeId(0) && result.begins_anew;
            assert!(result.messages.is_empty());
        }
    }
    assert!(anew && links[0].is_up(time(200)));
    // The second one falls silent.
    assert_eq!(links[0].push(vec![2], time(200)), Ok(()));
    let mut given_up = false;
    for step in 200..1000 {
        given_up |= links[0].send(time(step), &mut u64::MAX.clone(), |_, messages| messages.len());
    }
    assert!(given_up && links[0].backlog() == 0 && !links[0].is_up(time(1000)));
}

#[test]
fn a_queue_that_is_full_takes_no_more_and_a_budget_holds() {
    let (mut links, mut received) = ([link(0, 1), link(1, 2)], [Vec::new(), Vec::new()]);
    let mut network = Network::new(1, 0);
    for step in 0..10 {
        network.step(&mut links, &mut received, time(step));
    }
    for _ in 0..QUEUE {
        assert_eq!(links[0].push(vec![0; 100], time(10)), Ok(()));
    }
    assert_eq!(links[0].push(vec![0; 100], time(10)), Err(Full));
    let mut bytes = 0;
    links[0].send(time(10), &mut 1000, |_, messages| {
        bytes += messages.len();
        messages.len()
    });
    assert_eq!(bytes, 1000);
}
