//! What strangers send, made up: whatever comes from the network, a file or a socket must neither panic, in our code or in
//! a library's, nor be believed.
//!
//! Each target is a property of arbitrary and of nearly right input. [`TARGETS`] is the only list of them. The normal
//! suite runs each with a fixed seed and a modest number of cases; `cargo xtask fuzz` runs the same properties with new
//! seeds for as long as it is told to. What it finds becomes a case of its own beside the code that was mended.

pub mod bytes;
mod config;
mod dns;
mod frames;
mod heartbeats;
mod probes;
mod script;
mod servers;
mod session;
mod tls;
mod vip;

use std::cell::Cell;
use std::fmt::Debug;
use std::panic;
use std::sync::Once;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

/// The seed of the normal suite, the same that `.cargo/config.toml` gives to other property tests.
const SEED: u64 = 20_001_201;

/// One kind of input.
pub struct Target {
    pub name: &'static str,
    /// Cases with one seed: as many as the normal suite runs.
    pub cases: u32,
    /// What is made up.
    pub about: &'static str,
    run: fn(Config) -> Result<(), Failed>,
}

/// A property that does not hold.
#[derive(Debug)]
pub struct Failed {
    pub why: String,
    /// The smallest input that was found to break it.
    pub input: String,
}

macro_rules! targets {
    ($($name:ident $cases:literal $about:literal => $run:path;)*) => {
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), cases: $cases, about: $about, run: $run }),*];

        mod suite {
            $(#[test]
            fn $name() {
                super::in_suite(stringify!($name));
            })*
        }
    };
}

targets! {
    frames 2000 "Ethernet frames, as the XDP program, the conflict watch and pings read them" => frames::run;
    vip 150 "answers to probes through a VIP: the TCP/IP of AF_XDP sockets" => vip::run;
    heartbeats 400 "heartbeats, with and without the cluster's key" => heartbeats::run;
    serial 400 "the bytes of a serial line, in pieces" => heartbeats::run_serial;
    config 400 "configuration files" => config::run;
    keys 400 "files of keys for heartbeats" => config::run_keys;
    control 60 "requests to the control socket" => servers::run_control;
    metrics 60 "requests to the HTTP endpoint" => servers::run_metrics;
    sorry 60 "requests to the sorry page" => servers::run_sorry;
    agent 60 "answers to agent checks" => probes::run_agent;
    dns 60 "answers to dns checks, over UDP and TCP" => dns::run;
    external 20 "output of programs that check" => probes::run_external;
    file 100 "files that check" => probes::run_file;
    ftp 60 "answers to ftp checks" => probes::run_ftp;
    grpc 60 "answers to grpc checks" => probes::run_grpc;
    http 60 "answers to http checks" => probes::run_http;
    imap 60 "answers to imap checks" => probes::run_imap;
    ldap 60 "answers to ldap checks" => probes::run_ldap;
    mysql 60 "answers to mysql checks" => probes::run_mysql;
    pop3 60 "answers to pop3 checks" => probes::run_pop3;
    postgresql 60 "answers to postgresql checks" => probes::run_postgresql;
    redis 60 "answers to redis checks" => probes::run_redis;
    smtp 60 "answers to smtp checks" => probes::run_smtp;
    tcp 60 "answers to tcp checks" => probes::run_tcp;
    tls 60 "TLS handshakes and certificates" => tls::run;
    udp 60 "answers to udp checks" => probes::run_udp;
}

impl Target {
    fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    fn run(&self, seed: u64, cases: u32) -> Result<(), Failed> {
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

fn in_suite(name: &str) {
    let target = Target::named(name).expect("a target of the list");
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
fn hold<S: Strategy>(
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

#[test]
fn every_target_has_a_name_of_its_own() {
    for (place, target) in TARGETS.iter().enumerate() {
        assert!(TARGETS[..place].iter().all(|other| other.name != target.name), "{}", target.name);
    }
}

#[test]
fn a_property_that_does_not_hold_is_found_and_comes_again() {
    let run = || {
        let config = Config { rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Config::default() };
        let failed = hold(config, 0..1000_u32, |number| {
            if number < 300 { Ok(()) } else { Err(TestCaseError::fail("too large")) }
        });
        failed.expect_err("two of three numbers are").input
    };
    assert_eq!((run(), run()), ("300".into(), "300".into()));
}

/// Nobody would see them otherwise: the runtime takes a panic for the end of that task alone.
#[test]
fn a_panic_in_a_task_is_found() {
    let runtime = script::runtime();
    let config = Config { cases: 1, failure_persistence: None, ..Config::default() };
    let failed = hold(config, 0..1000_u32, |_| {
        let task = runtime.spawn(async { panic!("on purpose, inside a task") });
        let _ = runtime.block_on(task);
        Ok(())
    });
    assert_eq!(failed.expect_err("a panic").why, "a task has panicked");
}
