//! Runs a guest from start to end: prints its progress, and switches it off if it hangs.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::emulator::{Files, Guest};
use super::outcome::Outcome;
use crate::markdown::grouped;

/// Polling interval of the guest's output.
const PACE: Duration = Duration::from_millis(200);

/// Time limit of the boot; Debian's kernels take 3 to 9 s on an idle machine.
const BOOT: Duration = Duration::from_secs(180);

/// Time limit without output; the longest test takes some dozens of seconds.
const SILENCE: Duration = Duration::from_secs(600);

/// Time limit of a guest, which takes some minutes, and more beside others.
const ALL: Duration = Duration::from_secs(3600);

/// Interval of progress messages.
const NEWS: Duration = Duration::from_secs(15);

/// Number of tests that are named for the time that they took.
const LONGEST: usize = 5;

/// Boots the kernel that is called `name`, and waits for the end of the guest.
pub(super) fn guest(name: &str, kernel: &Path, initramfs: &Path, files: &Files) -> Result<Outcome> {
    let mut guest = Guest::start(kernel, initramfs, files)?;
    let mut watch = Watch::new(name);
    loop {
        // Checked first, so that the output read afterwards is complete.
        let ended = guest.ended()?;
        watch.hear(&files.results());
        if let Some(status) = ended {
            if !watch.outcome.has_ended() {
                watch.outcome.fate = Some(format!("the guest crashed (qemu: {status})"));
            }
            watch.say_the_longest();
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
    name: String,
    begin: Instant,
    outcome: Outcome,
    /// Length of the output, and when it last grew.
    length: usize,
    last_word: Instant,
    last_news: Instant,
    /// When a test ended last, and how long those took that ended last at a look.
    last_test: Instant,
    times: Vec<(Duration, String)>,
}

impl Watch {
    fn new(name: &str) -> Self {
        let begin = Instant::now();
        Self {
            name: name.to_owned(),
            begin,
            outcome: Outcome::default(),
            length: 0,
            last_word: begin,
            last_news: begin,
            last_test: begin,
            times: Vec::new(),
        }
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

    /// Progress since `before`.
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
        if before.tests.announced == 0 {
            self.last_test = Instant::now();
        }
        if tests.done() > before.tests.done() {
            self.times.push((self.last_test.elapsed(), tests.last.clone()));
            self.last_test = Instant::now();
        }
        let all_done = tests.announced > 0 && tests.done() == tests.announced;
        if tests.done() > before.tests.done() && (all_done || self.last_news.elapsed() > NEWS) {
            self.say(&format!("{} of {} tests are done", tests.done(), tests.announced));
            self.last_news = Instant::now();
        }
    }

    fn say(&self, what: &str) {
        eprintln!("    [{:4.0} s] {}: {what}", self.begin.elapsed().as_secs_f64(), self.name);
    }

    fn say_the_longest(&mut self) {
        self.times.sort();
        let longest = self.times.iter().rev().take(LONGEST);
        let longest = longest.map(|(time, test)| format!("{:.0} s {test}", time.as_secs_f64()));
        self.say(&format!("the longest tests: {}", longest.collect::<Vec<_>>().join(", ")));
    }

    fn has_waited_too_long(&self) -> Option<String> {
        if self.outcome.boot.is_none() && self.begin.elapsed() > BOOT {
            return Some(format!("no output at all for {} s", BOOT.as_secs()));
        }
        if self.last_word.elapsed() > SILENCE {
            return Some(format!("no more output for {} s", SILENCE.as_secs()));
        }
        (self.begin.elapsed() > ALL).then(|| format!("not finished after {} s", ALL.as_secs()))
    }
}
