//! What became of each line of the source.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

/// A line of a source file: the number of the file in the order of reading, and the line, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct At {
    pub file: usize,
    pub line: usize,
}

/// What became of a line. Of a line that several things became of, the last one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// `lb` needs nothing of the kind.
    NotNeeded,
    /// The YAML has the same.
    Kept,
    /// The YAML has it in another way, which the note tells.
    Changed,
    /// The YAML lacks it; the note tells what that means.
    Lost,
}

impl Fate {
    pub const ALL: [Self; 4] = [Self::Kept, Self::Changed, Self::NotNeeded, Self::Lost];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::NotNeeded => "not needed",
            Self::Changed => "changed",
            Self::Lost => "lost",
        }
    }
}

/// A line of the source in the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Entry {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// The line without blanks at its ends; secrets in it are replaced by `…`.
    pub text: String,
    pub fate: Fate,
    /// What the line has become, why it is not needed, or what its loss means.
    pub notes: Vec<String>,
}

/// What became of all lines that are not blank, in the order of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    pub lines: Vec<Entry>,
    /// What the YAML says that no line of the source did.
    pub assumed: Vec<String>,
}

impl Report {
    /// Number of lines with this fate.
    pub fn count(&self, fate: Fate) -> usize {
        self.lines.iter().filter(|entry| entry.fate == fate).count()
    }

    /// For people: a paragraph for each line, then the sum.
    pub fn readable(&self) -> String {
        let mut text = String::new();
        let place = |entry: &Entry| format!("{}:{}", entry.file, entry.line);
        let widest = self.lines.iter().map(|entry| place(entry).chars().count()).max().unwrap_or(0).min(40);
        for entry in &self.lines {
            let _ = writeln!(text, "{:widest$}  {:10}  {}", place(entry), entry.fate.name(), entry.text);
            for note in &entry.notes {
                let _ = writeln!(text, "{:widest$}  {:10}    {note}", "", "");
            }
        }
        for assumed in &self.assumed {
            let _ = writeln!(text, "assumed: {assumed}");
        }
        let counts = Fate::ALL.map(|fate| format!("{} {}", self.count(fate), fate.name()));
        let _ = writeln!(text, "{} lines: {}", self.lines.len(), counts.join(", "));
        text
    }
}
