//! The source's lines while they are imported: each gets its fate from whoever understands it.

use crate::OriginalFile;
use crate::report::{At, Entry, Fate, Report};

/// A line that nobody has claimed is lost, so that none is dropped silently.
const UNCLAIMED: &str = "`lb import` does not understand this line";

/// Notes of one line: a global one may be wrong for each service.
const MOST_NOTES: usize = 12;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    files: Vec<File>,
    assumed: Vec<String>,
    /// First and last line of blocks: comments stay within them.
    sections: Vec<(At, At)>,
}

#[derive(Debug)]
struct File {
    name: String,
    node: Option<String>,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    text: String,
    fates: Vec<(Fate, String)>,
    /// The comment that ends the line, without its sign.
    comment: Option<String>,
    /// It is a brace, or the name of a block: kept, if nothing else became of it.
    frame: bool,
}

impl Ledger {
    /// Takes a file in and returns its number.
    pub(crate) fn add(&mut self, source: &OriginalFile) -> usize {
        let OriginalFile { name, node, text } = source;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.split('\n').map(|line| Line {
            text: line.strip_suffix('\r').unwrap_or(line).to_owned(),
            fates: Vec::new(),
            comment: None,
            frame: false,
        });
        self.files.push(File { name: name.clone(), node: node.clone(), lines: lines.collect() });
        self.files.len() - 1
    }

    pub(crate) fn name(&self, file: usize) -> &str {
        self.files.get(file).map_or("", |file| &file.name)
    }

    /// The node that the file is from, as the command line said.
    pub(crate) fn node(&self, file: usize) -> Option<&str> {
        self.files.get(file)?.node.as_deref()
    }

    pub(crate) fn count(&self) -> usize {
        self.files.len()
    }

    /// The lines of a file with their places.
    pub(crate) fn lines(&self, file: usize) -> Vec<(At, String)> {
        let lines = self.files.get(file).map_or(&[][..], |file| &file.lines);
        let place = |index| At { file, line: index + 1 };
        lines.iter().enumerate().map(|(index, line)| (place(index), line.text.clone())).collect()
    }

    fn line(&mut self, at: At) -> Option<&mut Line> {
        self.files.get_mut(at.file)?.lines.get_mut(at.line.checked_sub(1)?)
    }

    pub(crate) fn note(&mut self, at: At, fate: Fate, note: impl Into<String>) {
        let note = note.into();
        if let Some(line) = self.line(at)
            && !line.fates.iter().any(|(_, known)| *known == note)
            && (line.fates.len() < MOST_NOTES || line.fates.iter().all(|(known, _)| *known < fate))
        {
            line.fates.push((fate, note));
        }
    }

    /// Notes what the YAML says that no line of the source did.
    pub(crate) fn assume(&mut self, what: String) {
        if !self.assumed.contains(&what) {
            self.assumed.push(what);
        }
    }

    /// Whether it is known what became of the line.
    pub(crate) fn is_told(&self, at: At) -> bool {
        let line = self.files.get(at.file).and_then(|file| file.lines.get(at.line.checked_sub(1)?));
        line.is_some_and(|line| !line.fates.is_empty())
    }

    /// `key` is what the YAML has of it.
    pub(crate) fn kept(&mut self, at: At, key: impl Into<String>) {
        self.note(at, Fate::Kept, key);
    }

    /// The line holds others together: a brace, or the name of a block.
    pub(crate) fn frame(&mut self, at: At) {
        if let Some(line) = self.line(at) {
            line.frame = true;
        }
    }

    pub(crate) fn changed(&mut self, at: At, how: impl Into<String>) {
        self.note(at, Fate::Changed, how);
    }

    pub(crate) fn needless(&mut self, at: At, why: impl Into<String>) {
        self.note(at, Fate::NotNeeded, why);
    }

    pub(crate) fn lost(&mut self, at: At, what: impl Into<String>) {
        self.note(at, Fate::Lost, what);
    }

    /// Notes a comment that is the whole line, or its end.
    pub(crate) fn comment(&mut self, at: At, text: &str) {
        let text = text.trim().to_owned();
        if let Some(line) = self.line(at) {
            let whole = line.text.trim_start().starts_with(['#', '!']);
            if !text.is_empty() {
                line.comment = Some(text);
            }
            if whole {
                line.fates.push((Fate::Kept, "comment".to_owned()));
            }
        }
    }

    /// The report does not show `secret` in this line.
    pub(crate) fn hide(&mut self, at: At, secret: &str) {
        if let Some(line) = self.line(at)
            && !secret.is_empty()
        {
            line.text = line.text.replace(secret, "…");
        }
    }

    pub(crate) fn section(&mut self, first: At, last: At) {
        self.sections.push((first, last));
    }

    /// First and last lines of the blocks around `at`, the innermost one first.
    pub(crate) fn sections_around(&self, at: At) -> Vec<(At, At)> {
        let around = |(first, last): &(At, At)| *first <= at && at <= *last;
        let mut sections: Vec<_> = self.sections.iter().copied().filter(around).collect();
        sections.sort_unstable_by_key(|(first, _)| std::cmp::Reverse(*first));
        sections
    }

    /// Comments of the source, and what was lost, for the YAML: by their places.
    pub(crate) fn remarks(&self) -> Vec<(At, Vec<String>)> {
        let mut remarks = Vec::new();
        for (file, File { name, lines, .. }) in self.files.iter().enumerate() {
            let name = name.rsplit('/').next().unwrap_or_default();
            for (index, line) in lines.iter().enumerate() {
                let at = At { file, line: index + 1 };
                let mut texts: Vec<String> = line.comment.iter().cloned().collect();
                let lost = line.fates.iter().filter(|(fate, _)| *fate == Fate::Lost);
                for (index, (_, why)) in lost.enumerate() {
                    if index == 0 {
                        texts.push(format!("LOST, {name}:{}: {}", at.line, line.text.trim()));
                    }
                    texts.push(format!("  {why}"));
                }
                if !texts.is_empty() {
                    remarks.push((at, texts));
                }
            }
        }
        remarks
    }

    /// Lines that nobody has claimed are lost.
    pub(crate) fn close(&mut self) {
        let lines = self.files.iter_mut().flat_map(|file| &mut file.lines);
        for line in lines.filter(|line| line.fates.is_empty() && !line.text.trim().is_empty()) {
            line.fates.push(match line.frame {
                true => (Fate::Kept, String::new()),
                false => (Fate::Lost, UNCLAIMED.to_owned()),
            });
        }
    }

    pub(crate) fn report(&self) -> Report {
        let mut entries = Vec::new();
        for file in &self.files {
            for (index, line) in file.lines.iter().enumerate() {
                let text = line.text.trim();
                if text.is_empty() {
                    continue;
                }
                let fate = line.fates.iter().map(|(fate, _)| *fate).max().unwrap_or(Fate::Lost);
                let notes = line.fates.iter().map(|(_, note)| note.clone());
                entries.push(Entry {
                    file: file.name.clone(),
                    line: index + 1,
                    text: text.to_owned(),
                    fate,
                    notes: notes.filter(|note| !note.is_empty()).collect(),
                });
            }
        }
        Report { schema: 1, lines: entries, assumed: self.assumed.clone() }
    }
}
