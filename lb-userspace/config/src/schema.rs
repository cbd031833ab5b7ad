//! The shape of the file as a JSON schema, for editors and for programs that write it.
//!
//! Which keys there are comes from `yaml.rs` itself ([`shape`]), what they mean from
//! deploy/examples/full.yaml ([`words`]), and what values they take from [`values`].

mod shape;
mod values;
mod words;

use serde_json::{Map, Value, json};

use self::shape::Shape;
use self::words::Words;

/// The file that explains every key.
const EXPLAINED: &str = include_str!("../../../deploy/examples/full.yaml");

/// Of the whole file, as draft 2020-12 has it.
pub fn schema() -> Value {
    let words = Words::of(EXPLAINED);
    let mut schema = of(&shape::of_file(), &words, "File", "");
    if let Value::Object(members) = &mut schema {
        members.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        members.insert("$id".into(), "https://lb.invalid/lb.yaml.json".into());
        members.insert("title".into(), "lb.yaml".into());
    }
    schema
}

/// `owner`: the structure that has `key`.
fn of(shape: &Shape, words: &Words, owner: &'static str, key: &'static str) -> Value {
    match shape {
        Shape::Scalar => values::of(owner, key),
        Shape::List(item) => json!({ "type": "array", "items": of(item, words, owner, key) }),
        Shape::ByName => json!({ "type": "object", "additionalProperties": values::any() }),
        Shape::Either(shapes) => {
            let shapes: Vec<Value> = shapes.iter().map(|shape| of(shape, words, owner, key)).collect();
            json!({ "anyOf": shapes })
        }
        Shape::Structure { name, fields } => {
            let fields = fields.iter().map(|(key, shape)| {
                let mut schema = of(shape, words, name, key);
                if let (Value::Object(members), Some(text)) = (&mut schema, words.get(name, key)) {
                    members.insert("description".into(), text.into());
                }
                ((*key).to_owned(), schema)
            });
            let fields: Map<String, Value> = fields.collect();
            json!({ "type": "object", "properties": fields, "additionalProperties": false })
        }
    }
}

#[cfg(test)]
mod tests;
