//! What strangers send, made up: whatever comes from the network, a file or a socket must neither panic, in our code or in
//! a library's, nor be believed.
//!
//! Each target is a property of arbitrary and of nearly right input, beside the code that it tries: the file `fuzz.rs` of a
//! crate lists the crate's targets with [`targets!`]. The normal suite runs each with a fixed seed and a modest number of
//! cases; `cargo xtask fuzz` runs the same properties with new seeds for as long as it is told to. What it finds becomes a
//! case of its own beside the code that was mended.

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

/// The seed of the normal suite, the same that `.cargo/config.toml` gives to other property tests.
const SEED: u64 = 20_001_201;

/// One kind of input.
pub struct Target {
    pub name: &'static str,
    /// Cases with one seed: as many as the normal suite runs.
    pub cases: u32,
    /// What is made up.
    pub about: &'static str,
    pub run: fn(Config) -> Result<(), Failed>,
}

/// A property that does not hold.
#[derive(Debug)]
pub struct Failed {
    pub why: String,
    /// The smallest input that was found to break it.
    pub input: String,
}

/// The targets of a crate: for each a name, the cases of one run of the suite, what is made up, and the property. Makes
/// a test of each, and the test `session`, by which `cargo xtask fuzz` runs them.
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
        // In milliseconds: shrinking a long input further than that helps nobody.
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

/// Counts the panics of each thread: one inside a task is otherwise seen by nobody.
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

/// Tries whether `property` holds for `inputs`, and that nothing panics on this thread meanwhile.
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
