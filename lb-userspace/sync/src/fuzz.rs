//! The synchronisation's port: datagrams of strangers, and of a director that has the key and has
//! lost its mind.

use std::time::Duration;

use lb_cluster::auth::ClusterId;
use lb_common::addr::V4;
use lb_common::server::ServerId;
use lb_common::table::connection::{KeyV4, State};
use lb_fuzz::{Failed, bytes, hold, targets};
use lb_model::ids::GroupId;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

use crate::digest::{Digest, Regions};
use crate::directory::Directory;
use crate::message::tests::messages;
use crate::message::{Connection, Message, Reader};
use crate::simulation::{GROUP_ID, Network, Setting, World, keys};
use crate::wire::{self, Header, MESSAGES, TAG};

targets! {
    synchronisation 200 "datagrams of the synchronisation, with and without the cluster's key" => run;
}

/// Bytes for what another director has said and not yet confirmed, whatever it says.
const MOST: usize = 8 << 20;

/// Two directors that know each other, and the header of what the first one would say next.
fn acquainted(anycast: bool) -> (World, Header) {
    let network = Network { loss: 0.0, delay: Duration::ZERO, reorders: false };
    let mut world = World::build(Setting { seed: 7, anycast, rate: u64::MAX, network }, &[[4, 4], [4, 4]]);
    (0..40).for_each(|client| world.happen(0, client, State::Established));
    world.run_all(Duration::from_secs(1));
    let mut said = None;
    for _ in 0..100 {
        world.now += Duration::from_millis(5);
        let now = world.now;
        let mut budget = u64::MAX;
        world.directors[0].engine.work(now);
        world.directors[0].engine.send(now, &mut budget, |_, datagram| said = Some(datagram.to_vec()));
    }
    let said = said.expect("a hello at least");
    let (header, _) = wire::open(ClusterId::of("lb"), &keys(), &said).expect("a genuine datagram");
    // A stream of its own, so that it can be numbered from the first.
    (world, Header { stream: header.stream + 1, number: 1, ..header })
}

fn encoded(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    messages.iter().for_each(|message| message.encode(&mut bytes));
    bytes
}

/// What a director says in its right mind, about servers and a group that there are.
fn samples(directory: &Directory) -> Vec<Vec<u8>> {
    let known = *directory.known(ServerId(1)).expect("a server");
    let server = Message::Server { number: ServerId(1), group: GROUP_ID, backend: known.known.backend };
    let connection = |client: u32, state, hearsay| {
        let key = KeyV4::new(V4(client), 1, 80_u16.to_be());
        Message::V4(Connection { server: ServerId(1), key, state, remaining: 900, hearsay, source: None })
    };
    let told = [
        connection(1, State::Established, false),
        connection(2, State::FinWait, true),
        connection(3, State::Unproven, false),
        connection(4, State::Closed, false),
    ];
    let (group, regions) = (GROUP_ID, Regions::ALL);
    let digests = Message::Digests { group, first: 128, digests: vec![Digest(1 << 48 | 7); 20] };
    let round = [digests, Message::RoundEnds(3)];
    let (begin, end) = (Message::Begin { group, regions }, Message::End { group });
    let whole = [&[server.clone(), begin.clone()][..], &told, std::slice::from_ref(&end)].concat();
    let asks = [Message::Want { group, regions }, Message::Lacks, Message::InStep(9)];
    let with_server = [&[server][..], &told].concat();
    vec![encoded(&whole), encoded(&with_server), encoded(&round), encoded(&asks), encoded(&[begin, end])]
}

/// How a datagram comes.
#[derive(Debug, Clone)]
enum Sent {
    /// From somebody without the key.
    Raw(Vec<u8>),
    /// With the tag put right.
    Signed(Vec<u8>),
    /// The next one of a conversation.
    Said(Vec<u8>),
}

pub(crate) fn run(config: Config) -> Result<(), Failed> {
    let (world, header) = acquainted(false);
    let bodies = samples(&world.directors[1].directory.get());
    let seal = |messages: &[u8]| wire::seal(ClusterId::of("lb"), &keys(), &header, messages);
    let datagrams: Vec<Vec<u8>> = bodies.iter().map(|body| seal(body)).collect();
    let made_up = vec(messages(), 1..12).prop_map(|messages| encoded(&messages));
    let sent = prop_oneof![
        2 => bytes::nearly(datagrams.clone()).prop_map(Sent::Raw),
        2 => bytes::nearly(datagrams).prop_map(Sent::Signed),
        4 => bytes::nearly(bodies).prop_map(Sent::Said),
        2 => made_up.prop_map(Sent::Said),
    ];
    hold(config, (vec(sent, 1..30), any::<bool>()), |(sent, anycast)| property(&sent, anycast))
}

fn property(sent: &[Sent], anycast: bool) -> Result<(), TestCaseError> {
    let (mut world, mut header) = acquainted(anycast);
    let (mut now, cluster) = (world.now, ClusterId::of("lb"));
    let engine = &mut world.directors[1].engine;
    for sent in sent {
        now += Duration::from_millis(5);
        let heard = match sent {
            Sent::Raw(datagram) => {
                let genuine = wire::open(cluster, &keys(), datagram).is_ok();
                let heard = engine.receive(datagram, now);
                prop_assert!(heard.is_none() || genuine, "believed without a signature");
                None
            }
            Sent::Signed(datagram) => {
                let signed = &datagram[..datagram.len().saturating_sub(TAG)];
                let datagram = [signed, &keys().sign(signed)[..]].concat();
                engine.receive(&datagram, now);
                None
            }
            Sent::Said(messages) => {
                let messages = &messages[..messages.len().min(MESSAGES)];
                let heard = engine.receive(&wire::seal(cluster, &keys(), &header, messages), now);
                header.number += 1;
                heard
            }
        };
        prop_assert!(heard.is_some() || !matches!(sent, Sent::Said(_)));
        if let Sent::Said(messages) = sent {
            let read: Vec<Message> = Reader::new(messages).map_while(Result::ok).collect();
            let again: Vec<Message> = Reader::new(&encoded(&read)).map_while(Result::ok).collect();
            prop_assert_eq!(read, again, "what is read can be told");
        }
        engine.work(now);
        let mut budget = 100_000;
        engine.send(now, &mut budget, |_, _| {});
    }
    let taken = engine.footprint().peers;
    prop_assert!(taken < MOST, "{taken} bytes for what another director says");
    Ok(())
}

/// As many groups as there are names.
#[test]
fn a_director_that_has_lost_its_mind_takes_a_bounded_amount_of_memory() {
    let (mut world, mut header) = acquainted(false);
    let (now, regions) = (world.now, Regions::ALL);
    let engine = &mut world.directors[1].engine;
    for groups in (0..20_000_u32).collect::<Vec<_>>().chunks(8) {
        let messages: Vec<Message> = groups
            .iter()
            .map(|group| GroupId(*group))
            .flat_map(|group| {
                let digests = Message::Digests { group, first: 0, digests: vec![Digest(1)] };
                [digests, Message::Begin { group, regions }, Message::Want { group, regions }]
            })
            .collect();
        let datagram = wire::seal(ClusterId::of("lb"), &keys(), &header, &encoded(&messages));
        assert!(engine.receive(&datagram, now).is_some());
        header.number += 1;
    }
    let taken = engine.footprint().peers;
    assert!(taken < MOST / 4, "{taken} bytes");
}
