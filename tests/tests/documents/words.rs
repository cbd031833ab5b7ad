//! Commands of `lb` in lines for a shell, and whether they are any.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

/// The words of each command of `lb` in the line, without what a shell takes for itself.
pub(crate) fn commands(line: &str) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = vec![Vec::new()];
    for word in split(line) {
        match word {
            Word::End => all.push(Vec::new()),
            Word::Of(text) => all.last_mut().expect("there is one").push(text),
        }
    }
    all.retain(|words| words.first().is_some_and(|word| word == "lb"));
    all
}

enum Word {
    Of(String),
    /// The next word begins another command.
    End,
}

fn split(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    // The next word is where a redirection leads.
    let mut redirected = false;
    for char in line.chars() {
        match (quote, char) {
            (Some(open), _) if open == char => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(char),
            (None, '\'' | '"') => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '&') if redirected && word.is_none() => {}
            (None, ' ' | ';' | '|' | '&' | '(' | ')') => {
                if let Some(text) = word.take()
                    && !std::mem::take(&mut redirected)
                {
                    words.push(Word::Of(text));
                }
                if char != ' ' {
                    words.push(Word::End);
                }
            }
            (None, '>' | '<') => {
                // `2>`: the number is the redirection's.
                let ended = word.take().filter(|text| !text.bytes().all(|byte| byte.is_ascii_digit()));
                words.extend(ended.map(Word::Of));
                redirected = true;
            }
            // Brackets of the documents: what may be left out.
            (None, '[' | ']') => {}
            (None, _) => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word.filter(|_| !redirected).map(Word::Of));
    words
}

/// `lb` understands the command line; nothing is done.
pub(crate) fn parsed_by(lb: &Path, words: &[String]) -> Result<()> {
    run(lb, ["--parse-only"].into_iter().chain(words[1..].iter().map(String::as_str)), words).map(drop)
}

/// The words that name the command, such as `realserver check`.
fn path(words: &[String]) -> Vec<&str> {
    let names_it = |word: &&str| {
        !word.starts_with('-') && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    words.iter().skip(1).map(String::as_str).take_while(names_it).collect()
}

/// Options without their values, as far as they are not read from a word after them.
fn options(words: &[String]) -> impl Iterator<Item = &str> {
    let options = words.iter().filter(|word| word.starts_with('-') && word.len() > 1);
    options.map(|word| word.split('=').next().unwrap_or_default())
}

/// `lb` has the command, and its help names the long options. Of a command in a sentence there may
/// be no more than that.
pub(crate) fn named_by(lb: &Path, text: &str) -> Result<()> {
    let words: Vec<String> = commands(text).into_iter().next().unwrap_or_default();
    let path = path(&words);
    // `help` takes no options, and the command after it must be one.
    if path.first() == Some(&"help") {
        return run(lb, path, &words).map(drop);
    }
    let help = run(lb, path.into_iter().chain(["--help"]), &words)?;
    for option in options(&words).filter(|option| option.starts_with("--")) {
        ensure!(help.contains(option), "`{text}`: there is no option {option}");
    }
    Ok(())
}

/// A command of a sentence is among those that are run: under its name, each option at least once.
pub(crate) fn is_among(text: &str, run: &[Vec<String>]) -> bool {
    let Some(words) = commands(text).into_iter().next() else { return false };
    let path = path(&words);
    let of_its_name = || {
        run.iter()
            .filter(|other| other[1..].iter().map(String::as_str).take(path.len()).eq(path.iter().copied()))
    };
    let has = |option: &str| of_its_name().any(|other| options(other).any(|own| own == option));
    of_its_name().next().is_some() && options(&words).all(has)
}

fn run<'a>(lb: &Path, arguments: impl IntoIterator<Item = &'a str>, words: &[String]) -> Result<String> {
    let output = Command::new(lb).args(arguments).env_remove("LB_SOCKET").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{}`: {}", words.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn commands_are_found_between_what_is_the_shells() {
    let found = |line: &str| commands(line).into_iter().map(|words| words.join(" ")).collect::<Vec<_>>();
    assert_eq!(found("lb standby; lb resume    # lb nothing"), ["lb standby", "lb resume"]);
    assert_eq!(found("ipvsadm -S -n | lb import ipvsadm - -o lb.yaml"), ["lb import ipvsadm - -o lb.yaml"]);
    assert_eq!(found("lb config schema >lb.schema.json"), ["lb config schema"]);
    assert_eq!(found("lb config schema > lb.schema.json 2>&1 | wc"), ["lb config schema"]);
    assert_eq!(found("lb failover [GROUP]"), ["lb failover GROUP"]);
    assert_eq!(commands("lb drain www1 --reason \"new disk\"")[0][4], "new disk");
    assert!(
        found("# lb status").is_empty() && found("install target/release/lb /usr/local/sbin/lb").is_empty()
    );
}

#[test]
fn commands_of_sentences_are_found_among_those_that_run() {
    let run =
        ["lb realserver check --vip 192.0.2.10", "lb top-clients", "lb weight www1 5", "lb trace --refused"];
    let run: Vec<_> = run.iter().flat_map(|line| commands(line)).collect();
    for text in
        ["lb realserver check", "lb realserver check --vip VIP", "lb top-clients", "lb weight SERVER WEIGHT"]
    {
        assert!(is_among(text, &run), "{text}");
    }
    for text in ["lb realserver undo", "lb top", "lb trace --refused --json", "lb ipvsadm -C"] {
        assert!(!is_among(text, &run), "{text}");
    }
}
