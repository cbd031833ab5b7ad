//! What the program must make of a packet, stated on the host: nothing here knows how the program
//! is built, and of `lb_common` only what is a rule by itself is used (the parser, the lease's
//! rules, who has sent a packet, hashes).
//!
//! - [`setting`]: services, leases, MACs; [`walk`]: the way of a packet; [`related`]: packets that
//!   belong to another one
//! - [`connections`]: what is remembered; [`pick`]: the schedulers; [`bindings`]: persistence;
//!   [`clients`]: whom services take
//! - [`bytes`]: what becomes of a packet's bytes; [`egress`]: of its tags; [`nat`]: address
//!   translation, [`rewrite`] its bytes; [`quic`]: the servers that connection IDs name
//!
//! Two things are drawn by lot: the server that twos takes, and the port of `source_nat`. Of those
//! the model is told what went out, and takes no other one than its rules allow.

mod bindings;
mod bytes;
mod clients;
mod connections;
mod egress;
mod nat;
mod pick;
mod quic;
mod related;
mod rewrite;
mod setting;
mod walk;

use lb_common::mac::Mac;
use lb_common::reason::{Reason, TableEvent};

pub use self::bytes::sum;
pub use self::connections::Connections;
pub use self::setting::Setting;

use crate::harness::Verdict;

/// What is predicted of one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    pub verdict: Verdict,
    /// Of a packet that is sent or passed.
    pub frame: Vec<u8>,
    pub refused: Option<Reason>,
    /// It is an ICMP error, of which there are so many a second at most.
    pub limited: bool,
}

/// A director on paper.
pub struct Model {
    pub setting: Setting,
    pub connections: Connections,
    trails: related::Trails,
    bindings: bindings::Bindings,
    taken: clients::Taken,
    pub counted: Counted,
    /// Datagrams of known connections whose checksum was left to hardware: it is open whether the
    /// program notices, which looks at packets that open connections.
    pub unnoticed: u64,
    limited: bool,
    sources: nat::Sources,
    /// What went out in place of the packet that is looked at.
    told: Option<Vec<u8>>,
    /// The sender of that one.
    came_from: Mac,
}

/// All totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub reasons: Vec<u64>,
    pub events: Vec<u64>,
    /// By service and server: connections, packets, bytes.
    pub servers: Vec<Vec<[u64; 3]>>,
}

impl Model {
    pub fn new(setting: Setting) -> Self {
        let servers = setting.services.iter().map(|service| vec![[0; 3]; service.servers.len()]).collect();
        Self {
            connections: Connections::new(&setting),
            setting,
            trails: related::Trails::default(),
            bindings: bindings::Bindings::default(),
            taken: clients::Taken::default(),
            counted: Counted { reasons: vec![0; Reason::COUNT], events: vec![0; TableEvent::COUNT], servers },
            unnoticed: 0,
            limited: false,
            sources: nat::Sources::default(),
            told: None,
            came_from: Mac::NONE,
        }
    }

    /// `now_ns`: of CLOCK_MONOTONIC. `told`: what went out.
    pub fn packet(&mut self, came: &[u8], now_ns: u64, told: Option<&[u8]>) -> Prediction {
        self.told = told.map(<[u8]>::to_vec);
        self.came_from = walk::mac(came, 6);
        let mut frame = came.to_vec();
        self.limited = false;
        let result = self.walk(&mut frame, now_ns);
        let (verdict, refused) = match result {
            Ok(walk::Way::Sent) => (Verdict::Tx, None),
            Ok(walk::Way::Passed) => (Verdict::Pass, None),
            Ok(walk::Way::Delivered(reason)) => (Verdict::Pass, Some(reason)),
            Err(reason) => (Verdict::of(reason), Some(reason)),
        };
        if let Some(reason) = refused {
            self.counted.reasons[reason as usize] += 1;
        }
        Prediction { verdict, frame, refused, limited: self.limited }
    }

    fn event(&mut self, event: TableEvent) {
        self.counted.events[event as usize] += 1;
    }
}
