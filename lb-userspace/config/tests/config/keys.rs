//! `full.yaml` has every key that the parser knows.

use std::collections::{BTreeMap, BTreeSet};

use serde_yaml::Value;

use super::*;

/// Asks the parser itself which keys it knows: its message for an unknown key lists the expected
/// ones.
#[test]
fn full_example_names_every_key() {
    let full: Value = serde_yaml::from_str(&example("full.yaml")).expect("checked by another test");
    let mut given = BTreeMap::new();
    collect_keys(&full, &mut Vec::new(), "", &mut given);
    for (place, (path, mut keys)) in given {
        // The short form of a list of one, told in a comment.
        if place.is_empty() {
            keys.insert("interface".to_owned());
        }
        assert_eq!(known_keys(&full, &path), keys, "keys at `{place}`");
    }
}

/// One step into a YAML document.
#[derive(Clone)]
enum Step {
    Key(String),
    Item(usize),
}

/// Mappings whose keys are names of nodes, and numbers.
const FREE_KEYS: [&str; 2] = [".cluster.paths[].addresses", ".services[].servers[].quic_server_ids"];

/// By mapping, its keys and the path of one such mapping; all items of a list count as one mapping.
fn collect_keys(
    value: &Value,
    path: &mut Vec<Step>,
    place: &str,
    found: &mut BTreeMap<String, (Vec<Step>, BTreeSet<String>)>,
) {
    match value {
        Value::Mapping(map) if !FREE_KEYS.contains(&place) => {
            let (_, keys) = found.entry(place.to_owned()).or_insert((path.clone(), BTreeSet::new()));
            keys.extend(map.keys().map(|key| key.as_str().expect("a text").to_owned()));
            for (key, value) in map {
                let key = key.as_str().expect("a text");
                path.push(Step::Key(key.to_owned()));
                collect_keys(value, path, &format!("{place}.{key}"), found);
                path.pop();
            }
        }
        Value::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(Step::Item(index));
                collect_keys(item, path, &format!("{place}[]"), found);
                path.pop();
            }
        }
        _ => {}
    }
}

/// The keys that the parser expects in the mapping at `path`.
fn known_keys(full: &Value, path: &[Step]) -> BTreeSet<String> {
    let mut file = full.clone();
    let map = path.iter().fold(&mut file, |value, step| match step {
        Step::Key(key) => &mut value[key.as_str()],
        Step::Item(index) => &mut value[*index],
    });
    const UNLIKE_ANY: &str = "0123456789012345678901234567890123456789";
    map[UNLIKE_ANY] = Value::Null;
    let (_, message) = only_message(&serde_yaml::to_string(&file).expect("a value"));
    let (_, expected) =
        message.split_once(&format!("unknown key `{UNLIKE_ANY}`, expected ")).expect(&message);
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
