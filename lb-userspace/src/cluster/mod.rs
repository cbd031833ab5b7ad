//! Two or more directors: who is active, and how the others know.
//!
//! - [`message`]: what nodes tell each other

pub mod message;
