//! A recorded message, played again, must have no effect: not at once, not after the sender's
//! restart, not after the receiver's.
//!
//! Authentication proves who made a message, not when. Three rules prove the rest; all are here,
//! without I/O, clock or randomness (time and a secret are handed in):
//!
//! 1. **Within a session** (a life of the sender) only a larger sequence number is accepted. The
//!    same message over a second path is [`DropReason::Duplicate`], one that a newer message
//!    overtook is [`DropReason::Overtaken`]: both are what several paths look like. What is older
//!    than the [`Window`] is [`DropReason::Replayed`].
//! 2. **A session is trusted only after it has echoed our challenge**, a number that we draw by lot
//!    and put in all our messages. Nobody could have recorded that echo before we drew it, so a
//!    receiver that has just started and remembers nothing cannot be fooled with messages of last
//!    week. It costs one message there and one back.
//! 3. **A challenge is spent by the session that it proved.** Another session of the same node has
//!    to echo a later one, drawn when that other session was first heard. So once a node's new
//!    session is trusted, no message of an earlier one is accepted again, although some of them do
//!    hold echoes of our earlier challenges.
//!
//! # Clocks
//! A session number is the wall clock at the sender's start ([`session_at`]). Nothing here depends
//! on it being larger than the last one: a proof is a proof, and a node whose clock jumped back (no
//! battery, restored snapshot) is trusted after the same two messages. The order serves two smaller
//! ends: the larger of two unproven sessions is the one that is echoed, so that old messages played
//! in a flood do not keep a restarted node out, and the smaller one is counted as
//! [`DropReason::OldSession`]. Whoever gets the messages must therefore take a session that
//! *differs* for a new life, not only a larger one.
//!
//! # What remains
//! - Who can hold messages back on all paths can deliver them late, in order, as long as no newer
//!   one and no newer session has arrived. He can delay a take-over so, for as many messages as he
//!   held back, but cannot cause one.
//! - A path that works one way only does not prove a new session ([`DropReason::NotEchoed`] goes on
//!   and on). A session trusted before goes on being heard.
//! - Old messages played to a node make it echo one old challenge more; that proves nothing to
//!   anybody.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use lb_model::ids::NodeId;
use sha2::Sha256;

use super::reason::DropReason;
use super::wire::{Echo, Envelope};
pub(crate) use window::Window;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod window;

/// An unproven session that was not heard for this long is no longer echoed and gives way to any
/// other. Longer than any sensible heartbeat interval.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The number of a session that starts now: nanoseconds since 1970, 0 on a clock that is before it.
pub fn session_at(now: SystemTime) -> u64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Who we are, to ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub node: NodeId,
    pub session: u64,
}

/// Decides on messages whose signature was right.
#[derive(Debug)]
pub(crate) struct Guard {
    me: Identity,
    lot: ChallengeGenerator,
    /// Counts the challenges of this life.
    generation: u64,
    challenge: u64,
    peers: BTreeMap<NodeId, Peer>,
}

/// What is known of another node.
#[derive(Debug, Default)]
struct Peer {
    trusted: Option<Trusted>,
    /// Another session, heard but not proven.
    candidate: Option<Candidate>,
    /// The generation of our challenge that proved the trusted session.
    spent: Option<u64>,
}

#[derive(Debug)]
struct Trusted {
    session: u64,
    window: Window,
    /// Of its newest message.
    challenge: u64,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    session: u64,
    sequence: u64,
    challenge: u64,
    heard: Duration,
}

impl Guard {
    /// `secret` comes from the system's random numbers, anew at each start.
    pub(crate) fn new(me: Identity, others: impl IntoIterator<Item = NodeId>, secret: [u8; 32]) -> Self {
        let lot = ChallengeGenerator(secret);
        let others = others.into_iter().filter(|node| *node != me.node);
        let peers = others.map(|node| (node, Peer::default())).collect();
        Self { me, challenge: lot.draw(0), lot, generation: 0, peers }
    }

    /// Goes into our next message.
    pub(crate) fn challenge(&self) -> u64 {
        self.challenge
    }

    /// Go into our next message.
    pub(crate) fn echoes(&mut self, now: Duration) -> Vec<Echo> {
        let mut echoes = Vec::with_capacity(2 * self.peers.len());
        for (&node, peer) in &mut self.peers {
            peer.candidate.take_if(|candidate| candidate.is_stale(now));
            let challenges = [
                peer.trusted.as_ref().map(|trusted| trusted.challenge),
                peer.candidate.map(|candidate| candidate.challenge),
            ];
            echoes.extend(challenges.into_iter().flatten().map(|challenge| Echo { node, challenge }));
        }
        echoes
    }

    /// Whether the message may be handed on. Its signature must have been verified.
    pub(crate) fn check(&mut self, envelope: &Envelope, now: Duration) -> Result<(), DropReason> {
        let message = &envelope.heartbeat;
        if message.from == self.me.node {
            let mine = message.session == self.me.session;
            return Err(if mine { DropReason::FromMyself } else { DropReason::MyId });
        }
        let peer = self.peers.get_mut(&message.from).ok_or(DropReason::UnknownNode)?;
        match &mut peer.trusted {
            Some(trusted) if trusted.session == message.session => {
                trusted.window.accept(message.sequence)?;
                trusted.challenge = envelope.challenge;
                Ok(())
            }
            _ => self.prove(envelope, now),
        }
    }

    /// Trusts the message's session if it has echoed a challenge that its node has not spent.
    fn prove(&mut self, envelope: &Envelope, now: Duration) -> Result<(), DropReason> {
        let message = &envelope.heartbeat;
        let peer = self.peers.get_mut(&message.from).ok_or(DropReason::UnknownNode)?;
        let proof = Echo { node: self.me.node, challenge: self.challenge };
        let spent = peer.spent == Some(self.generation);
        if !spent && envelope.echoes.contains(&proof) {
            peer.trust(envelope, self.generation);
            return Ok(());
        }
        peer.consider(envelope, now);
        let older = peer.trusted.as_ref().is_some_and(|trusted| message.session < trusted.session);
        if spent {
            self.generation += 1;
            self.challenge = self.lot.draw(self.generation);
        }
        Err(if older { DropReason::OldSession } else { DropReason::NotEchoed })
    }
}

impl Peer {
    fn trust(&mut self, envelope: &Envelope, generation: u64) {
        let (session, challenge) = (envelope.heartbeat.session, envelope.challenge);
        let window = Window::starting_with(envelope.heartbeat.sequence);
        self.trusted = Some(Trusted { session, window, challenge });
        self.spent = Some(generation);
        self.candidate = None;
    }

    /// Takes the challenge down, so that it is echoed: of the largest session heard lately, its
    /// newest.
    fn consider(&mut self, envelope: &Envelope, now: Duration) {
        let (session, sequence) = (envelope.heartbeat.session, envelope.heartbeat.sequence);
        let better = match &self.candidate {
            None => true,
            Some(known) if known.session == session => sequence > known.sequence,
            Some(known) => session > known.session || known.is_stale(now),
        };
        if better {
            self.candidate = Some(Candidate { session, sequence, challenge: envelope.challenge, heard: now });
        }
    }
}

impl Candidate {
    fn is_stale(&self, now: Duration) -> bool {
        now.saturating_sub(self.heard) > PATIENCE
    }
}

/// Draws challenges that nobody can foresee and that do not come again in another life.
struct ChallengeGenerator([u8; 32]);

impl ChallengeGenerator {
    fn draw(&self, generation: u64) -> u64 {
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            unreachable!("an HMAC takes keys of any length")
        };
        let drawn: [u8; 32] = mac.chain_update(generation.to_be_bytes()).finalize().into_bytes().into();
        u64::from_be_bytes(std::array::from_fn(|index| drawn[index]))
    }
}

impl std::fmt::Debug for ChallengeGenerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChallengeGenerator")
    }
}
