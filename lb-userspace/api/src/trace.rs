//! What was decided for single packets: the request for a trace, and what it tells.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which packets are traced; all conditions hold. The director resolves the names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// An address, or one with a prefix length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// A VIP, `VIP:PORT` or the name of a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Name or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// `tcp` or `udp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Only packets that no server got.
    #[serde(default)]
    pub refused: bool,
    /// Only packets with one of these reasons, unless there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// How much is traced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// The trace ends after so many packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The trace ends after so many seconds.
    #[serde(default = "default_seconds")]
    pub seconds: u64,
    /// One of so many packets.
    #[serde(default = "one")]
    pub sample: u32,
    /// Packets come as frames, of each so many bytes: a capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snaplen: Option<u32>,
}

/// Default of [`Bounds::seconds`].
pub const SECONDS: u64 = 60;

const fn default_seconds() -> u64 {
    SECONDS
}

const fn one() -> u32 {
    1
}

impl Default for Bounds {
    fn default() -> Self {
        Self { count: None, seconds: SECONDS, sample: 1, snaplen: None }
    }
}

/// What was decided for one packet. What its headers do not tell is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Packet {
    /// UTC, RFC 3339 with microseconds.
    pub time: String,
    /// `tcp`, `udp`, or the IP header's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// TCP flags by their first letters: `S`, `SA`, `PA`, `FA`, `R`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_port: Option<u16>,
    /// Where it was sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Bytes of the IP packet.
    pub length: u16,
    /// Name of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// Name of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// How packets get to the server: `direct`, `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<String>,
    pub outcome: Outcome,
    /// The label of the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reason in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// How a packet's server was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Its connection is in the table.
    Known,
    /// The scheduler has picked.
    New,
    /// A packet in mid-connection that no entry knows, by the hash of the client.
    StrayByHash,
    /// A new connection that found no room in the table, by the hash of the client.
    FullByHash,
    /// It comes from its server, which is reached by address translation, and goes to the client.
    Answer,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// To the server.
    Forwarded,
    /// To the other director of a take-over.
    Relayed,
    /// To a check of the director's own.
    Redirected,
    /// To the host, which is the server.
    Delivered,
    /// To the host.
    #[default]
    Passed,
    Dropped,
    /// The controller has it, and sends it in its turn.
    Held,
    /// The sender got an answer in its place.
    Answered,
}

/// A packet's frame, as it came in or as it went out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    pub direction: Direction,
    /// Nanoseconds since 1970, UTC.
    pub time_ns: u64,
    /// Bytes of the frame.
    pub length: u32,
    /// So many of them as were asked for, two hexadecimal digits each.
    pub bytes: String,
    /// What was decided for the packet.
    pub packet: Packet,
}

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    In,
    Out,
}

impl Frame {
    /// `bytes` in digits.
    pub fn digits(bytes: &[u8]) -> String {
        const DIGITS: [char; 16] =
            ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        bytes.iter().flat_map(digits).collect()
    }

    /// Its bytes; `None`: those are no such digits.
    pub fn content(&self) -> Option<Vec<u8>> {
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let pairs = self.bytes.as_bytes().chunks(2);
        pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
    }
}

/// How a trace has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Packets that were told.
    pub told: u64,
    /// Packets that were asked for.
    pub matched: u64,
    /// Packets that could not be told because there was no room.
    pub lost: u64,
    /// Why it has ended, if that was neither asked for nor agreed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_their_digits() {
        let bytes: Vec<u8> = (0..=255).collect();
        let frame = |bytes: String| Frame {
            direction: Direction::In,
            time_ns: 0,
            length: 0,
            bytes,
            packet: Packet::default(),
        };
        assert_eq!(frame(Frame::digits(&bytes)).content(), Some(bytes));
        assert_eq!(frame("0".to_owned()).content(), None);
        assert_eq!(frame("0g".to_owned()).content(), None);
    }
}
