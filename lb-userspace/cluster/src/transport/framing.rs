//! Messages in a stream of bytes that may be mangled anywhere.
//!
//! Consistent overhead byte stuffing (Cheshire and Baker, 1997) removes all zeros from a message
//! for one byte in 254; a zero then ends it, wherever a receiver starts to listen. A zero before it
//! as well cuts off whatever noise stood on the line. Nothing more is needed: a message knows its
//! length, and its HMAC is the best checksum there is.

use crate::wire::MAX_LENGTH;

#[cfg(test)]
mod tests;

/// A message of the greatest length, stuffed.
const MAX_STUFFED: usize = cobs::max_encoding_length(MAX_LENGTH);

/// The bytes that stand for `message` on the line.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; cobs::max_encoding_length(message.len()) + 2];
    let length = cobs::encode_including_sentinels(message, &mut frame);
    frame.truncate(length);
    frame
}

/// What a zero ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Message,
    /// Something that cannot be a message.
    Noise,
}

/// Collects bytes to messages.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    collected: Vec<u8>,
    /// More came than any message has: noise up to the next zero.
    overflown: bool,
}

impl Collector {
    /// Takes the next byte. A message that it ends replaces `message`'s content.
    pub(crate) fn take(&mut self, byte: u8, message: &mut Vec<u8>) -> Option<Found> {
        if byte != 0 {
            self.overflown |= self.collected.len() >= MAX_STUFFED;
            if !self.overflown {
                self.collected.push(byte);
            }
            return None;
        }
        let overflown = std::mem::take(&mut self.overflown);
        let found = match self.collected.is_empty() {
            true => None,
            false if overflown => Some(Found::Noise),
            false => Some(unstuff(&self.collected, message)),
        };
        self.collected.clear();
        found
    }
}

fn unstuff(stuffed: &[u8], message: &mut Vec<u8>) -> Found {
    message.clear();
    message.resize(stuffed.len(), 0);
    match cobs::decode(stuffed, message) {
        Ok(report) => {
            message.truncate(report.frame_size());
            Found::Message
        }
        Err(_) => Found::Noise,
    }
}
