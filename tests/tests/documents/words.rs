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

/// `lb` has the command, and its help names the long options. Of a command in a sentence there may
/// be no more than that.
pub(crate) fn named_by(lb: &Path, text: &str) -> Result<()> {
    let words: Vec<String> = commands(text).into_iter().next().unwrap_or_default();
    let stands_for_something = |word: &str| word.contains(|char: char| !char.is_ascii_lowercase());
    let path = words[1..].iter().map(String::as_str).take_while(|word| !stands_for_something(word));
    let path: Vec<&str> = path.collect();
    // `help` takes no options, and the command after it must be one.
    if path.first() == Some(&"help") {
        return run(lb, path, &words).map(drop);
    }
    let help = run(lb, path.into_iter().chain(["--help"]), &words)?;
    for option in words.iter().filter_map(|word| word.strip_prefix("--")) {
        let option = format!("--{}", option.split('=').next().unwrap_or_default());
        ensure!(help.contains(&option), "`{text}`: there is no option {option}");
    }
    Ok(())
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
