//! What values keys take: what validation expects in place of a wrong one. Defaults are tried out.

use std::collections::BTreeMap;

use lb_model::Config;
use serde_yaml::Value;

use super::Name;
use super::shape::Shape;
use crate::files::{Document, Files};
use crate::source_map::{SourceMap, SourceSpan};
use crate::values::SWITCH;

/// A value that hardly any key takes.
const WRONG: &str = "\u{1}";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Accepts {
    /// Any text that is not empty, as far as can be told.
    Text,
    OneOf(Vec<String>),
    Switch,
    Number {
        least: u64,
        most: u64,
    },
    Time {
        least: String,
        most: String,
    },
    /// In words.
    Said(String),
}

/// Words of other programs that are taken, too.
const SYNONYMS: [(Name, &[&str]); 2] =
    [(("Service", "forward"), &["gate", "nat"]), (("Server", "forward"), &["gate", "nat"])];

/// Numbers that may be larger for IPv6 than for the IPv4 of the example.
const MOST_OF_IPV6: [(Name, u64); 1] = [(("Persistence", "prefix"), 128)];

/// The rule behind what a message says of the example's own names and numbers; of times, their
/// minimum.
const RULES: [(Name, &str); 7] = [
    (("Cluster", "node"), "the name of a node of the cluster"),
    (("Cluster", "dead"), "4 intervals"),
    (("Cluster", "late"), "1 interval"),
    (("Cluster", "initial_dead"), "`dead`"),
    (("Group", "interface"), "one of `interfaces`"),
    (("Group", "nodes"), "the name of a node of the cluster"),
    (("Service", "hysteresis"), "a whole number below `quorum`"),
];

impl Accepts {
    /// From the message about a wrong value.
    fn of(message: &str) -> Self {
        let expected = message.split_once("expected ").map_or(message, |(_, expected)| expected);
        let range = |rest: &str| {
            let rest = rest.split([';', ',']).next()?.trim_end_matches(" in whole milliseconds").to_owned();
            rest.split_once(" to ").map(|(least, most)| (least.to_owned(), most.to_owned()))
        };
        if let Some(words) = expected.strip_prefix("one of ") {
            let words: Vec<String> = words.split(", ").map(str::to_owned).collect();
            let is_switch = words.iter().eq(SWITCH.iter().map(|(word, _)| word));
            return if is_switch { Self::Switch } else { Self::OneOf(words) };
        }
        if let Some((least, most)) = expected.strip_prefix("a whole number from ").and_then(range)
            && let (Ok(least), Ok(most)) = (least.parse(), most.parse())
        {
            return Self::Number { least, most };
        }
        if let Some((least, most)) = expected.strip_prefix("a time from ").and_then(range) {
            return Self::Time { least, most };
        }
        Self::Said(expected.to_owned())
    }

    /// The same for all files: what the message says is true for the example.
    fn in_general(mut self, name: Name) -> Self {
        if let Self::OneOf(words) = &mut self {
            let synonyms = SYNONYMS.iter().filter(|(of, _)| *of == name).flat_map(|(_, words)| *words);
            words.extend(synonyms.map(|word| (*word).to_owned()));
        }
        if let Self::Number { most, .. } = &mut self
            && let Some((_, of_ipv6)) = MOST_OF_IPV6.iter().find(|(of, _)| *of == name)
        {
            *most = *of_ipv6;
        }
        match (self, RULES.iter().find(|(of, _)| *of == name)) {
            (accepts, None) => accepts,
            (Self::Time { most, .. }, Some((_, least))) => Self::Time { least: (*least).to_owned(), most },
            (_, Some((_, rule))) => Self::Said((*rule).to_owned()),
        }
    }

    /// Whether the words of the example can be such a value.
    pub(super) fn is_value(&self, text: &str) -> bool {
        match self {
            Self::Text | Self::Said(_) => false,
            Self::OneOf(words) => words.iter().any(|word| word == text),
            Self::Switch => matches!(text, "on" | "off"),
            Self::Number { .. } => crate::values::whole::<u64>(text, 0..=u64::MAX).is_ok(),
            Self::Time { .. } => humantime::parse_duration(text).is_ok(),
        }
    }
}

/// Keys that mean nothing beside another one's default.
const WITH: [(Name, &str); 1] = [(("Server", "upper_threshold"), "lower_threshold")];

#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Item(usize),
}

/// The example that has every key.
pub(super) struct Explained {
    file: Value,
    /// Where a value of the key is.
    places: BTreeMap<Name, Vec<Step>>,
}

impl Explained {
    pub(super) fn of(text: &str, shape: &Shape) -> Self {
        let mut file: Value = serde_yaml::from_str(text).expect("the example is YAML");
        let mut places = BTreeMap::new();
        walk(shape, &file, &mut Vec::new(), &mut places);
        // It has no part in the other keys.
        if let Value::Mapping(map) = &mut file {
            map.remove("include");
        }
        places.remove(&("File", "include"));
        if let Err(error) = read(&file) {
            panic!("deploy/examples/full.yaml is refused:\n{error}");
        }
        Self { file, places }
    }

    pub(super) fn accepts(&self, name: Name) -> Accepts {
        let Some(place) = self.places.get(&name) else { return Accepts::Text };
        let mut file = self.file.clone();
        *at(&mut file, place) = Value::String(WRONG.to_owned());
        let text = serde_yaml::to_string(&file).expect("YAML");
        let map = SourceMap::of(&text);
        let position = place.iter().fold(map.root(), step).at();
        let Err(error) = Files::of(Document::new("full.yaml".into(), &text)).config() else {
            return Accepts::Text;
        };
        let here =
            |mistake: &&crate::Mistake| (mistake.line, mistake.column) == (position.line, position.column);
        let message = error.mistakes().iter().find(here).map(|mistake| mistake.message.as_str());
        message.map_or(Accepts::Text, Accepts::of).in_general(name)
    }

    /// Whether the file means the same with this value as without the key.
    pub(super) fn tried(&self, name: Name, value: &str) -> Result<(), String> {
        let Some((last, parents)) = self.places.get(&name).and_then(|place| place.split_last()) else {
            return Err("the example has no such key".to_owned());
        };
        let Step::Key(key) = last else { return Err("it is one of a list".to_owned()) };
        let mut without = self.file.clone();
        if let Value::Mapping(map) = at(&mut without, parents) {
            map.remove(key.as_str());
            WITH.iter().filter(|(of, _)| *of == name).for_each(|(_, other)| drop(map.remove(*other)));
        }
        let mut with = without.clone();
        at(&mut with, parents)[key.as_str()] = Value::String(value.to_owned());
        let (with, without) = (read(&with)?, read(&without)?);
        if with == without { Ok(()) } else { Err("without the key the configuration is another".to_owned()) }
    }
}

fn read(file: &Value) -> Result<Config, String> {
    let text = serde_yaml::to_string(file).expect("YAML");
    let config = Files::of(Document::new("full.yaml".into(), &text)).config();
    config.map_err(|error| error.to_string())
}

fn at<'v>(file: &'v mut Value, place: &[Step]) -> &'v mut Value {
    place.iter().fold(file, |value, step| match step {
        Step::Key(key) => &mut value[key.as_str()],
        Step::Item(index) => &mut value[*index],
    })
}

fn step<'m>(span: SourceSpan<'m>, step: &Step) -> SourceSpan<'m> {
    match step {
        Step::Key(key) => span.key(key),
        Step::Item(index) => span.item(*index),
    }
}

/// Finds the first value of each key that has scalars.
fn walk(shape: &Shape, value: &Value, path: &mut Vec<Step>, places: &mut BTreeMap<Name, Vec<Step>>) {
    match (shape, value) {
        (Shape::Structure { name, fields }, Value::Mapping(map)) => {
            for (key, shape) in fields {
                let Some(value) = map.get(*key) else { continue };
                path.push(Step::Key((*key).to_owned()));
                let within = match (shape, value) {
                    (Shape::Scalar, _) => Some(None),
                    (Shape::List(item), Value::Sequence(_)) if **item == Shape::Scalar => {
                        Some(Some(Step::Item(0)))
                    }
                    (Shape::ByName, Value::Mapping(map)) => {
                        let first = map.keys().next().and_then(Value::as_str);
                        first.map(|key| Some(Step::Key(key.to_owned())))
                    }
                    _ => None,
                };
                if let Some(within) = within {
                    let place = path.iter().cloned().chain(within).collect();
                    places.entry((*name, *key)).or_insert(place);
                }
                walk(shape, value, path, places);
                path.pop();
            }
        }
        (Shape::List(item), Value::Sequence(items)) => {
            for (index, value) in items.iter().enumerate() {
                path.push(Step::Item(index));
                walk(item, value, path, places);
                path.pop();
            }
        }
        (Shape::Either(shapes), value) => {
            shapes.iter().for_each(|shape| walk(shape, value, path, places));
        }
        _ => {}
    }
}

#[test]
fn what_is_expected_is_read_from_messages() {
    let time = |least: &str, most: &str| Accepts::Time { least: least.into(), most: most.into() };
    for (message, accepts) in [
        ("rise \"x\": expected a whole number from 1 to 100", Accepts::Number { least: 1, most: 100 }),
        (
            "dead \"x\": expected a time from 10ms to 1m 30s in whole milliseconds, such as 500ms, 3s or 15m; the minimum is 4",
            time("10ms", "1m 30s"),
        ),
        ("ops \"x\": expected one of on, off, yes, no, true, false", Accepts::Switch),
        ("stray \"x\": expected one of hash, pass", Accepts::OneOf(vec!["hash".into(), "pass".into()])),
        ("key: expected 32 digits", Accepts::Said("32 digits".into())),
        ("what else", Accepts::Said("what else".into())),
    ] {
        assert_eq!(Accepts::of(message), accepts, "{message}");
    }
}
