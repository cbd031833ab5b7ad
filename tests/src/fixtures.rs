//! Packets in and out as data: `tests/fixtures/packets` has the cases and says how they are
//! written.
//!
//! - [`layers`]: bytes of a packet's description, [`describe`]: a description of bytes
//! - [`bed`]: the services and servers that cases name
//! - [`case`]: the files; [`counters`]: what moves
//! - [`replay`]: the cases through the real program; [`check`]: the same through the model

pub mod bed;
pub mod case;
pub mod check;
pub mod counters;
pub mod describe;
pub mod layers;
mod names;
pub mod replay;
