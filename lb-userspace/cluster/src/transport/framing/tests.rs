//! Whatever the line does to the stream, untouched frames come out.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// The messages among what the bytes contain, and how often noise was found.
fn collect(bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let (mut collector, mut message) = (Collector::default(), Vec::new());
    let (mut messages, mut noise) = (Vec::new(), 0);
    for &byte in bytes {
        match collector.take(byte, &mut message) {
            Some(Found::Message) => messages.push(message.clone()),
            Some(Found::Noise) => noise += 1,
            None => {}
        }
    }
    (messages, noise)
}

#[test]
fn a_message_of_the_greatest_length_costs_seven_bytes() {
    let message = vec![7; MAX_LENGTH];
    assert_eq!(frame(&message).len(), MAX_LENGTH + 7);
    assert_eq!(collect(&frame(&message)), (vec![message], 0));
}

#[test]
fn endless_noise_takes_no_memory_and_ends_with_a_zero() {
    let mut bytes = vec![0x55; 100_000];
    bytes.extend(frame(b"message"));
    assert_eq!(collect(&bytes), (vec![b"message".to_vec()], 1));
    let mut collector = Collector::default();
    for _ in 0..100_000 {
        collector.take(0x55, &mut Vec::new());
    }
    assert!(collector.collected.len() <= MAX_STUFFED);
}

#[test]
fn halves_are_lost_and_nothing_else() {
    let [first, second] = [frame(b"the first"), frame(b"the second")];
    let half: Vec<u8> = [&first[5..], &second[..4], &first].concat();
    assert_eq!(collect(&half).0.last().unwrap(), b"the first");
}

proptest! {
    #[test]
    fn there_and_back(messages in vec(vec(any::<u8>(), 1..MAX_LENGTH), 0..10)) {
        let line: Vec<u8> = messages.iter().flat_map(|message| frame(message)).collect();
        prop_assert_eq!(collect(&line), (messages, 0));
    }

    #[test]
    fn a_frame_after_any_noise_is_found(noise in vec(any::<u8>(), 0..2_000), message in vec(any::<u8>(), 1..MAX_LENGTH)) {
        let line = [noise, frame(&message)].concat();
        let (messages, _) = collect(&line);
        prop_assert_eq!(messages.last(), Some(&message));
    }
}
