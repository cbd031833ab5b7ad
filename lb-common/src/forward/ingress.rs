//! Interfaces that clients' packets come in by, besides the main one, or what servers send that are
//! reached by address translation.
//!
//! A packet that comes in by one of them is treated as if it had come in by the main interface: a
//! program at its beginning puts the main interface's MAC in place of this one's, and whoever ends
//! its way sends it out of the main interface in place of this one, or puts the MAC back. So no
//! other step knows how many interfaces there are.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::mac::Mac;

/// Entry of the map `INGRESSES`, by the interface's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ingress {
    /// The interface's own.
    pub mac: Mac,
    /// Where its AF_XDP sockets stand in the map `XSKS`: that of queue 0.
    pub sockets: u64,
}

/// How many of them there may be.
pub const MOST: u32 = 15;
