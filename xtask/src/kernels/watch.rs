//! A guest from its start to its end: what it does is told while it does it, and one that hangs is switched off.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::emulator::{Files, Guest};
use super::outcome::Outcome;
use super::table::grouped;

/// How often we look at what it has said.
const PACE: Duration = Duration::from_millis(200);

/// Debian's kernels boot in 3 to 9 s where the machine does nothing else.
const BOOT: Duration = Duration::from_secs(180);

/// The longest silence is that of the longest test, some dozens of seconds.
const SILENCE: Duration = Duration::from_secs(600);

/// The whole suite in one guest; a few minutes where nothing hangs.
const ALL: Duration = Duration::from_secs(3600);

/// How often the number of tests done is told.
const NEWS: Duration = Duration::from_secs(15);

/// Boots a kernel and waits for what comes of it.
pub(super) fn guest(kernel: &Path, initramfs: &Path, files: &Files) -> Result<Outcome> {
    let mut guest = Guest::start(kernel, initramfs, files)?;
    let mut watch = Watch::new();
    loop {
        // Asked first: what it said before its end is then there.
        let ended = guest.ended()?;
        watch.hear(&files.results());
        if let Some(status) = ended {
            if !watch.outcome.has_ended() {
                watch.outcome.fate = Some(format!("it fell over (qemu: {status})"));
            }
            return Ok(watch.outcome);
        }
        if let Some(fate) = watch.has_waited_too_long() {
            watch.outcome.fate = Some(format!("{fate}: it was switched off"));
            return Ok(watch.outcome);
        }
        thread::sleep(PACE);
    }
}

struct Watch {
    begin: Instant,
    outcome: Outcome,
    /// How much it has said, and when that last grew.
    length: usize,
    last_word: Instant,
    last_news: Instant,
}

impl Watch {
    fn new() -> Self {
        let begin = Instant::now();
        Self { begin, outcome: Outcome::default(), length: 0, last_word: begin, last_news: begin }
    }

    fn hear(&mut self, results: &str) {
        if results.len() == self.length {
            return;
        }
        let now = Instant::now();
        (self.length, self.last_word) = (results.len(), now);
        let boot = self.outcome.boot.unwrap_or_else(|| self.begin.elapsed());
        let before = std::mem::replace(&mut self.outcome, Outcome::of(results).booted_in(boot));
        self.tell(&before);
    }

    /// What has happened since `before`.
    fn tell(&mut self, before: &Outcome) {
        if before.boot.is_none() {
            self.say("it has booted");
        }
        for program in self.outcome.programs.iter().skip(before.programs.len()) {
            let seconds = program.load_ms / 1e3;
            let steps = program.steps.map_or_else(|| "?".to_owned(), |steps| grouped(u64::from(steps)));
            self.say(&match program.refused {
                None => format!("{}: {steps} steps, loaded in {seconds:.1} s", program.name),
                Some(_) => format!("{}: refused", program.name),
            });
        }
        for name in self.outcome.tests.failed.iter().skip(before.tests.failed.len()) {
            self.say(&format!("{name} failed"));
        }
        let tests = &self.outcome.tests;
        let all_done = tests.announced > 0 && tests.done() == tests.announced;
        if tests.done() > before.tests.done() && (all_done || self.last_news.elapsed() > NEWS) {
            self.say(&format!("{} of {} tests are done", tests.done(), tests.announced));
            self.last_news = Instant::now();
        }
    }

    fn say(&self, what: &str) {
        eprintln!("    [{:4.0} s] {what}", self.begin.elapsed().as_secs_f64());
    }

    fn has_waited_too_long(&self) -> Option<String> {
        if self.outcome.boot.is_none() && self.begin.elapsed() > BOOT {
            return Some(format!("nothing was heard from it for {} s", BOOT.as_secs()));
        }
        if self.last_word.elapsed() > SILENCE {
            return Some(format!("it has said nothing more for {} s", SILENCE.as_secs()));
        }
        (self.begin.elapsed() > ALL).then(|| format!("it was not done after {} s", ALL.as_secs()))
    }
}
