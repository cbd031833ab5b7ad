//! Fuzzing: input from the network, from files and from sockets must neither cause a panic, in our
//! code or in a library, nor be accepted if it is wrong.
//!
//! A target is a property of arbitrary and of nearly right input. The file `fuzz.rs` of a crate
//! lists the crate's targets with [`targets!`]. The normal suite runs each with a fixed seed and a
//! small number of cases; `cargo xtask fuzz` runs the same properties with new seeds for a given
//! time. Each fault that it finds becomes a test beside the fixed code.

pub mod bytes;
pub mod script;
mod session;

use std::cell::Cell;
use std::fmt::Debug;
use std::panic;
use std::sync::Once;

pub use self::session::session;
use proptest::strategy::Strategy;
pub use proptest::test_runner::Config;
use proptest::test_runner::{RngSeed, TestCaseError, TestError, TestRunner};

/// The seed of the normal suite, as for other property tests in `.cargo/config.toml`.
const SEED: u64 = 20_001_201;

/// A fuzz target.
pub struct Target {
    pub name: &'static str,
    /// Number of cases per seed, as in the normal suite.
    pub cases: u32,
    /// The kind of input.
    pub about: &'static str,
    pub run: fn(Config) -> Result<(), Failed>,
}

/// A failed property.
#[derive(Debug)]
pub struct Failed {
    pub why: String,
    /// The smallest failing input.
    pub input: String,
}

/// Declares the targets of a crate: name, number of cases in the suite, kind of input, and
/// property. Generates a test for each, and the test `session` for `cargo xtask fuzz`.
#[macro_export]
macro_rules! targets {
    ($($name:ident $cases:literal $about:literal => $run:path;)*) => {
        const TARGETS: &[$crate::Target] = &[$($crate::Target {
            name: stringify!($name),
            cases: $cases,
            about: $about,
            run: $run,
        }),*];

        mod suite {
            $(#[test]
            fn $name() {
                $crate::in_suite(super::TARGETS, stringify!($name));
            })*

            #[test]
            #[ignore = "run by `cargo xtask fuzz`"]
            fn session() {
                $crate::session(super::TARGETS);
            }
        }
    };
}

impl Target {
    pub(crate) fn run(&self, seed: u64, cases: u32) -> Result<(), Failed> {
        // In milliseconds: shrinking a long input further is not worth the time.
        let max_shrink_time = 30_000;
        (self.run)(Config {
            cases,
            rng_seed: RngSeed::Fixed(seed),
            failure_persistence: None,
            max_shrink_time,
            ..Config::default()
        })
    }
}

/// Runs one target with the suite's seed and panics if it fails.
pub fn in_suite(targets: &[Target], name: &str) {
    let target = targets.iter().find(|target| target.name == name).expect("a target of the list");
    if let Err(failed) = target.run(SEED, target.cases) {
        panic!("{}", session::told(target, SEED, target.cases, &failed));
    }
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Counts the panics of each thread, because a runtime hides panics of its tasks.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
}

/// Tests that `property` holds for `inputs`, and that nothing panics on this thread.
pub fn hold<S: Strategy>(
    config: Config,
    inputs: S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> Result<(), Failed>
where
    S::Value: Debug,
{
    count_panics();
    let mut runner = TestRunner::new(config);
    let result = runner.run(&inputs, |input| {
        PANICS.set(0);
        property(input)?;
        match PANICS.get() {
            0 => Ok(()),
            _ => Err(TestCaseError::fail("a task has panicked")),
        }
    });
    result.map_err(|error| match error {
        TestError::Fail(why, input) => Failed { why: why.to_string(), input: format!("{input:?}") },
        TestError::Abort(why) => Failed { why: why.to_string(), input: "none".into() },
    })
}

#[cfg(test)]
mod tests;
