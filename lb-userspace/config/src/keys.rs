//! The table of keys: name, place, values, default, meaning. From it come
//! deploy/schema/lb.schema.json, and with that lb.yaml(5), and docs/configuration.md.
//!
//! The table has one source for each thing. Which keys there are comes from `yaml.rs` itself
//! ([`shape`]), what values they take from what validation says of a wrong one ([`values`]), and
//! what they mean from the comments of deploy/examples/full.yaml ([`words`]). Whether a default is
//! true is tried out.

mod document;
mod schema;
mod shape;
mod values;
mod words;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use self::shape::Shape;
use self::values::{Accepts, Explained};
use self::words::Words;

/// The file that explains every key.
const EXPLAINED: &str = include_str!("../../../deploy/examples/full.yaml");

/// The structure of `yaml.rs` that has a key, and the key.
type Name = (&'static str, &'static str);

struct Key {
    /// Of each item, if it is a list of scalars; of each value, if it is a mapping of those.
    accepts: Accepts,
    /// In the words of the example.
    default: Option<String>,
    /// Whether the default is a value that stands for an absent key.
    is_tried: bool,
    words: String,
}

/// It takes seconds.
static TABLE: LazyLock<Table> = LazyLock::new(Table::make);

struct Table {
    /// Where keys are.
    file: Shape,
    keys: BTreeMap<Name, Key>,
}

impl Table {
    fn make() -> Self {
        let file = shape::of_file();
        let words = Words::of(EXPLAINED);
        let explained = Explained::of(EXPLAINED, &file);
        let mut names = Vec::new();
        each(&file, &mut |owner, key| names.push((owner, key)));
        let (mut keys, mut wrong) = (BTreeMap::new(), Vec::new());
        for name in names {
            if keys.contains_key(&name) {
                continue;
            }
            let accepts = explained.accepts(name);
            let mut default = words.default_of(name).map(str::to_owned);
            let value = default.as_deref().and_then(|text| text.split([',', ':']).next());
            let value = value.filter(|value| accepts.is_value(value)).map(str::to_owned);
            let is_tried = value.is_some();
            if let Some(value) = value {
                if let Err(why) = explained.tried(name, &value) {
                    wrong.push(format!("{name:?}: default {value}: {why}"));
                }
                default = Some(value);
            }
            let words = words.get(name.0, name.1).unwrap_or_default().to_owned();
            keys.insert(name, Key { accepts, default, is_tried, words });
        }
        assert!(
            wrong.is_empty(),
            "deploy/examples/full.yaml names defaults that are none:\n{}",
            wrong.join("\n")
        );
        Self { file, keys }
    }

    fn key(&self, owner: &'static str, key: &'static str) -> &Key {
        self.keys.get(&(owner, key)).unwrap_or_else(|| panic!("{owner} has no key {key}"))
    }
}

fn each(shape: &Shape, found: &mut impl FnMut(&'static str, &'static str)) {
    match shape {
        Shape::Scalar | Shape::ByName => {}
        Shape::List(item) => each(item, found),
        Shape::Either(shapes) => shapes.iter().for_each(|shape| each(shape, found)),
        Shape::Structure { name, fields } => {
            for (key, shape) in fields {
                found(name, key);
                each(shape, found);
            }
        }
    }
}

/// Each key that the file may have is explained, and stands in the table with what is known of it.
#[test]
fn the_table_says_what_there_is_to_say() {
    let table = &*TABLE;
    let missing: Vec<&Name> =
        table.keys.iter().filter(|(_, key)| key.words.is_empty()).map(|(name, _)| name).collect();
    assert!(missing.is_empty(), "not in deploy/examples/full.yaml, or without a comment: {missing:?}");
    assert!(table.keys.len() > 150, "only {} keys were found", table.keys.len());
    let scheduler = table.key("Service", "scheduler");
    assert!(scheduler.words.starts_with("who gets a new connection; default wlc"), "{}", scheduler.words);
    assert!(scheduler.words.contains("twos of two"), "{}", scheduler.words);
    let names = lb_model::Scheduler::ALL.map(|scheduler| scheduler.name().to_owned());
    assert_eq!(scheduler.accepts, Accepts::OneOf(names.to_vec()));
    assert_eq!((scheduler.default.as_deref(), scheduler.is_tried), (Some("wlc"), true));
    let fin_wait = table.key("Timeouts", "fin_wait");
    assert_eq!(fin_wait.words, "the client has sent its FIN; default 120s");
    assert_eq!(fin_wait.accepts, Accepts::Time { least: "1s".into(), most: "7days".into() });
    let rise = table.key("Check", "rise");
    assert_eq!((&rise.accepts, rise.is_tried), (&Accepts::Number { least: 1, most: 100 }, true));
    assert_eq!(table.key("Service", "ops").accepts, Accepts::Switch);
    let tried = table.keys.values().filter(|key| key.is_tried).count();
    assert!(tried > 50, "only {tried} defaults were tried");
}

/// What is expected of a key holds for every file, not for the example alone.
#[test]
fn the_table_has_rules_and_not_what_the_example_makes_of_them() {
    let accepts = |owner, key| TABLE.key(owner, key).accepts.clone();
    let time = |least: &str| Accepts::Time { least: least.into(), most: "10m".into() };
    assert_eq!(accepts("Cluster", "dead"), time("4 intervals"));
    assert_eq!(accepts("Cluster", "late"), time("1 interval"));
    assert_eq!(accepts("Cluster", "initial_dead"), time("`dead`"));
    assert_eq!(accepts("Service", "hysteresis"), Accepts::Said("a whole number below `quorum`".into()));
    assert_eq!(accepts("Persistence", "prefix"), Accepts::Number { least: 1, most: 128 });
    for (name, key) in &TABLE.keys {
        if let Accepts::Said(words) = &key.accepts {
            let rule = words.split(", such as ").next().unwrap_or_default();
            let own = ["lb1", "lb2", "eth1", "www1", "which is"].iter().find(|own| rule.contains(**own));
            assert_eq!(own, None, "{name:?}: {words}");
        }
    }
}

/// `LB_BLESS=1` rewrites the files; read the difference before committing it.
#[test]
fn schema_and_reference_are_those_of_the_table() {
    let table = &*TABLE;
    let mut schema = serde_json::to_string_pretty(&schema::of(table)).expect("JSON");
    schema.push('\n');
    for (name, text) in
        [("deploy/schema/lb.schema.json", schema), ("docs/configuration.md", document::of(table))]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
        if std::env::var_os("LB_BLESS").is_some() {
            fs::write(&path, &text).expect("a writable source tree");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "{name} is not what the keys are: `LB_BLESS=1 cargo test -p lb-config` writes it"
        );
    }
}
