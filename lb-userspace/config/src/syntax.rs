//! Mistakes in the shape of the file: translates the messages of serde_yaml and libyaml into plain
//! English, and finds their exact positions.

use std::str::Utf8Error;

use super::error::{Found, SHOWN};
use super::source_map::{Position, SourceMap, SourceSpan, lines};
use super::values;

/// The mistake in bytes that are not UTF-8, and their text as far as it can be shown.
pub(crate) fn not_utf8(bytes: &[u8], cause: &Utf8Error) -> (Found, String) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    // The lossy text has no replacement before the first bad byte, so its offset is the same in
    // both.
    let at = Position::of_byte(&text, cause.valid_up_to());
    let byte = bytes.get(cause.valid_up_to()).copied().unwrap_or_default();
    ((at, format!("found byte 0x{byte:02x}, expected UTF-8 text")), text)
}

/// What must be blanked out before the file can be parsed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Surplus {
    /// The entry at the mistake: its key is unknown or a duplicate. `meant` is the key that the
    /// author probably meant.
    Entry { meant: Option<String> },
    /// The value at the mistake: its type is wrong. `single`: a single value was expected.
    Value { single: bool },
    /// Nothing: the rest of the file cannot be parsed.
    Nothing,
}

/// Position and message for serde_yaml's error `cause` in `text`.
pub(crate) fn explain(cause: &serde_yaml::Error, text: &str, source_map: &SourceMap) -> (Found, Surplus) {
    let full = cause.to_string();
    let (at, suffix) = match cause.location() {
        // The offset is reliable; libyaml counts lines differently than editors.
        Some(location) => (
            Position::of_byte(text, location.index()),
            format!(" at line {} column {}", location.line(), location.column()),
        ),
        None => (Position::START, String::new()),
    };
    let message = full.strip_suffix(&suffix).unwrap_or(&full);
    let nothing = |found| (found, Surplus::Nothing);
    wrong_key(message, at, source_map)
        .or_else(|| wrong_type(message, at, text))
        .or_else(|| wrong_text(message, text, source_map).map(nothing))
        .unwrap_or_else(|| nothing(wrong_yaml(message, at, text)))
}

/// Splits `PATH: MARK REST` into `PATH` and `REST`; the path is empty at the top level of the file.
fn split<'m>(message: &'m str, mark: &str) -> Option<(&'m str, &'m str)> {
    let start = message.find(mark)?;
    Some((message[..start].trim_end_matches(": "), &message[start + mark.len()..]))
}

fn wrong_key(message: &str, at: Position, source_map: &SourceMap) -> Option<(Found, Surplus)> {
    if let Some((path, rest)) = split(message, "unknown field `") {
        // serde lists the expected names after the unknown one.
        let (key, expected) = rest.split_once("`, expected ")?;
        let at = follow(source_map, path).occurrence(key, 0).map_or(at, SourceSpan::key_at);
        let names = expected.split('`').skip(1).step_by(2);
        let meant = values::nearest(key, names).map(str::to_owned);
        return Some(((at, unknown_key(key, expected)), Surplus::Entry { meant }));
    }
    let (path, rest) = split(message, "duplicate field `")?;
    let key = rest.strip_suffix('`')?;
    let map = follow(source_map, path);
    let first = map.key(key).key_at().line;
    let at = map.occurrence(key, 1).map_or(at, SourceSpan::key_at);
    let message = format!("duplicate key `{key}`, first given in line {first}");
    Some(((at, message), Surplus::Entry { meant: None }))
}

/// serde's list of the keys of an included file.
const KEYS_OF_INCLUDED: &str = "`groups` or `services`";

/// The message for an unknown key. `expected` is serde's list: "`a`", "`a` or `b`", "one of `a`,
/// `b`, `c`".
fn unknown_key(key: &str, expected: &str) -> String {
    if key == "<<" {
        return "unknown key `<<`: YAML's merge key is not supported, only aliases of whole values".into();
    }
    let names = expected.split('`').skip(1).step_by(2);
    let nearest = values::nearest(key, names);
    let key = key.chars().take(SHOWN).collect::<String>();
    let key = key.escape_debug();
    match nearest {
        None if expected == KEYS_OF_INCLUDED => format!(
            "`{key}` cannot stand in an included file, expected {expected}: every other key belongs in the file that \
             has the `include`"
        ),
        Some(name) => format!("unknown key `{key}`, did you mean `{name}`?"),
        None => format!("unknown key `{key}`, expected {expected}"),
    }
}

/// The source span of a path in serde_yaml's notation, such as `services[0].check`.
fn follow<'a>(source_map: &'a SourceMap, path: &str) -> SourceSpan<'a> {
    let steps = path.split(['.', '[']).filter(|step| !step.is_empty());
    steps.fold(source_map.root(), |span, step| match step.strip_suffix(']').map(str::parse) {
        Some(Ok(index)) => span.item(index),
        _ => span.key(step),
    })
}

fn wrong_type(message: &str, at: Position, text: &str) -> Option<(Found, Surplus)> {
    let (path, rest) = split(message, "invalid type: ")?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let expected = match expected {
        "a sequence" => "a list",
        "field identifier" => "the name of a key",
        other => other,
    };
    let name = path.rsplit('.').next().filter(|name| !name.is_empty());
    let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
    let hint = hint(found, line_from(text, at));
    let message = format!("{name}found {}, expected {expected}{hint}", in_yaml_terms(found));
    let surplus = match expected {
        "the name of a key" => Surplus::Nothing,
        other => Surplus::Value { single: other == "a single value" },
    };
    Some(((at, message), surplus))
}

/// serde's name for what it found, in YAML's terms.
fn in_yaml_terms(found: &str) -> String {
    match found {
        "sequence" => "a list".to_owned(),
        "map" => "a mapping".to_owned(),
        "unit value" => "nothing".to_owned(),
        other => match other.strip_prefix("string ") {
            Some(text) if text.chars().nth(SHOWN).is_none() => format!("text {text}"),
            Some(text) => format!("text {}\"…", text.chars().take(SHOWN).collect::<String>()),
            None => other.replace('`', ""),
        },
    }
}

/// A hint at one of two frequent slips; `rest` is the line from the mistake on.
fn hint(found: &str, rest: &str) -> &'static str {
    let looks_like_key = |key: &str| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if found == "sequence" && rest.starts_with('[') && rest.contains("]:") {
        "; an IPv6 address with a port must be in quotes"
    } else if found.starts_with("string")
        && rest.split_once(':').is_some_and(|(key, value)| looks_like_key(key) && !value.starts_with(' '))
    {
        "; a space must follow the `:`"
    } else {
        ""
    }
}

/// The rest of the line from `at` on.
fn line_from(text: &str, at: Position) -> &str {
    let line = lines(text).nth(at.line - 1).unwrap_or_default();
    line.char_indices().nth(at.column - 1).map_or("", |(start, _)| &line[start..])
}

fn wrong_text(message: &str, text: &str, source_map: &SourceMap) -> Option<Found> {
    if message.starts_with("deserializing from YAML containing more than one document") {
        let at = source_map.second_document.unwrap_or(Position::START);
        return Some((at, "found a second YAML document, expected only one in the file".into()));
    }
    // libyaml gives only a byte offset here, and only in its message, so serde_yaml has no
    // location.
    let (_, offset) = message.split_once("control characters are not allowed at position ")?;
    let at = Position::of_byte(text, offset.parse().ok()?);
    Some((at, "found a control character, expected text without any".into()))
}

/// The beginnings of libyaml's messages, and their plain English.
const IN_PLAIN_WORDS: [(&str, &str); 10] = [
    ("did not find expected key", "expected a key here; is it indented like the keys above it?"),
    (
        "did not find expected '-' indicator",
        "expected the next item of the list, `- ` and its value; is the indentation right?",
    ),
    ("did not find expected ',' or '}'", "expected `,` or `}`"),
    ("did not find expected ',' or ']'", "expected `,` or `]`"),
    ("did not find expected node content", "expected a value"),
    ("could not find expected ':'", "expected `:` and a space after this key"),
    ("mapping values are not allowed", "`: ` cannot stand within a value; is a line above indented wrongly?"),
    ("block sequence entries are not allowed", "a list cannot begin here, expected it on a line of its own"),
    ("unknown anchor", "this alias refers to an anchor that is not defined before it"),
    ("repetition limit exceeded", "aliases repeat too much of the file"),
];

fn wrong_yaml(message: &str, at: Position, text: &str) -> Found {
    let began = |what: &str| message.split_once(what).and_then(|(_, at)| line_and_column(at));
    if message.starts_with("found character that cannot start") {
        return (at, forbidden_start(line_from(text, at).chars().next()));
    }
    if let Some(quote) = began("while scanning a quoted scalar at ") {
        return (quote, "not valid YAML: this quoted text has no end".into());
    }
    let plain = IN_PLAIN_WORDS.iter().find(|(libyaml, _)| message.starts_with(libyaml));
    let plain = plain.map_or(message, |(_, words)| words);
    // The scan began at the key without a colon; it failed a line further down.
    if let Some(key) = began("while scanning a simple key at ") {
        return (key, format!("not valid YAML: {plain}"));
    }
    // In flow style libyaml takes the brace for another mapping's.
    let start = Position { column: at.column.saturating_sub(1).max(1), ..at };
    if ["${env:", "${file:"].iter().any(|reference| line_from(text, start).starts_with(reference)) {
        return (start, "not valid YAML: within brackets or braces a reference must be in quotes".into());
    }
    let opened =
        began("while parsing a flow mapping at ").or_else(|| began("while parsing a flow sequence at "));
    match opened {
        Some(opened) => {
            (at, format!("not valid YAML: {plain} for the bracket opened in line {}", opened.line))
        }
        None => (at, format!("not valid YAML: {plain}")),
    }
}

fn forbidden_start(char: Option<char>) -> String {
    match char {
        Some('\t') => "found a tab, expected spaces: YAML does not indent with tabs".into(),
        Some(char) => format!("a value cannot begin with {char:?} in YAML, expected it in quotes"),
        None => "not valid YAML: expected a value".into(),
    }
}

/// Reads `line 3 column 5`.
fn line_and_column(text: &str) -> Option<Position> {
    let mut words = text.split(' ');
    let ("line", line, "column", column) = (words.next()?, words.next()?, words.next()?, words.next()?)
    else {
        return None;
    };
    Some(Position::new(line.parse().ok()?, column.parse().ok()?))
}
