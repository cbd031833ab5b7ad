//! lb.yaml(5), from the configuration's schema.

use anyhow::{Context as _, Result};
use clap_mangen::roff::{Roff, bold, roman};
use serde_json::Value;

/// The page.
pub(super) fn page() -> Result<String> {
    let mut roff = Roff::new();
    roff.control("TH", ["lb.yaml", "5", "", "lb", "lb"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("lb.yaml - configuration file of lb(8)")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "A YAML file, by default /etc/lb/lb.yaml. Times are a number and a unit (500ms, 3s, 15m, 1h, 1day); a bare number is \
         seconds. Whole numbers may have underscores. A key that is not listed here is refused: lb check tells every mistake \
         with its line and column. Files that `include` names can have groups and services only. In values ${env:NAME} stands \
         for a variable of lb's environment and ${file:PATH} for what a file holds; $${ stands for ${.",
    )]);
    let schema = serde_json::from_str(lb_config::SCHEMA).context("reading the schema")?;
    let mut waiting = vec![(String::new(), schema)];
    // Structures in the order in which they are met, each under its path.
    while !waiting.is_empty() {
        let (path, structure) = waiting.remove(0);
        match path.as_str() {
            "" => roff.control("SH", ["KEYS"]),
            path => roff.control("SH", [path]),
        };
        for (key, value) in properties(&structure) {
            roff.control("TP", []);
            roff.text([bold(key.as_str())]);
            let text = value["description"].as_str().unwrap_or_default();
            let choices = choices(value);
            roff.text([roman(format!("{text}{choices}"))]);
            let within = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            waiting.extend(structures(value, &within));
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("lb(8)")]);
    let mut page = Vec::new();
    roff.to_writer(&mut page).context("writing the page")?;
    String::from_utf8(page).context("the page is not UTF-8")
}

fn properties(structure: &Value) -> impl Iterator<Item = (&String, &Value)> {
    structure["properties"].as_object().into_iter().flatten()
}

/// What a key holds, with its path: `services[]`.
fn structures(value: &Value, path: &str) -> Vec<(String, Value)> {
    let either = value["anyOf"].as_array().into_iter().flatten();
    let found = either.flat_map(|shape| structures(shape, path)).next();
    if value["properties"].is_object() {
        vec![(path.to_owned(), value.clone())]
    } else if value["items"].is_object() {
        structures(&value["items"], &format!("{path}[]"))
    } else {
        found.into_iter().collect()
    }
}

/// The words of which it is one, or the range in which it is.
fn choices(value: &Value) -> String {
    let words = |value: &Value| -> Vec<String> {
        let words = value["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
        words.map(str::to_owned).collect()
    };
    let either = value["anyOf"].as_array().into_iter().flatten();
    let words: Vec<String> = words(value).into_iter().chain(either.flat_map(words)).collect();
    match (&value["minimum"], &value["maximum"]) {
        (Value::Number(least), Value::Number(most)) => format!(" [{least} to {most}]"),
        _ if words.is_empty() => String::new(),
        _ => format!(" [{}]", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_has_every_structure() {
        let page = super::page().expect("a page");
        for wanted in [
            "KEYS",
            "services[]",
            "services[].check",
            "services[].servers[]",
            "cluster.paths[]",
            "[rr, wrr, ",
            "[0 to 65535]",
        ] {
            assert!(page.contains(wanted), "{wanted} is missing:\n{page}");
        }
    }
}
