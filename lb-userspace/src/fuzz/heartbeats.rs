//! Heartbeats, by datagram and by serial line.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestCaseError};

use super::{Failed, bytes, hold};
use crate::cluster::channel::tests::{channel, heartbeat, resigned};
use crate::cluster::transport::framing::{Collector, Found, frame};
use crate::cluster::wire::{self, MAX_LENGTH};

const NOW: Duration = Duration::ZERO;
const SAMPLES: u64 = 4;

/// A message of node 0, as it comes to node 1.
fn sealed(sequence: u64) -> Vec<u8> {
    channel(0).seal(heartbeat(0, sequence), NOW).expect("a message within the limits")
}

pub fn run(config: Config) -> Result<(), Failed> {
    let message = (bytes::nearly((0..SAMPLES).map(sealed).collect()), any::<bool>());
    hold(config, vec(message, 1..20), property)
}

/// `true` for a message that has its signature put right: its sender has the key and has lost its mind.
fn property(messages: Vec<(Vec<u8>, bool)>) -> Result<(), TestCaseError> {
    let (mut us, mut peer) = (channel(1), channel(0));
    let mut of_a_keyholder = false;
    for (message, signed) in messages {
        let message = if signed { resigned(&message) } else { message };
        of_a_keyholder |= signed;
        if let Ok(parts) = wire::split(&message)
            && let Ok(envelope) = wire::decode(parts)
        {
            let again = wire::encode(parts.header, &envelope).expect("what was decoded can be encoded");
            prop_assert_eq!(again, parts.signed, "one form of each message");
        }
        let opened = us.open(&message, NOW);
        let genuine = (0..SAMPLES).any(|sequence| sealed(sequence) == message);
        prop_assert!(opened.is_err() || signed || genuine, "believed without a signature: {opened:?}");
    }
    if !of_a_keyholder {
        // A conversation begins in spite of all that; the second message proves that its sender has heard us.
        let opened = (100..103).any(|sequence| {
            let ours = us.seal(heartbeat(1, sequence), NOW).expect("a message");
            let _ = peer.open(&ours, NOW);
            let theirs = peer.seal(heartbeat(0, sequence), NOW).expect("a message");
            us.open(&theirs, NOW).is_ok()
        });
        prop_assert!(opened, "a genuine peer is not heard any more");
    }
    Ok(())
}

pub fn run_serial(config: Config) -> Result<(), Failed> {
    let frames = (0..SAMPLES).map(|sequence| frame(&sealed(sequence))).collect();
    let line = (bytes::nearly(frames), vec(any::<Index>(), 0..4));
    hold(config, (vec(line, 0..6), vec(any::<u8>(), 1..MAX_LENGTH)), |(lines, last)| serial(&lines, &last))
}

/// A whole frame comes out, whatever stood on the line before it.
fn serial(lines: &[(Vec<u8>, Vec<Index>)], last: &[u8]) -> Result<(), TestCaseError> {
    let (mut collector, mut message) = (Collector::default(), Vec::new());
    let mut us = channel(1);
    let noise = lines.iter().flat_map(|(line, cuts)| bytes::pieces(line, cuts));
    for piece in noise.chain([frame(last)]) {
        for byte in piece {
            if collector.take(byte, &mut message) == Some(Found::Message) {
                prop_assert!(message.len() <= MAX_LENGTH + MAX_LENGTH / 254 + 2);
                let _ = us.open(&message, NOW);
            }
        }
    }
    prop_assert_eq!(&message, last, "the frame after the noise");
    Ok(())
}
