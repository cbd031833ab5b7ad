//! Any text at all: no panic, and every mistake within the text.

use proptest::prelude::*;

use super::*;

/// Nesting is the file's choice; the parser's stack must not depend on it.
#[test]
fn deep_nesting_is_a_mistake_like_others() {
    for deep in ["[".repeat(50_000), "{a: ".repeat(20_000), format!("services: {}", "- ".repeat(20_000))] {
        check_any_text(&deep);
    }
}

/// No text makes the parser panic, and every mistake stands within the text.
fn check_any_text(text: &str) {
    let Err(error) = parse(text, "any.yaml") else { return };
    assert!(!error.mistakes().is_empty());
    assert!(error.to_string().starts_with("any.yaml:"));
    let lines = text.split(['\n', '\r']).count();
    for mistake in error.mistakes() {
        assert!((1..=lines).contains(&mistake.line), "{mistake:?}");
        assert!((1..=mistake.source_line.chars().count() + 1).contains(&mistake.column), "{mistake:?}");
        assert!(!mistake.message.is_empty());
    }
}

/// One edit: where, how many characters go, what comes.
fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, String)>> {
    let bits = "[-:{}\\[\\],&*!#|>'\"%@`?~ \t\n0-9a-z]{0,4}|- |: |\\*a|&a |vip|- vip: |\\.\\.\\.|---\n|ha1|nodes|\\PC";
    prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, bits), 1..6)
}

proptest! {
    #[test]
    fn any_text(text in any::<String>()) {
        check_any_text(&text);
    }

    #[test]
    fn any_text_of_yaml_signs(text in "([-:{}\\[\\],&*!#|>'\"%@`?~ \t\r\n]|a|vip|services|: |- |\n  ){0,60}") {
        check_any_text(&text);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), &bytes).expect("a writable file");
        if let Err(error) = load(file.path()) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn any_edit_of_a_whole_file(edits in edits()) {
        let mut chars: Vec<char> = example("full.yaml").chars().collect();
        for (at, gone, comes) in edits {
            let start = at.index(chars.len());
            let end = (start + gone).min(chars.len());
            chars.splice(start..end, comes.chars());
        }
        check_any_text(&chars.into_iter().collect::<String>());
    }
}
