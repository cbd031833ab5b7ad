//! Commands of other programs between backticks: each program's own help knows the words and the
//! options that the documents give it. What looks like a command and is none stands in a list, and
//! so do programs that are not asked, with the reason.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// What the help of a program must know, besides options.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// The word behind the program's name.
    First,
    /// All words that are no names or numbers of something.
    All,
    Options,
    /// No help does: it is a name of the kernel's.
    Setting,
}

/// Programs that `cargo xtask setup` installs, and how their help is asked for: `…` stands for the
/// word behind the program's name.
const ASKED: [(&str, &[&str], Known); 9] = [
    ("cp", &["--help"], Known::Options),
    ("ethtool", &["--help"], Known::Options),
    ("ip", &["…", "help"], Known::All),
    ("journalctl", &["--help"], Known::Options),
    ("kubectl", &["…", "--help"], Known::All),
    ("ss", &["--help"], Known::Options),
    ("sysctl", &[], Known::Setting),
    ("systemctl", &["--help"], Known::First),
    ("systemd-analyze", &["--help"], Known::First),
];

/// Programs that are not asked.
const NOT_ASKED: [(&str, &str); 5] = [
    ("apt", "`cargo xtask package --check` installs the packages by it"),
    ("cargo", "xtask's tests look at the words of its commands"),
    ("dnf", "is of other systems; `cargo xtask package --check` looks at the packages for them"),
    ("docker", "makes the machine that the tests run on, where there is none"),
    ("ipvsadm", "is not installed; tests/tests/ipvsadm.rs has lb's own, which takes the same words"),
];

/// What looks like a command: words of configurations, and parts of commands of `lb` and `xtask`.
const NO_COMMANDS: [&str; 13] = [
    "at most",
    "deadtime 9",
    "every node",
    "ha1.wowlinux.com 211.58.250.6 ldirectrod",
    "keepalive 3",
    "maintenance on",
    "maximum-paths 16",
    "merge paths on",
    "protocol kernel",
    "sign 2",
    "sign NUMBER",
    "stop --release",
    "test --kernels",
];

/// Whether these words may be a command of another program.
pub(crate) fn may_be_one(text: &str) -> bool {
    let Some((program, _)) = text.split_once(' ') else { return false };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
    let begins = program.starts_with(|first: char| first.is_ascii_lowercase());
    begins && program.bytes().all(plain) && program != "lb"
}

/// What is wrong with the command, or why nobody knows what it is.
pub(crate) fn fault(text: &str) -> Result<Option<String>> {
    let mut words = text.split_whitespace();
    let program = words.next().unwrap_or_default();
    if NO_COMMANDS.contains(&text) || NOT_ASKED.iter().any(|(known, _)| *known == program) {
        return Ok(None);
    }
    let words: Vec<&str> = words.collect();
    let Some((_, question, known)) = ASKED.iter().find(|(known, ..)| *known == program) else {
        return Ok(Some(format!("`{text}`: others.rs does not say what it is")));
    };
    if *known == Known::Setting {
        return Ok(unknown_setting(&words).map(|name| format!("`{text}`: the kernel has no {name}")));
    }
    let first = words.first().copied().unwrap_or_default();
    let question = question.iter().map(|word| if *word == "…" { first } else { *word });
    let output = Command::new(program).args(question).env("LC_ALL", "C").output();
    let output = output.with_context(|| format!("`{text}`: cannot run {program}"))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let is_named = |wanted: &str| {
        said.split(|char: char| !char.is_ascii_alphanumeric() && char != '-').any(|word| word == wanted)
    };
    let unknown = needed(&words, *known).into_iter().find(|wanted| !is_named(wanted));
    Ok(unknown.map(|unknown| format!("`{text}`: the help of {program} does not know {unknown}")))
}

/// The words that a help must know.
fn needed(words: &[&str], known: Known) -> Vec<String> {
    let mut needed = Vec::new();
    for (number, word) in words.iter().enumerate() {
        let is_word = word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        match (word.strip_prefix("--"), word.strip_prefix('-'), known) {
            (Some(_), ..) => needed.extend(word.split('=').next().map(str::to_owned)),
            // Several in one word.
            (None, Some(letters), _) => needed.extend(letters.chars().map(|letter| format!("-{letter}"))),
            (None, None, Known::First) if number == 0 => needed.push((*word).to_owned()),
            // The help is that of the first one.
            (None, None, Known::All) if number > 0 && is_word => needed.push((*word).to_owned()),
            (None, None, _) => {}
        }
    }
    needed
}

/// The first of the names that the kernel does not have.
fn unknown_setting<'a>(words: &[&'a str]) -> Option<&'a str> {
    let names = words.iter().map(|word| word.split('=').next().unwrap_or_default());
    let mut names = names.filter(|name| !name.starts_with('-'));
    names.find(|name| !Path::new("/proc/sys").join(name.replace('.', "/")).exists())
}

/// What stands in a list above and in no document.
pub(crate) fn idle(found: &[&str]) -> Vec<&'static str> {
    let programs = ASKED.iter().map(|(program, ..)| *program).chain(NOT_ASKED.iter().map(|(one, _)| *one));
    let unused = |program: &&str| !found.iter().any(|text| text.split(' ').next() == Some(*program));
    let gone = NO_COMMANDS.iter().copied().filter(|phrase| !found.contains(phrase));
    programs.filter(unused).chain(gone).collect()
}

#[test]
fn commands_are_told_from_other_words() {
    for text in ["ip link show", "systemd-analyze security", "tc -s qdisc"] {
        assert!(may_be_one(text), "{text}");
    }
    for text in ["lb status", "ethtool", "weight: 2", "RELOAD FAILED", "--json FILE", "/usr/sbin/lb run"] {
        assert!(!may_be_one(text), "{text}");
    }
    assert!(NOT_ASKED.iter().all(|(_, why)| why.len() > 20), "each has a reason");
}

#[test]
fn words_that_no_help_knows_are_found() -> Result<()> {
    for text in [
        "ip address ad 192.0.2.10/32 dev eth0",
        "ss -lntupx --colour",
        "systemctl enabel --now lb",
        "sysctl net.ipv4.conf.all.arp_ignroe=1",
        "tc -s qdisc",
    ] {
        assert!(fault(text)?.is_some(), "{text}");
    }
    for text in ["ip address add 192.0.2.10/32 dev eth0", "ss -lntupx", "systemctl enable --now lb"] {
        assert_eq!(fault(text)?, None);
    }
    Ok(())
}
