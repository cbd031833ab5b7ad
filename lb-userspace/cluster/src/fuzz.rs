//! Heartbeats, by datagram and by serial line, and the keys that they are signed with.

use std::fs;
use std::time::Duration;

use lb_fuzz::{Failed, bytes, hold, targets};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestCaseError};

use crate::auth::file;
use crate::channel::tests::{channel, heartbeat, resigned};
use crate::transport::framing::{Collector, Found, frame};
use crate::wire::{self, MAX_LENGTH};

targets! {
    heartbeats 400 "heartbeats, with and without the cluster's key" => run;
    serial 400 "the bytes of a serial line, in pieces" => run_serial;
    keys 400 "files of keys for heartbeats" => run_keys;
}

const NOW: Duration = Duration::ZERO;
const SAMPLES: u64 = 4;

/// A message of node 0, as it comes to node 1.
fn sealed(sequence: u64) -> Vec<u8> {
    channel(0).seal(heartbeat(0, sequence), NOW).expect("a message within the limits")
}

pub(crate) fn run(config: Config) -> Result<(), Failed> {
    let message = (bytes::nearly((0..SAMPLES).map(sealed).collect()), any::<bool>());
    hold(config, vec(message, 1..20), property)
}

/// `true` for a message that has its signature put right: its sender has the key and has lost its
/// mind.
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
        // A conversation begins in spite of all that; the second message proves that its sender has
        // heard us.
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

pub(crate) fn run_serial(config: Config) -> Result<(), Failed> {
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

const SECRET: &str = "5b1f0e7a5b1f0e7a5b1f0e7a5b1f0e7a";

pub(crate) fn run_keys(config: Config) -> Result<(), Failed> {
    let good = format!("# the keys\n1 {SECRET}\n2 another-key-of-words\nsign 2\n");
    let of_old = "auth 1\n1 sha1 HI!\n";
    hold(config, bytes::nearly(vec![good.into_bytes(), of_old.into()]), |bytes| {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), &bytes).expect("a writable file");
        let told = match file::read(file.path()) {
            Ok(keys) => format!("{keys:?}"),
            Err(error) => error.to_string(),
        };
        prop_assert!(!told.is_empty());
        prop_assert!(!told.contains(&SECRET[..12]), "it shows a key: {told}");
        Ok(())
    })
}
