//! Two or more directors: who is active, and how the others know.
//!
//! - [`message`]: what nodes tell each other
//! - [`machine`]: who is active; decides and nothing else

pub mod machine;
pub mod message;
