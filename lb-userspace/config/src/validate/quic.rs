//! QUIC-LB: how connection IDs are read, and the servers' IDs.

use std::collections::HashMap;

use lb_model::{Protocol, QuicEncoding, QuicKey, QuicServerIds, Service};
use lb_model::{
    QUIC_BLOCK as BLOCK, QUIC_MAX_NONCE as MAX_NONCE, QUIC_MAX_SERVER_ID as MAX_SERVER_ID,
    QUIC_MAX_SUM as MAX_SUM, QUIC_MIN_NONCE as MIN_NONCE, QUIC_ROTATIONS as ROTATIONS,
};

use super::{Unique, Validator, Value};
use crate::source_map::SourceSpan;
use crate::{values, yaml};

const KEY: &str = "32 hexadecimal digits, such as the servers have";

fn key(text: &str) -> Result<QuicKey, String> {
    let bytes = values::hex_bytes(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(QuicKey).ok_or_else(|| format!("expected {KEY}"))
}

/// A secret is not quoted in messages.
fn is_key(text: &str) -> bool {
    key(text).is_ok()
}

impl Validator {
    pub(super) fn quic(&mut self, service: &yaml::Service, span: SourceSpan<'_>) -> Vec<QuicEncoding> {
        let Some(encodings) = &service.quic_lb else { return Vec::new() };
        let span = span.key("quic_lb");
        if encodings.is_empty() {
            self.mistake(span.key_at(), "`quic_lb` is empty, expected a list of configurations");
        }
        let mut rotations = Unique::default();
        let mut read = Vec::new();
        for (index, given) in encodings.iter().enumerate() {
            let encoding = self.encoding(given, span.item(index));
            let rotation = Value::of(&given.rotation, "rotation", span.item(index));
            match rotations.insert(encoding.rotation, rotation.span()) {
                Ok(()) => read.push(encoding),
                Err(line) => {
                    self.wrong(rotation, &format!("already taken in line {line}, expected another one"));
                }
            }
        }
        read
    }

    fn encoding(&mut self, given: &yaml::QuicEncoding, span: SourceSpan<'_>) -> QuicEncoding {
        let yaml::QuicEncoding { rotation, server_id_length, nonce_length, key: secret } = given;
        let rotation = Value::of(rotation, "rotation", span);
        let rotation =
            self.optional(rotation, |text| values::whole(text, 0..=(ROTATIONS - 1).into())).unwrap_or(0);
        let length = Value::of(server_id_length, "server_id_length", span);
        let most = MAX_SERVER_ID as u8;
        let expected = format!("the length of the servers' IDs in bytes, 1 to {most}");
        let server_id_length =
            self.needed(length, &expected, |text| values::whole(text, 1..=most.into())).unwrap_or(1);
        let nonce = Value::of(nonce_length, "nonce_length", span);
        let expected = format!("the length of the nonce in bytes, {MIN_NONCE} to {MAX_NONCE}");
        let read =
            self.needed(nonce, &expected, |text| values::whole(text, MIN_NONCE.into()..=MAX_NONCE.into()));
        let secret = Value::of(secret, "key", span);
        let key = match secret.text {
            Some(text) if !is_key(text) => {
                self.mistake(secret.span().at(), format!("key: expected {KEY}"));
                None
            }
            Some(text) => key(text).ok(),
            None => None,
        };
        if let Some(length) = read {
            let sum = server_id_length + length;
            if secret.text.is_some() && sum != BLOCK {
                let wrong = format!(
                    "with a key, server ID and nonce are one block of {BLOCK} bytes (single-pass encryption, the only \
                     one that lb reads): expected {}",
                    BLOCK.saturating_sub(server_id_length)
                );
                self.wrong(nonce, &wrong);
            } else if sum > MAX_SUM {
                let wrong = format!("server ID and nonce have at most {MAX_SUM} bytes together, found {sum}");
                self.wrong(nonce, &wrong);
            }
        }
        QuicEncoding { rotation, server_id_length, nonce_length: read.unwrap_or(MIN_NONCE), key }
    }

    /// The server's ID in each configuration of its service.
    pub(super) fn quic_server_ids(
        &mut self,
        server: &yaml::Server,
        span: SourceSpan<'_>,
        encodings: &[QuicEncoding],
    ) -> QuicServerIds {
        let span = span.key("quic_server_ids");
        let mut ids = QuicServerIds::new();
        // That a service has no `quic_lb` is told once.
        let Some(yaml::ByRotation(given)) = server.quic_server_ids.as_ref().filter(|_| !encodings.is_empty())
        else {
            return ids;
        };
        for (rotation, id) in given {
            let at = span.key(rotation);
            let encoding = encodings.iter().find(|encoding| encoding.rotation.to_string() == *rotation);
            let Some(encoding) = encoding else {
                let message =
                    format!("`quic_lb` of this service has no configuration with `rotation: {rotation}`");
                self.mistake(at.key_at(), message);
                continue;
            };
            let text = id.text(|| at).unwrap_or_default();
            let length = usize::from(encoding.server_id_length);
            match values::hex_bytes(text).ok().filter(|bytes| bytes.len() == length) {
                Some(bytes) if !ids.contains_key(&encoding.rotation) => {
                    _ = ids.insert(encoding.rotation, bytes);
                }
                Some(_) => self.mistake(at.key_at(), format!("found `{rotation}` twice")),
                None => {
                    let wrong = format!(
                        "expected {} hexadecimal digits, for `server_id_length: {length}`",
                        length * 2
                    );
                    self.wrong_at(at.at(), "quic_server_ids", id.raw().unwrap_or_default(), &wrong);
                }
            }
        }
        ids
    }

    /// Every server has an ID of its own in every configuration.
    pub(super) fn quic_names_servers(
        &mut self,
        given: &[yaml::Service],
        services: &[Service],
        span: SourceSpan<'_>,
    ) {
        for (index, (given, service)) in given.iter().zip(services).enumerate() {
            let span = span.item(index);
            if given.quic_lb.is_none() {
                self.ids_are_of_no_use(given, span);
                continue;
            }
            let at = span.key("quic_lb").key_at();
            if service.key.protocol != Protocol::Udp {
                self.mistake(at, "QUIC runs over UDP, expected `protocol: udp`");
            }
            if service.ops {
                let message =
                    "found `ops` too, which sends the packets of one handshake to different servers";
                self.mistake(at, message);
            }
            self.each_has_an_id(given, service, span);
        }
    }

    fn ids_are_of_no_use(&mut self, given: &yaml::Service, span: SourceSpan<'_>) {
        for (number, server) in given.servers.iter().flatten().enumerate() {
            if server.quic_server_ids.is_some() {
                let at = span.key("servers").item(number).key("quic_server_ids").key_at();
                self.mistake(at, "`quic_server_ids` belongs to `quic_lb`, which this service does not have");
            }
        }
    }

    fn each_has_an_id(&mut self, given: &yaml::Service, service: &Service, span: SourceSpan<'_>) {
        let mut known = HashMap::new();
        let servers = given.servers.iter().flatten().zip(&service.servers).enumerate();
        for (number, (given, server)) in servers {
            let span = span.key("servers").item(number);
            for QuicEncoding { rotation, .. } in &service.quic {
                let Some(id) = server.quic_ids.get(rotation) else {
                    let wrongly_given = given.quic_server_ids.as_ref();
                    let is_given = |(given, _): &(String, yaml::Scalar)| *given == rotation.to_string();
                    if !wrongly_given.is_some_and(|yaml::ByRotation(ids)| ids.iter().any(is_given)) {
                        let message = format!(
                            "server {} has no ID in configuration {rotation} of `quic_lb`, expected \
                             `quic_server_ids: {{ {rotation}: … }}`",
                            server.name
                        );
                        self.mistake(span.key("quic_server_ids").key_at(), message);
                    }
                    continue;
                };
                if let Some(other) = known.insert((*rotation, id), &server.name) {
                    let message = format!("server {other} has the same ID in configuration {rotation}");
                    self.mistake(span.key("quic_server_ids").key(&rotation.to_string()).at(), message);
                }
            }
        }
    }
}
