//! Two or more directors: who is active, and how the others know.
//!
//! - [`message`]: what nodes tell each other
//! - [`takeover`]: the VIPs on the interface, and the news of them on the segment

pub mod message;
pub mod takeover;
