//! Configuration files of the operator.

use std::fs;
use std::path::Path;

use lb_fuzz::{Failed, bytes, hold, targets};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseError};

use crate::{load, parse};

targets! {
    config 400 "configuration files" => run;
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One edit: position, number of removed characters, inserted text.
type Change = (Index, usize, String);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let bits = "[-:{}\\[\\],&*!#|>'\"%@`?~ \t\n0-9a-z]{0,4}|- |: |\\*a|&a |vip|- vip: |\\.\\.\\.|---\n|ha1|nodes|\\PC";
    vec((any::<Index>(), 0..4_usize, bits), 1..6)
}

fn changed((text, changes): (String, Vec<Change>)) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, gone, comes) in changes {
        let start = at.index(chars.len());
        let end = (start + gone).min(chars.len());
        chars.splice(start..end, comes.chars());
    }
    chars.into_iter().collect()
}

pub(crate) fn run(config: Config) -> Result<(), Failed> {
    let examples = ["full.yaml", "talk.yaml", "talk-cluster.yaml"].map(example);
    let whole = examples.to_vec();
    let files: Vec<Vec<u8>> = examples.iter().map(|text| text.clone().into_bytes()).collect();
    let signs = "([-:{}\\[\\],&*!#|>'\"%@`?~ \t\r\n]|a|vip|services|: |- |\n  ){0,60}";
    let text = prop_oneof![
        6 => (select(whole), changes()).prop_map(changed).prop_map(String::into_bytes),
        2 => bytes::nearly(files),
        2 => signs.prop_map(String::into_bytes),
        1 => any::<String>().prop_map(String::into_bytes),
    ];
    hold(config, text, |bytes| match std::str::from_utf8(&bytes) {
        Ok(text) => mistakes_are_within_the_text(text),
        Err(_) => bad_utf8_is_reported(&bytes),
    })
}

/// No text makes the parser panic, and every mistake has a position within the text.
fn mistakes_are_within_the_text(text: &str) -> Result<(), TestCaseError> {
    let Err(error) = parse(text, "any.yaml") else { return Ok(()) };
    prop_assert!(!error.mistakes().is_empty());
    // What is included may be any file of this machine.
    if error.mistakes().iter().any(|mistake| mistake.file != "any.yaml") {
        return Ok(());
    }
    prop_assert!(error.to_string().starts_with("any.yaml:"));
    let lines = text.split(['\n', '\r']).count();
    for mistake in error.mistakes() {
        prop_assert!((1..=lines).contains(&mistake.line), "{mistake:?}");
        prop_assert!((1..=mistake.source_line.chars().count() + 1).contains(&mistake.column), "{mistake:?}");
        prop_assert!(!mistake.message.is_empty());
    }
    Ok(())
}

fn bad_utf8_is_reported(bytes: &[u8]) -> Result<(), TestCaseError> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), bytes).expect("a writable file");
    if let Err(error) = load(file.path()) {
        prop_assert!(!error.to_string().is_empty());
    }
    Ok(())
}

/// The file decides how deep it nests; the parser's stack must not depend on it.
#[test]
fn deep_nesting_is_a_mistake_like_others() {
    for deep in ["[".repeat(50_000), "{a: ".repeat(20_000), format!("services: {}", "- ".repeat(20_000))] {
        mistakes_are_within_the_text(&deep).expect("a mistake within the text");
    }
}
