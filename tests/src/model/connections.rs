//! What is remembered of connections, and how a packet moves them on.

use std::collections::HashMap;

use lb_common::addr::V6;
use lb_common::server::ServerId;
use lb_common::table::connection::tcp_flags::DATA;
use lb_common::table::connection::{Entry, Generation, State, Tick};
use lb_model::Protocol;

use super::setting::Setting;
use super::walk::Seen;
use crate::harness::{ACK, FIN, RST, SYN};

/// Whose packets they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub client: V6,
    pub client_port: u16,
    /// One of the service's.
    pub port: u16,
    pub service: usize,
}

impl Key {
    pub(super) fn of(seen: &Seen, service: usize) -> Self {
        Self { client: seen.client, client_port: seen.client_port, port: seen.port, service }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connection {
    pub server: usize,
    pub state: State,
    pub generation: Generation,
}

/// There is always room: whoever asks takes care of that.
pub struct Connections {
    of: HashMap<Key, Connection>,
    /// By service and server: active and inactive ones.
    counts: Vec<Vec<[u32; 2]>>,
}

impl Connections {
    pub(super) fn new(setting: &Setting) -> Self {
        let counts = setting.services.iter().map(|service| vec![[0; 2]; service.servers.len()]).collect();
        Self { of: HashMap::new(), counts }
    }

    pub fn len(&self) -> usize {
        self.of.len()
    }

    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Active and inactive ones of a server.
    pub fn counts(&self, service: usize, server: usize) -> [u32; 2] {
        self.counts[service][server]
    }

    pub(super) fn get(&self, key: &Key) -> Option<Connection> {
        self.of.get(key).copied()
    }

    /// `None`: it is forgotten.
    pub(super) fn set(&mut self, key: Key, to: Option<Connection>) {
        let before = match to {
            Some(connection) => self.of.insert(key, connection),
            None => self.of.remove(&key),
        };
        if let Some(before) = before {
            self.counts[key.service][before.server][usize::from(!before.state.is_active())] -= 1;
        }
        if let Some(after) = to {
            self.counts[key.service][after.server][usize::from(!after.state.is_active())] += 1;
        }
    }
}

impl Connection {
    /// As the rules of leases take it.
    pub(super) fn entry(&self) -> Entry {
        Entry::new(ServerId(self.server as u16 + 1), self.state, Tick(0), self.generation)
    }

    /// Its state after a packet of its server's with these flags.
    pub(super) fn answered(&self, flags: u8) -> State {
        let (ends, acknowledges) = (flags & FIN != 0, flags & ACK != 0);
        match self.state {
            state @ (State::UdpNew | State::UdpUnproven | State::Udp) => state,
            state @ (State::Closed | State::TimeWait) => state,
            _ if flags & RST != 0 => State::Closed,
            // Of its own accord a server sends none.
            state if flags & SYN != 0 => state,
            State::FinWait | State::FinUnproven if ends => State::TimeWait,
            State::SynRecv | State::Unproven | State::Established if ends => State::CloseWait,
            // Whoever answers the handshake wrongly gets a reset.
            State::SynRecv | State::Unproven if acknowledges => State::Established,
            state => state,
        }
    }

    /// Its state after a packet with these flags; `None`: the packet opens another connection with
    /// the same addresses.
    pub(super) fn after(&self, flags: u8) -> Option<State> {
        let opens = flags & (SYN | ACK) == SYN;
        Some(match self.state {
            State::UdpNew => State::UdpUnproven,
            State::UdpUnproven | State::Udp => State::Udp,
            _ if flags & RST != 0 => State::Closed,
            state if opens && state.ends() => return None,
            State::CloseWait if flags & FIN != 0 => State::TimeWait,
            state if state.ends() => state,
            state if opens => state,
            State::Established if flags & FIN != 0 => State::FinWait,
            State::Unproven if flags & FIN != 0 && flags & DATA != 0 => State::FinWait,
            _ if flags & FIN != 0 => State::FinUnproven,
            State::SynRecv if flags & ACK != 0 => State::Unproven,
            State::Unproven if flags & ACK != 0 && flags & DATA != 0 => State::Established,
            state => state,
        })
    }
}

trait Ending {
    /// One half has ended, or both.
    fn ends(self) -> bool;
}

impl Ending for State {
    fn ends(self) -> bool {
        matches!(self, Self::FinWait | Self::FinUnproven | Self::CloseWait | Self::TimeWait | Self::Closed)
    }
}

/// State of a connection that begins with this packet; `None`: it begins none.
pub(super) fn first(protocol: Protocol, flags: u8) -> Option<State> {
    match protocol {
        Protocol::Udp => Some(State::UdpNew),
        Protocol::Tcp => (flags & (SYN | ACK) == SYN).then_some(State::SynRecv),
    }
}

/// State of a connection that another server takes over with this packet, which opens none.
pub(super) fn in_midst(flags: u8) -> State {
    let half_open = Connection { server: 0, state: State::SynRecv, generation: Generation::from_number(0) };
    match half_open.after(flags) {
        None | Some(State::SynRecv) => State::Unproven,
        Some(next) => next,
    }
}
