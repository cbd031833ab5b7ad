//! `lb import` as users run it, beside the originals: ldirectord, which builds its table with a
//! stub of ipvsadm that records, and keepalived, which checks a file.

mod command;
mod keepalived;
mod ldirectord;
mod talk;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lb_lab::lab::director::binary;
use lb_lab::workspace;
use serde_json::Value;

/// What an import gave.
struct Imported {
    yaml: String,
    report: Value,
    succeeded: bool,
    said: String,
}

/// A line of the report.
struct Line {
    file: String,
    line: u64,
    text: String,
    fate: String,
    notes: String,
}

impl Imported {
    fn lines(&self) -> Vec<Line> {
        let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let lines = self.report["lines"].as_array().map_or(&[][..], Vec::as_slice);
        let line = |line: &Value| Line {
            file: text(line, "file"),
            line: line["line"].as_u64().unwrap_or(0),
            text: text(line, "text"),
            fate: text(line, "fate"),
            notes: line["notes"].to_string(),
        };
        lines.iter().map(line).collect()
    }

    fn count(&self, fate: &str) -> usize {
        self.lines().iter().filter(|line| line.fate == fate).count()
    }
}

/// `lb import` with these words, in `folder`, and the report as JSON.
fn import(words: &[&str], folder: &Path) -> Result<Imported> {
    let mut command = Command::new(binary()?);
    // A hosts file of its own: the machine's must not matter.
    command.arg("import").args(words).args(["--report", "json"]).current_dir(folder);
    if !words.contains(&"--hosts") {
        command.args(["--hosts", "/dev/null"]);
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Behind the report there may be the error.
    let mut values = serde_json::Deserializer::from_str(&said).into_iter::<Value>();
    let report = values.next().transpose().ok().flatten().unwrap_or(Value::Null);
    Ok(Imported { yaml: String::from_utf8(output.stdout)?, report, succeeded: output.status.success(), said })
}

/// A case of the importer's corpus: its folder, and the words of the command line.
struct Case {
    name: String,
    folder: PathBuf,
    words: Vec<String>,
}

impl Case {
    fn import(&self) -> Result<Imported> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        import(&words, &self.folder)
    }

    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }
}

/// The cases of a source.
fn cases(source: &str) -> Result<Vec<Case>> {
    let corpus = workspace::root().join("lb-userspace/import/tests/corpus");
    let mut cases = Vec::new();
    for entry in fs::read_dir(&corpus).with_context(|| format!("cannot read {}", corpus.display()))? {
        let folder = entry?.path();
        let words = fs::read_to_string(folder.join("case"))?;
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if words.first().is_some_and(|word| word == source) {
            cases.push(Case { name, folder, words });
        }
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    ensure!(!cases.is_empty(), "no case of {source} in {}", corpus.display());
    Ok(cases)
}
