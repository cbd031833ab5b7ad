//! The example for containers is a Compose file, and gives `lb` what its unit gives it.

use std::collections::BTreeSet;
use std::fs;

use lb_lab::workspace::root;
use serde_json::Value;

/// The schema of the Compose specification: what Docker and Podman go by.
const SCHEMA: &str = include_str!("../../fixtures/compose/compose-spec.json");

fn compose() -> Value {
    let path = root().join("deploy/container/compose.yaml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_yaml::from_str(&text).expect("YAML")
}

#[test]
fn the_compose_file_is_one_by_the_specification() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    let schema = jsonschema::draft7::new(&schema).expect("a schema");
    let mut compose = compose();
    let wrong: Vec<String> = schema.iter_errors(&compose).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The schema finds what is wrong.
    compose["services"]["lb"]["cap_ad"] = Value::Null;
    assert!(!schema.is_valid(&compose));
}

#[test]
fn a_container_has_the_capabilities_of_the_unit() {
    let unit = fs::read_to_string(root().join("deploy/systemd/lb.service")).expect("the unit");
    let bound = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).expect("the set");
    let of_unit: BTreeSet<&str> = bound.split(' ').filter_map(|name| name.strip_prefix("CAP_")).collect();
    let compose = compose();
    let service = &compose["services"]["lb"];
    let added = service["cap_add"].as_array().expect("a list");
    let of_container: BTreeSet<&str> = added.iter().filter_map(Value::as_str).collect();
    assert_eq!(of_container, of_unit);
    assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]));
    assert_eq!(service["network_mode"], "host", "the interfaces are the host's");
}
