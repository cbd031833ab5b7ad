//! The talk's scenarios. Each is one function that plays, tells and checks: the demo prints what it tells, the tests do
//! not listen.

pub mod alone;
pub mod kept_open;
pub mod one;
pub mod open_loop;
pub mod several;
pub mod steady;
pub mod traffic;
pub mod two;

/// Receives one sentence per thing that happened.
pub type Tell<'a> = &'a mut dyn FnMut(&str);
