//! Between the machine's heartbeats and the bytes on the paths: signs and verifies, encodes and
//! decodes, and lets no recording through. Pure, like its parts.
//!
//! A message is judged from cheap to dear, and nothing in it is believed before its signature is
//! verified.

use std::time::Duration;

use lb_model::ids::NodeId;

use super::auth::{ClusterId, KeyId, Keys, Refused};
use super::message::Heartbeat;
use super::reason::DropReason;
use super::replay::{Guard, Identity};
use super::wire::{self, DecodeError, EncodeError, Envelope, Header};

#[cfg(test)]
pub(crate) mod tests;

/// One node's end of the cluster's conversation.
#[derive(Debug)]
pub(crate) struct Channel {
    cluster: ClusterId,
    keys: Keys,
    guard: Guard,
}

/// A message that is not handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub reason: DropReason,
    /// Who made it, if its signature was right.
    pub signed_by: Option<NodeId>,
    /// Who it says to be from, if its signature does not fit: nothing to act upon, but something to
    /// tell.
    pub claims_to_be: Option<NodeId>,
}

impl Dropped {
    /// Whose path it shows to work: what came twice or was overtaken did come.
    pub(crate) fn heard_from(&self) -> Option<NodeId> {
        match self.reason {
            DropReason::Duplicate | DropReason::Overtaken => self.signed_by,
            _ => None,
        }
    }
}

impl From<DropReason> for Dropped {
    fn from(reason: DropReason) -> Self {
        Self { reason, signed_by: None, claims_to_be: None }
    }
}

impl Channel {
    /// `secret` is random, anew at each start; `me.session` is what all our heartbeats will carry.
    pub(crate) fn new(
        cluster: ClusterId,
        me: Identity,
        others: impl IntoIterator<Item = NodeId>,
        keys: Keys,
        secret: [u8; 32],
    ) -> Self {
        Self { cluster, keys, guard: Guard::new(me, others, secret) }
    }

    /// From now on these keys; what is known of the other nodes stays.
    pub(crate) fn set_keys(&mut self, keys: Keys) {
        self.keys = keys;
    }

    /// The bytes of our next message; to be sent over every path, once.
    pub(crate) fn seal(&mut self, heartbeat: Heartbeat, now: Duration) -> Result<Vec<u8>, EncodeError> {
        let header = Header { key: self.keys.sign_with().0, cluster: self.cluster.0 };
        let (challenge, echoes) = (self.guard.challenge(), self.guard.echoes(now));
        let mut bytes = wire::encode(header, &Envelope { heartbeat, challenge, echoes })?;
        let tag = self.keys.sign(&bytes);
        bytes.extend(tag);
        Ok(bytes)
    }

    /// The heartbeat in what a path received, if it may be believed.
    pub(crate) fn open(&mut self, bytes: &[u8], now: Duration) -> Result<Heartbeat, Dropped> {
        let parts = wire::split(bytes).map_err(reason_of)?;
        if parts.header.cluster != self.cluster.0 {
            return Err(DropReason::ForeignCluster.into());
        }
        self.keys.verify(KeyId(parts.header.key), parts.signed, parts.tag).map_err(|refused| {
            let reason = match refused {
                Refused::UnknownKey => DropReason::UnknownKey,
                Refused::BadMac => DropReason::BadMac,
            };
            Dropped { reason, signed_by: None, claims_to_be: wire::claimed_sender(&parts) }
        })?;
        let envelope = wire::decode(parts).map_err(|_| DropReason::Malformed)?;
        let signed_by = Some(envelope.heartbeat.from);
        match self.guard.check(&envelope, now) {
            Ok(()) => Ok(envelope.heartbeat),
            Err(reason) => Err(Dropped { reason, signed_by, claims_to_be: None }),
        }
    }
}

fn reason_of(error: DecodeError) -> DropReason {
    match error {
        DecodeError::Truncated => DropReason::Truncated,
        DecodeError::TooLong => DropReason::TooLong,
        DecodeError::NotHeartbeat => DropReason::NotHeartbeat,
        DecodeError::BadVersion(_) => DropReason::BadVersion,
        DecodeError::Trailing(_)
        | DecodeError::OutOfRange { .. }
        | DecodeError::ReservedBits { .. }
        | DecodeError::GroupsUnordered
        | DecodeError::BadOrder => DropReason::Malformed,
    }
}
