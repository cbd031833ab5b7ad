use boon::{Compiler, SchemaIndex, Schemas};
use lb_model::Scheduler;

use super::*;

fn compiled() -> (Schemas, SchemaIndex) {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("https://lb.invalid/lb.yaml.json", schema()).expect("a schema");
    let index = compiler.compile("https://lb.invalid/lb.yaml.json", &mut schemas);
    (schemas, index.unwrap_or_else(|error| panic!("{error:#}")))
}

/// As an editor reads it.
fn value(yaml: &str) -> Value {
    serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"))
}

#[test]
fn the_examples_are_valid() {
    let (schemas, index) = compiled();
    for text in [
        EXPLAINED,
        include_str!("../../../../deploy/examples/talk.yaml"),
        include_str!("../../../../deploy/examples/talk-cluster.yaml"),
        "interface: eth0\nmetrics: off\nservices: [{ vip: '192.0.2.10:80', check: { type: off }, servers: [{ address: 192.0.2.21 }] }]",
    ] {
        if let Err(error) = schemas.validate(&value(text), index) {
            panic!("{error:#}\n{text}");
        }
    }
}

#[test]
fn mistakes_are_found() {
    let (schemas, index) = compiled();
    for text in [
        "interfce: eth0",
        "xdp_mode: fast",
        "announce_rate: 5",
        "services: [{ vip: '192.0.2.10:80', schedulr: rr }]",
        "services: [{ vip: '192.0.2.10:80', scheduler: rrr }]",
        "services: [{ vip: '192.0.2.10:80', servers: { address: 192.0.2.21 } }]",
        "services: [{ vip: '192.0.2.10:80', check: { type: ping, rise: 101 } }]",
        "services: [{ vip: '192.0.2.10:80', check: [{ type: pong }] }]",
        "cluster: { hooks: { active: { program: [/bin/true] } } }",
    ] {
        assert!(schemas.validate(&value(text), index).is_err(), "{text}");
    }
}

/// Each key that the file may have is explained.
#[test]
fn every_key_is_explained_in_the_example() {
    let words = Words::of(EXPLAINED);
    let mut missing = Vec::new();
    let mut count = 0;
    each(&shape::of_file(), &mut |owner, key| {
        count += 1;
        if words.get(owner, key).is_none() {
            missing.push(format!("{owner}.{key}"));
        }
    });
    assert!(count > 150, "only {count} keys were found");
    assert!(missing.is_empty(), "not in deploy/examples/full.yaml, or without a comment: {missing:?}");
    let wlc = words.get("Service", "scheduler").expect("it is explained");
    assert!(
        wlc.starts_with("who gets a new connection; default wlc") && wlc.contains("twos of two"),
        "{wlc}"
    );
    assert_eq!(words.get("Timeouts", "fin_wait"), Some("the client has sent its FIN; default 120s"));
    assert!(
        words
            .get("File", "xdp_mode")
            .is_some_and(|text| text.starts_with("Where the XDP program is attached"))
    );
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

/// What values there are is said a second time here.
#[test]
fn choices_are_those_that_the_file_may_have() {
    let choices = |owner, key| values::of(owner, key)["enum"].as_array().expect("choices").clone();
    let schedulers: Vec<Value> = Scheduler::ALL.iter().map(|one| one.name().into()).collect();
    assert_eq!(choices("Service", "scheduler"), schedulers);
    let refused = |key: &str, value: &Value| {
        let value = value.as_str().map_or_else(|| value.to_string(), |text| format!("'{text}'"));
        let text = format!(
            "interface: eth0\nservices: [{{ vip: '192.0.2.10:80', {key}: {value}, servers: [{{ address: 192.0.2.21 }}] }}]"
        );
        let error = crate::parse(&text, "test").err().map(|error| error.to_string());
        error.filter(|error| error.contains("expected one of"))
    };
    for key in ["scheduler", "forward", "protocol", "stray", "ops"] {
        for value in choices("Service", key) {
            assert_eq!(refused(key, &value), None, "{key}: {value}");
        }
    }
    for value in choices("Check", "type") {
        let text = format!(
            "interface: eth0\nservices: [{{ vip: '192.0.2.10:80', check: {{ type: {value} }}, servers: [{{ address: 192.0.2.21 }}] }}]"
        );
        let error = crate::parse(&text, "test").err().map_or_else(String::new, |error| error.to_string());
        assert!(!error.contains("expected one of tcp"), "{value}: {error}");
    }
}
