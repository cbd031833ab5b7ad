//! A session of `cargo xtask fuzz`, which runs it as a test of each crate. Environment variables
//! control it:
//!
//! - `LB_FUZZ_LIST`: only list the targets
//! - `LB_FUZZ_TARGET`: a target's name; default: all targets of the crate, one after the other
//! - `LB_FUZZ_SECONDS`: time for all of them together
//! - `LB_FUZZ_SEED`: run once with this seed, in place of new ones

use std::env;
use std::panic;
use std::process;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Failed, Target};

/// Interval of progress messages.
const PACE: Duration = Duration::from_secs(10);

/// Location of the last panic.
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

pub(crate) fn told(target: &Target, seed: u64, cases: u32, failed: &Failed) -> String {
    let Target { name, .. } = target;
    let Failed { why, input } = failed;
    let at = LAST_PANIC.lock().ok().and_then(|mut last| last.take()).unwrap_or_default();
    format!(
        "target {name}, seed {seed}: {why} {at}\n\nThe smallest input found:\n{input}\n\n\
         It comes again with:\n    cargo xtask fuzz {name} --seed {seed} --cases {cases}\n\
         Mend it, and add this input as a test beside the code that was mended."
    )
}

/// Runs a crate's targets according to the environment.
pub fn session(targets: &[Target]) {
    if env::var_os("LB_FUZZ_LIST").is_some() {
        for Target { name, about, .. } in targets {
            eprintln!("target: {name:12} {about}");
        }
        return;
    }
    let wanted = env::var("LB_FUZZ_TARGET").ok();
    let wanted = |target: &&Target| wanted.as_ref().is_none_or(|name| target.name == name);
    let targets: Vec<&Target> = targets.iter().filter(wanted).collect();
    // Shrinking panics repeatedly; only the last panic is reported.
    panic::set_hook(Box::new(|info| {
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = Some(info.to_string());
        }
    }));
    if let Some(seed) = number("LB_FUZZ_SEED") {
        for target in targets {
            let cases = number("LB_FUZZ_CASES").and_then(|cases| u32::try_from(cases).ok());
            try_seed(target, seed, cases.unwrap_or(target.cases));
            eprintln!("{}: seed {seed} holds", target.name);
        }
        return;
    }
    let whole = Duration::from_secs(number("LB_FUZZ_SECONDS").unwrap_or(60));
    let share = whole / u32::try_from(targets.len()).unwrap_or(1);
    targets.into_iter().for_each(|target| try_for(target, share));
}

/// Runs with increasing seeds until `time` is over.
fn try_for(target: &Target, time: Duration) {
    let first = fastrand::u64(..u64::from(u32::MAX)) * 1000;
    let (begin, mut told_at) = (Instant::now(), Instant::now());
    let mut cases = 0;
    for seed in first.. {
        try_seed(target, seed, target.cases);
        cases += u64::from(target.cases);
        let ends = begin.elapsed() >= time;
        if ends || told_at.elapsed() >= PACE {
            told_at = Instant::now();
            let pace = cases as f64 / begin.elapsed().as_secs_f64();
            eprintln!("{:12} {cases:>9} cases, {pace:>7.0} a second, seed {seed}", target.name);
        }
        if ends {
            return;
        }
    }
}

fn try_seed(target: &Target, seed: u64, cases: u32) {
    if let Err(failed) = target.run(seed, cases) {
        give_up(&told(target, seed, cases, &failed));
    }
}

fn give_up(words: &str) -> ! {
    eprintln!("\n{words}");
    process::exit(1);
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| give_up(&format!("{variable} is '{text}', expected a number"))))
}
