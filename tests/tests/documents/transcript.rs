//! Transcripts: commands, and what they print.

use super::blocks::Block;

/// Stands for any text in a line; alone in a line, for any lines.
const ANY: &str = "…";

/// Commands that change nothing, so they may be given until what they show has come about.
const LOOKS: [&str; 8] =
    ["lb connections", "lb diff", "lb doctor", "lb events", "lb health", "lb probe", "lb status", "curl"];

/// A command of a transcript.
pub(crate) struct Step {
    pub line: usize,
    /// The word before the prompt; may be empty.
    pub machine: String,
    pub command: String,
    /// What it should print; empty: whatever it likes.
    pub output: Vec<String>,
}

impl Step {
    pub(crate) fn only_looks(&self) -> bool {
        LOOKS.iter().any(|look| self.command.starts_with(look))
    }

    pub(crate) fn is_answered_by(&self, said: &str) -> bool {
        let said: Vec<String> = said.lines().map(even).collect();
        let wanted: Vec<String> = self.output.iter().map(|line| even(line)).collect();
        wanted.is_empty() || lines_match(&wanted, &said)
    }
}

/// With one blank where there are several: columns are as wide as what is in them.
fn even(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The commands of a `console` block; of another one none.
pub(crate) fn steps(block: &Block) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    if block.language != "console" {
        return steps;
    }
    for (line, text) in block.numbered_lines() {
        let prompt = text.split_once("$ ").filter(|(machine, _)| machine.bytes().all(is_of_name));
        match prompt {
            Some((machine, command)) => {
                let (machine, command) = (machine.to_owned(), command.to_owned());
                steps.push(Step { line, machine, command, output: Vec::new() });
            }
            None => match steps.last_mut() {
                Some(step) => step.output.push(text),
                None => panic!("line {line}: a transcript begins with a prompt, not {text:?}"),
            },
        }
    }
    steps
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn lines_match(wanted: &[String], said: &[String]) -> bool {
    match wanted.split_first() {
        None => said.is_empty(),
        Some((first, rest)) if first == ANY => {
            (0..=said.len()).any(|skipped| lines_match(rest, &said[skipped..]))
        }
        Some((first, rest)) => said
            .split_first()
            .is_some_and(|(line, others)| line_matches(first, line) && lines_match(rest, others)),
    }
}

fn line_matches(wanted: &str, said: &str) -> bool {
    let mut parts = wanted.split(ANY);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = said.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        let Some(place) = rest.find(part) else { return false };
        rest = &rest[place + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn dots_stand_for_text_and_for_lines() {
    let step = |output: &[&str]| Step {
        line: 1,
        machine: String::new(),
        command: "lb status".to_owned(),
        output: output.iter().map(|line| (*line).to_owned()).collect(),
    };
    let said = "lb 1 on eth0, up 3s\nProt  VIP\nTCP   192.0.2.10\n";
    for good in [
        &["lb … on eth0, up …", "Prot VIP", "TCP 192.0.2.10"] as &[&str],
        &["…", "TCP 192…"],
        &["lb 1 …", "…"],
        &["…"],
        &[],
        &["…", "Prot VIP", "…", "TCP 192.0.2.10", "…"],
    ] {
        assert!(step(good).is_answered_by(said), "{good:?}");
    }
    for bad in [
        &["lb … on eth1, up …", "…"] as &[&str],
        &["…", "Prot VIP"],
        &["lb 1 …", "TCP 192.0.2.10"],
        &["…", "TCP 192.0.2.1"],
        &["…", "UDP …", "…"],
    ] {
        assert!(!step(bad).is_answered_by(said), "{bad:?}");
    }
}

#[test]
fn a_transcript_has_commands_with_their_output() {
    let lines = ["lb1$ lb status", "all is well", "$ ls", "client$ curl x"].map(str::to_owned).to_vec();
    let block = Block { line: 7, language: "console".to_owned(), more: String::new(), lines };
    let steps = steps(&block);
    let shown: Vec<_> = steps.iter().map(|step| (step.line, &*step.machine, &*step.command)).collect();
    assert_eq!(shown, [(7, "lb1", "lb status"), (9, "", "ls"), (10, "client", "curl x")]);
    assert_eq!(steps[0].output, ["all is well"]);
}
