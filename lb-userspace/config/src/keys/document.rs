//! The table as a document for people: docs/configuration.md.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use super::shape::Shape;
use super::values::Accepts;
use super::{Key, Table};

const HEAD: &str = "\
# Configuration reference

Every key of `lb`'s configuration file, by default `/etc/lb/lb.yaml`. This page is written from the program's own table of keys by
`LB_BLESS=1 cargo test -p lb-config`, like the JSON schema `deploy/schema/lb.schema.json` (`lb config schema`) and the manual page
lb.yaml(5) (`lb man --out FOLDER`); `deploy/examples/full.yaml` shows all keys in one file. `lb check FILE` tells every mistake of a
file with its line and column, `lb check --json FILE` tells programs.

- A time is a number with a unit: `500ms`, `3s`, `15m`, `1h`, `1day`; a bare number is seconds. Whole numbers may have underscores.
- `[]` in a path stands for each item of a list.
- A key that is not listed is refused, with the one that was probably meant.
- Editors with a YAML language server complete keys and values, and mark mistakes, in a file whose first line is
  `# yaml-language-server: $schema=FILE`, where `FILE` is the path of `lb.schema.json`.

## Several files

`include` names further files by patterns (`*`, `?`, `[abc]`, no `**`); relative ones begin from the folder of the file. They are
taken in the order of the list, those of one pattern by name, each file once; hidden files are left out. An included file can have
`groups` and `services` only, which go on where those of the first file end; it includes nothing, and anchors do not reach from one
file into another. A pattern that matches no file is a warning. A mistake is told with the name of its file; where two files give the
same name or address, the mistake tells of both places. A director watches all of these files: when one is added, changed or removed, it
reloads the configuration.

## Values from elsewhere

In a value `${env:NAME}` stands for a variable of the environment that `lb` was started with, and `${file:PATH}` for what a file
holds, without the line's end at its end; relative paths begin from the folder of the file that has the reference. What is not set or
cannot be read is a mistake, and `$${` stands for `${`. Within brackets and braces such a value must be in quotes, as in
`{ address: '${env:WWW1}' }`. Keys have no references. Messages show a reference as it stands in the file, not what it stands for.
The director watches files that are named this way, and the lists of clients of `allow_file` and `deny_file`, like included ones. A
file that stands for a value has up to 64 KiB, a list of clients up to 16 MiB.

`lb check` looks for variables in its own environment, not in the director's: a variable that only the director's unit sets is a mistake
there. `lb save` needs no variables, because the director tells it what to write.
";

pub(super) fn of(table: &Table) -> String {
    let mut text = HEAD.to_owned();
    let mut headings = BTreeMap::from([("File", String::new())]);
    let mut waiting = VecDeque::from([("File", &table.file)]);
    // Structures in the order in which they are met, each once.
    while let Some((name, shape)) = waiting.pop_front() {
        let Shape::Structure { fields, .. } = shape else { continue };
        let path = headings[name].clone();
        let heading = if path.is_empty() { "The file".to_owned() } else { format!("`{path}`") };
        let _ = write!(text, "\n## {heading}\n\n| key | value | default | meaning |\n|---|---|---|---|\n");
        for (field, shape) in fields {
            let key = table.key(name, field);
            let within = if path.is_empty() { (*field).to_owned() } else { format!("{path}.{field}") };
            for (name, path, shape) in structures(shape, &within) {
                headings.entry(name).or_insert_with(|| {
                    waiting.push_back((name, shape));
                    path
                });
            }
            let values = values(shape, key, &headings);
            let meaning = cell(&key.words);
            let _ = writeln!(text, "| `{field}` | {} | {} | {meaning} |", cell(&values), cell(&default(key)));
        }
    }
    text
}

/// The structures in a shape: their names and paths.
fn structures<'s>(shape: &'s Shape, path: &str) -> Vec<(&'static str, String, &'s Shape)> {
    match shape {
        Shape::Scalar | Shape::ByName => Vec::new(),
        Shape::Structure { name, .. } => vec![(name, path.to_owned(), shape)],
        Shape::List(item) => structures(item, &format!("{path}[]")),
        // One of several that are the same is described by itself.
        Shape::Either(shapes) => shapes.iter().flat_map(|shape| structures(shape, path)).take(1).collect(),
    }
}

/// `headings`: where structures are described, by their names.
fn values(shape: &Shape, key: &Key, headings: &BTreeMap<&'static str, String>) -> String {
    match shape {
        Shape::Scalar => of_scalar(&key.accepts),
        Shape::List(item) => format!("list: {}", values(item, key, headings)),
        Shape::ByName => format!("mapping: {}", of_scalar(&key.accepts)),
        Shape::Either(shapes) => {
            let each = shapes.iter().map(|shape| match shape {
                // A section that can be switched.
                Shape::Scalar => "`on`, `off`".to_owned(),
                shape => values(shape, key, headings),
            });
            each.collect::<Vec<_>>().join(", or ")
        }
        Shape::Structure { name, .. } => format!("`{}`", headings[name]),
    }
}

fn of_scalar(accepts: &Accepts) -> String {
    match accepts {
        Accepts::Text => "text".to_owned(),
        Accepts::OneOf(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Accepts::Switch => "`on`, `off`".to_owned(),
        Accepts::Number { least, most } => format!("number, {least} to {most}"),
        Accepts::Time { least, most } => format!("time, {least} to {most}"),
        Accepts::Said(words) => words.clone(),
    }
}

fn default(key: &Key) -> String {
    match &key.default {
        Some(text) if key.is_tried => format!("`{text}`"),
        Some(text) => text.clone(),
        None if key.words.split("; ").any(|part| part == "required") => "required".to_owned(),
        None => String::new(),
    }
}

/// In one cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
