//! What commands print with `--json`, and a report as JSON, as JSON schemas.

use anyhow::{Context as _, Result};
use clap::builder::PossibleValue;
use lb_api::connections::Connection;
use lb_api::events::Record;
use lb_api::schema;
use lb_api::status::AlertTest;
use lb_api::top::TopClient;
use lb_api::trace::Packet;
use lb_api::wire::Overlay;
use lb_import::Report;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::check::Checked;
use super::doctor::Seen;
use super::probe::Probed;
use super::reload::Found;
use super::status::Watched;

/// What a command prints as JSON: one object, or one a line.
struct Shape {
    command: &'static str,
    /// The option that has it print so.
    option: &'static str,
    /// The object's field `schema`.
    word: &'static str,
    /// Makes the schema of all other fields.
    fields: fn(SchemaGenerator) -> Schema,
}

macro_rules! shape {
    ($command:literal, $option:literal, $word:expr, $object:ty) => {
        Shape {
            command: $command,
            option: $option,
            word: $word,
            fields: |generator| generator.into_root_schema_for::<$object>(),
        }
    };
    ($command:literal, $word:expr, $object:ty) => {
        shape!($command, "--json", $word, $object)
    };
}

/// All of them; a test looks for commands that are missing.
const SHAPES: [Shape; 13] = [
    shape!("alerts test", schema::ALERT_TEST, AlertTest),
    shape!("check", schema::CHECK, Checked),
    shape!("connections", schema::CONNECTION, Connection),
    shape!("diff", schema::DIFF, Found<'static>),
    shape!("doctor", schema::DOCTOR, Seen<'static>),
    shape!("events", schema::EVENT, Record),
    shape!("import", "--report json", schema::IMPORT, Report),
    shape!("overlay show", schema::OVERLAY, Overlay),
    shape!("probe", schema::PROBE, Probed<'static>),
    shape!("reload", schema::RELOAD, Found<'static>),
    shape!("status", schema::STATUS, Watched<'static>),
    shape!("top-clients", schema::CLIENT, TopClient),
    shape!("trace", schema::PACKET, Packet),
];

/// The words that [`json_schema`] takes.
pub(super) fn words() -> Vec<PossibleValue> {
    let word = |shape: &Shape| {
        let Shape { command, option, .. } = shape;
        PossibleValue::new(shape.word).help(format!("what `lb {command} {option}` prints"))
    };
    SHAPES.iter().map(word).collect()
}

/// The JSON schema of the shape that `word` names.
pub(super) fn json_schema(word: &str) -> Result<String> {
    let shape = SHAPES.iter().find(|shape| shape.word == word);
    let shape = shape.with_context(|| format!("no command prints {word:?}"))?;
    Ok(serde_json::to_string_pretty(&shape.json_schema()).context("writing the schema")? + "\n")
}

impl Shape {
    /// Of what is written: a field that may be left out is not required.
    fn json_schema(&self) -> Value {
        let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
        let mut schema = (self.fields)(generator).to_value();
        schema["title"] = format!("lb {} {}", self.command, self.option).into();
        schema["properties"]["schema"] = json!({ "const": self.word });
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.insert(0, "schema".into());
        }
        schema
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;
    use serde::Serialize;

    use super::super::Cli;
    use super::*;
    use crate::observe::samples;

    /// Whether it is `--json`, or has a report in that form. The log's form is the log's.
    fn is_json(argument: &clap::Arg) -> bool {
        let takes_json = || argument.get_possible_values().iter().any(|value| value.get_name() == "json");
        match argument.get_long() {
            Some("json") => true,
            Some("log-format") | None => false,
            Some(_) => takes_json(),
        }
    }

    /// Commands that print JSON, each with a blank before it.
    fn with_json(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
        for below in command.get_subcommands() {
            let path = format!("{path} {}", below.get_name());
            if below.get_arguments().any(is_json) {
                found.insert(path.clone());
            }
            with_json(below, &path, found);
        }
    }

    #[test]
    fn every_command_that_prints_json_has_a_shape() {
        let mut found = BTreeSet::new();
        with_json(&Cli::command(), "", &mut found);
        let known: BTreeSet<String> = SHAPES.iter().map(|shape| format!(" {}", shape.command)).collect();
        assert_eq!(found, known);
        let words: BTreeSet<&str> = SHAPES.iter().map(|shape| shape.word).collect();
        assert_eq!(words.len(), SHAPES.len(), "each has a word of its own");
    }

    /// What is wrong with an object, by the schema of `word`.
    fn wrong(word: &str, object: &Value) -> Vec<String> {
        let schema: Value = serde_json::from_str(&json_schema(word).expect(word)).expect("JSON");
        let validator =
            jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{word}: {error}"));
        let errors = validator.iter_errors(object);
        errors.map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    fn printed<T: Serialize>(word: &'static str, object: &T) -> Value {
        serde_json::from_str(&schema::line(word, object).expect("JSON")).expect("JSON")
    }

    #[test]
    fn every_schema_is_one_and_wants_its_own_word() {
        for Shape { word, .. } in &SHAPES {
            assert_ne!(wrong(word, &json!({})), Vec::<String>::new(), "{word}");
            let other = wrong(word, &json!({ "schema": "lb/other/1" }));
            assert!(other.iter().any(|error| error.starts_with("/schema: ")), "{word}: {other:?}");
        }
    }

    /// An object that lacks a field, or has another type there, does not pass.
    #[test]
    fn what_is_printed_is_as_its_schema_says() {
        let cluster = lb_api::status::Status { cluster: Some(samples::directors()), ..samples::cluster() };
        let status = printed(schema::STATUS, &cluster);
        assert_eq!(wrong(schema::STATUS, &status), [""; 0]);
        let mut long = status.clone();
        long["uptime_s"] = "long".into();
        assert!(wrong(schema::STATUS, &long)[0].starts_with("/uptime_s: "));
        let mut without = status;
        without.as_object_mut().expect("an object").remove("table");
        assert_eq!(wrong(schema::STATUS, &without).len(), 1);
        assert_eq!(wrong(schema::PACKET, &printed(schema::PACKET, &Packet::default())), [""; 0]);
        assert_eq!(wrong(schema::OVERLAY, &printed(schema::OVERLAY, &Overlay::default())), [""; 0]);
        let source = lb_import::OriginalFile {
            name: "rules".to_owned(),
            node: None,
            text: "-A -t 192.0.2.10:80 -s wlc\n-a -t 192.0.2.10:80 -r 192.0.2.21 -g -w 1\n".to_owned(),
        };
        let known = lb_import::Known::default();
        let find = &mut |_: &str, _: &str| Err(String::new());
        let imported = lb_import::import(lb_import::Original::Ipvsadm, &[source], &known, find);
        let report = printed(schema::IMPORT, &imported.report);
        assert_eq!(report["lines"].as_array().map(Vec::len), Some(2), "{report}");
        assert_eq!(wrong(schema::IMPORT, &report), [""; 0]);
        let mut other = report;
        other["lines"][0]["fate"] = "gone".into();
        assert_eq!(wrong(schema::IMPORT, &other).len(), 1);
    }
}
