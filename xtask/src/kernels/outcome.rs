//! Parses a guest's output on its second serial port, and evaluates it.

use std::time::Duration;

use lb_lab::program::{Program, Together};

/// Maximum number of lines shown of a guest's failures.
const LINES_OF_WORDS: usize = 80;

/// The state of a guest so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Outcome {
    /// Debian's version, such as `6.1.192-2`; if it is missing, the output of `uname`.
    pub version: String,
    /// From the start of the emulator to the first output of the guest's init process.
    pub boot: Option<Duration>,
    pub programs: Vec<Program>,
    pub together: Option<Together>,
    pub tests: Tests,
    /// Exit codes of the executables, by name.
    exits: Vec<(String, i32)>,
    /// The guest shut down in order.
    ended: bool,
    /// The guest's output about failures.
    words: String,
    /// What went wrong with the guest itself: it was switched off, or crashed.
    pub fate: Option<String>,
}

/// The tests, by name, in the order in which they ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tests {
    pub announced: usize,
    pub passed: Vec<String>,
    pub failed: Vec<String>,
    pub ignored: Vec<String>,
    /// The last one that ended.
    pub last: String,
}

impl Tests {
    pub(crate) fn done(&self) -> usize {
        self.passed.len() + self.failed.len() + self.ignored.len()
    }

    pub(crate) fn without_result(&self) -> usize {
        self.announced.saturating_sub(self.done())
    }
}

impl Outcome {
    /// Parses a guest's whole output so far; the last line may be incomplete.
    pub(crate) fn of(results: &str) -> Self {
        let mut outcome = Self { words: words(results), ..Self::default() };
        for line in results.lines() {
            outcome.hear(line);
        }
        outcome
    }

    pub(crate) fn booted_in(self, time: Duration) -> Self {
        Self { boot: Some(time), ..self }
    }

    fn hear(&mut self, line: &str) {
        if let Some(version) = line.strip_prefix("version ") {
            let debians = version.split_once("Debian ").map_or(version, |(_, version)| version);
            debians.split(' ').next().unwrap_or(debians).clone_into(&mut self.version);
        } else if let Some((name, code)) = line.strip_prefix("exit ").and_then(|rest| rest.split_once(' ')) {
            self.exits.extend(code.parse().ok().map(|code| (name.to_owned(), code)));
        } else if let Some((name, verdict)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        {
            self.tests.count(name, verdict);
        } else if let Some(rest) = line.strip_prefix("running ") {
            self.tests.announced +=
                rest.split(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        } else if line.starts_with('{') {
            self.programs.extend(serde_json::from_str::<Program>(line));
            self.together = serde_json::from_str(line).ok().or(self.together.take());
        } else if line == "end" {
            self.ended = true;
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The programs of `lb` itself.
    pub(crate) fn of_lb(&self) -> Vec<&Program> {
        self.programs.iter().filter(|program| program.shipped).collect()
    }

    pub(crate) fn loaded(&self) -> usize {
        self.programs.iter().filter(|program| program.refused.is_none()).count()
    }

    /// All problems, one line each. Empty: the guest did everything that it should.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::from_iter(self.fate.clone());
        if self.boot.is_none() {
            troubles.push("it did not boot".to_owned());
            return troubles;
        }
        for program in self.programs.iter().filter(|program| program.refused.is_some()) {
            troubles.push(format!("the kernel refuses the program {}", program.name));
        }
        if self.programs.is_empty() {
            troubles.push("no program was loaded".to_owned());
        }
        troubles.extend(self.tests.failed.iter().map(|name| format!("test {name} failed")));
        match self.tests.without_result() {
            0 if self.tests.announced == 0 => troubles.push("no test ran".to_owned()),
            0 => {}
            number => troubles.push(format!("{number} tests have no result")),
        }
        let bad_exit =
            |(name, code): &(String, i32)| (*code != 0).then(|| format!("{name} ended with {code}"));
        troubles.extend(self.exits.iter().filter_map(bad_exit));
        if !self.ended {
            troubles.push("the guest did not shut down in order".to_owned());
        }
        troubles
    }

    /// The guest's output about failures, limited.
    pub(crate) fn words(&self) -> String {
        let refusals = self.programs.iter().filter_map(|program| program.refused.clone());
        let all: Vec<String> = refusals.chain([self.words.clone()]).filter(|text| !text.is_empty()).collect();
        shortened(&all.join("\n\n"))
    }
}

impl Tests {
    /// The verdict follows the test's name; the line of a running test is incomplete.
    fn count(&mut self, name: &str, verdict: &str) {
        let of_verdict = match verdict.trim() {
            "ok" => &mut self.passed,
            "FAILED" => &mut self.failed,
            ignored if ignored.starts_with("ignored") => &mut self.ignored,
            _ => return,
        };
        of_verdict.push(name.to_owned());
        name.clone_into(&mut self.last);
    }
}

/// The sections of the test binaries' output about failures: of each what is said, then the names
/// again.
fn words(results: &str) -> String {
    let of_binaries = results.split("\ntest result: ").filter_map(|said| said.split_once("\nfailures:\n"));
    let told = of_binaries.map(|(_, told)| told.split("\nfailures:\n").next().unwrap_or(told).trim());
    told.collect::<Vec<_>>().join("\n\n")
}

fn shortened(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let rest = lines.len().saturating_sub(LINES_OF_WORDS);
    let shown = lines[..lines.len() - rest].join("\n");
    if rest == 0 { shown } else { format!("{shown}\n… and {rest} lines more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = r#"release 6.1.0-56-cloud-amd64
version #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)
{"name":"lb","shipped":true,"steps":596732,"stack":null,"load_ms":8123.5,"refused":null}
{"name":"floor_pass","shipped":false,"steps":2,"stack":null,"load_ms":3.5,"refused":null}
{"programs":1,"together_ms":8000.5,"processor_ms":9000.5}
exit programs 0

running 4 tests
test cpus::even ... ok
test table::flood ... FAILED
test table::long ... ignored, takes an hour
test table::expiry ... "#;

    const REST: &str = "ok

failures:

---- table::flood stdout ----
thread 'table::flood' panicked at table.rs:7:5:
2 of 100

failures:
    table::flood

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 6.94s

exit packets 101
end
";

    #[test]
    fn a_guest_is_understood_while_it_runs_and_at_its_end() {
        let outcome = Outcome::of(SAID);
        assert_eq!(outcome.version, "6.1.192-2");
        assert_eq!(outcome.of_lb().first().and_then(|lb| lb.steps), Some(596_732));
        assert_eq!((outcome.loaded(), outcome.tests.done(), outcome.tests.without_result()), (2, 3, 1));
        assert!(!outcome.has_ended());

        let outcome = Outcome::of(&format!("{SAID}{REST}")).booted_in(Duration::from_secs(4));
        assert_eq!(outcome.tests.passed, ["cpus::even", "table::expiry"]);
        assert_eq!(
            (&*outcome.tests.last, outcome.together.as_ref().map(|all| all.programs)),
            ("table::expiry", Some(1))
        );
        assert_eq!(outcome.tests.ignored, ["table::long"]);
        assert_eq!(outcome.troubles(), ["test table::flood failed", "packets ended with 101"]);
        assert!(outcome.words().starts_with("---- table::flood stdout"), "{}", outcome.words());
        assert!(outcome.words().ends_with("2 of 100"), "{}", outcome.words());
    }

    #[test]
    fn what_did_not_happen_is_told() {
        assert_eq!(Outcome::of("").troubles(), ["it did not boot"]);

        let refused = r#"{"name":"lb","shipped":true,"steps":null,"stack":null,"load_ms":9.0,"refused":"R5 offset is outside"}"#;
        let said = format!("version #1 SMP\n{refused}\nexit programs 1\n");
        let outcome = Outcome {
            boot: Some(Duration::from_secs(4)),
            fate: Some("no output at all for 600 s: it was switched off".to_owned()),
            ..Outcome::of(&said)
        };
        assert_eq!(
            outcome.troubles(),
            [
                "no output at all for 600 s: it was switched off",
                "the kernel refuses the program lb",
                "no test ran",
                "programs ended with 1",
                "the guest did not shut down in order"
            ]
        );
        assert_eq!(outcome.words(), "R5 offset is outside");
    }
}
