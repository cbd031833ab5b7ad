//! Two or more directors: who is active, and how the others know.
//!
//! - [`message`]: what nodes tell each other
//! - [`standing`]: orders of operators that hold on all nodes
//! - [`takeover`]: the VIPs on the interface, and the news of them on the segment
//! - [`wire`]: the message as bytes
//! - [`auth`]: the keys that messages are signed with
//! - [`replay`]: recorded messages have no effect, across restarts too
//! - [`channel`]: the three together, between the machine and the transports
//! - [`reason`]: why a received message was dropped
//! - [`transport`]: the paths (UDP, serial line) and the thread that serves them
//! - [`realtime`]: that thread is not kept waiting
//! - [`words`]: what happened, for people and programs
//! - [`references`]: how many reference hosts are reached
//! - [`hooks`]: commands that are run when a role has changed, and fencing
//! - [`machine`]: who is active; decides and nothing else
//! - [`member`]: all of these together, as the controller sees them

pub mod auth;
mod channel;
#[cfg(test)]
mod fuzz;
pub mod hooks;
pub mod machine;
pub mod member;
pub mod message;
mod realtime;
pub mod reason;
pub mod references;
mod replay;
pub mod standing;
pub mod takeover;
pub mod transport;
mod wire;
pub mod words;

pub use self::replay::session_at;
