//! The talk's scenarios. Each is a function that acts, asserts and narrates: the demo prints the
//! narration, the tests ignore it.

pub mod alone;
pub mod anycast;
pub mod download;
pub mod floods;
pub mod kept_open;
pub mod methods;
pub mod newcomers;
pub mod one;
pub mod open_loop;
pub mod reloads;
pub mod several;
pub mod steady;
pub mod traffic;
pub mod two;

/// Receives one sentence per event.
pub type Tell<'a> = &'a mut dyn FnMut(&str);
