//! The table as a JSON schema.

use serde_json::{Map, Value, json};

use super::shape::Shape;
use super::values::Accepts;
use super::{Key, Table};

pub(super) fn of(table: &Table) -> Value {
    let mut schema = of_shape(table, &table.file, None);
    if let Value::Object(members) = &mut schema {
        members.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        members.insert("$id".into(), "https://lb.invalid/lb.yaml.json".into());
        members.insert("title".into(), "lb.yaml".into());
        let reference = json!({
            "description": "A variable of the environment, ${env:NAME}, or what a file holds, ${file:PATH}.",
            "type": "string",
            "pattern": "\\$\\{"
        });
        members.insert("$defs".into(), json!({ "reference": reference }));
    }
    schema
}

/// `key`: whose value has this shape.
fn of_shape(table: &Table, shape: &Shape, key: Option<&Key>) -> Value {
    match shape {
        Shape::Scalar => of_scalar(key),
        Shape::List(item) => json!({ "type": "array", "items": of_shape(table, item, key) }),
        Shape::ByName => json!({ "type": "object", "additionalProperties": of_scalar(key) }),
        Shape::Either(shapes) => {
            let shapes: Vec<Value> = shapes.iter().map(|shape| of_shape(table, shape, key)).collect();
            json!({ "anyOf": shapes })
        }
        Shape::Structure { name, fields } => {
            let fields = fields.iter().map(|(field, shape)| {
                let key = table.key(name, field);
                let mut schema = of_shape(table, shape, Some(key));
                if let Value::Object(members) = &mut schema {
                    members.insert("description".into(), key.words.clone().into());
                    if let Some(default) = default(key) {
                        members.insert("default".into(), default);
                    }
                }
                ((*field).to_owned(), schema)
            });
            let fields: Map<String, Value> = fields.collect();
            json!({ "type": "object", "properties": fields, "additionalProperties": false })
        }
    }
}

fn default(key: &Key) -> Option<Value> {
    let text = key.default.as_deref().filter(|_| key.is_tried)?;
    match key.accepts {
        Accepts::Number { .. } => text.replace('_', "").parse::<u64>().ok().map(Value::from),
        _ => Some(text.into()),
    }
}

/// References may stand for any of them.
fn of_scalar(key: Option<&Key>) -> Value {
    let any = json!({ "type": ["string", "number", "boolean"] });
    let or_reference =
        |words: Value| json!({ "anyOf": [{ "enum": words }, { "$ref": "#/$defs/reference" }] });
    match key.map(|key| &key.accepts) {
        None | Some(Accepts::Text | Accepts::Said(_)) => any,
        Some(Accepts::OneOf(words)) => or_reference(json!(words)),
        Some(Accepts::Switch) => {
            or_reference(json!(["on", "off", "yes", "no", "true", "false", true, false]))
        }
        // Of 1_000_000 editors that know YAML 1.2 make a string.
        Some(Accepts::Number { least, most }) => json!({
            "type": ["integer", "string"], "minimum": least, "maximum": most, "pattern": "^[0-9][0-9_]*$|\\$\\{"
        }),
        Some(Accepts::Time { .. }) => {
            json!({ "type": ["string", "number"], "minimum": 0, "pattern": "^[0-9]|\\$\\{" })
        }
    }
}

#[cfg(test)]
mod tests {
    use jsonschema::Validator;

    use super::super::EXPLAINED;
    use super::*;

    fn compiled() -> Validator {
        let schema = serde_json::from_str(crate::SCHEMA).expect("JSON");
        jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As an editor reads it.
    fn value(yaml: &str) -> Value {
        serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"))
    }

    const OF_IPV6: &str = "interface: eth0\nservices: [{ vip: '[2001:db8::10]:80', persistence: { prefix: 128 }, fallback: local }]";

    #[test]
    fn a_prefix_of_ipv6_is_as_long_for_lb_as_for_editors() {
        assert!(crate::parse(OF_IPV6, "lb.yaml").is_ok());
        let longer = OF_IPV6.replace("128", "129");
        assert!(crate::parse(&longer, "lb.yaml").is_err() && !compiled().is_valid(&value(&longer)));
    }

    #[test]
    fn the_examples_are_valid() {
        let schema = compiled();
        for text in [
            EXPLAINED,
            include_str!("../../../../deploy/examples/talk.yaml"),
            include_str!("../../../../deploy/examples/talk-cluster.yaml"),
            "interface: eth0\nmetrics: off\nservices: [{ vip: '192.0.2.10:80', check: { type: off }, servers: [{ address: 192.0.2.21 }] }]",
            OF_IPV6,
            "interface: '${env:INTERFACE}'\nconnections: '${env:SIZE}'\ninclude: [services.d/*.yaml]\nservices: [{ vip: '${env:VIP}', \
             scheduler: '${env:HOW}', ops: '${env:OPS}', drain: '${file:/etc/lb/drain}' }]",
        ] {
            let errors: Vec<String> = schema
                .iter_errors(&value(text))
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{errors:#?}\n{text}");
        }
    }

    #[test]
    fn mistakes_are_found() {
        let schema = compiled();
        for text in [
            "interfce: eth0",
            "xdp_mode: fast",
            "announce_rate: 5",
            "include: services.d/*.yaml",
            "services: [{ vip: '192.0.2.10:80', schedulr: rr }]",
            "services: [{ vip: '192.0.2.10:80', scheduler: rrr }]",
            "services: [{ vip: '192.0.2.10:80', servers: { address: 192.0.2.21 } }]",
            "services: [{ vip: '192.0.2.10:80', check: { type: ping, rise: 101 } }]",
            "services: [{ vip: '192.0.2.10:80', check: [{ type: pong }] }]",
            "services: [{ vip: '192.0.2.10:80', damping: { falls: 1 } }]",
            "cluster: { hooks: { active: { program: [/bin/true] } } }",
        ] {
            assert!(!schema.is_valid(&value(text)), "{text}");
        }
    }
}
