//! Connection synchronisation: what the active director knows of connections, the others know
//! within milliseconds, so that a take-over breaks none.
//!
//! - [`backend`]: a server of a service, by a name that means the same to all directors
//! - [`directory`]: which number each has in this director's maps
//! - [`table`]: what is needed of the connection table
//! - `mirror`: what was last seen of each slot; what differs from it is told
//! - `digest`: one number for a part of the table; parts whose numbers differ are told again
//! - `message`: what directors tell each other; `wire`: a datagram of it, signed
//! - `link`: the conversation with one other director: fresh, in order, nothing lost
//! - `peer`: what that director has been told, and what is to come
//! - [`engine`]: all of it, without I/O
//! - [`service`]: the thread and its sockets
//! - `allowance`: how many bytes may be sent now
//! - [`status`]: how it stands
//! - `simulation`: directors in simulated time, for tests and for `cargo xtask simulate`; not in
//!   the product
//!
//! # Rules
//! - The director that balances a group tells about its connections; all others take what they are
//!   told. Who balances is for the leases to say, not for this crate.
//! - Of a group that several directors balance at once each connection has an owner (`mirror`): the
//!   director whose program changed it last. The owner tells of it, and it alone can say that it is
//!   gone. What the owner of an earlier life spoke for, and what is known by hearsay, is nobody's,
//!   and what a silent one speaks for is treated so: it stays until its time is up, or until a
//!   packet makes it somebody's again. If two know different things, what has come of the last
//!   packet counts, and whoever knows less is told so at once (`engine::last_use` has the rules).
//! - Nothing is queued for each change: a page of the table that has changed is looked at, and what
//!   differs from the mirror is told. A slow peer is told later and less, and memory does not grow.
//! - A connection is told once it is established, so a flood of first packets costs nothing here.
//!   Of one whose client has answered the handshake and sent no data (its server may speak first)
//!   the others are told after all else, and of not more than so many a second; they take it where
//!   a slot is free. Digests do not have it.
//! - Where an own address and port stand in the client's place, they are told with the connection
//!   and entered with it. Each is one connection's, and the director that balances the group says
//!   whose: who has it here otherwise is removed, unless it is balanced here. Directors of earlier
//!   versions are told nothing of such connections, and what they do not tell of them is not taken
//!   for gone.
//! - What got lost all the same (a table that was full, a change while a peer was away) is found by
//!   comparing digests, and told again.

mod allowance;
pub mod backend;
mod digest;
pub mod directory;
pub mod engine;
#[cfg(test)]
mod fuzz;
mod link;
mod message;
mod mirror;
mod peer;
pub mod service;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
pub mod status;
pub mod table;
mod wire;
