//! The journal beside the file of what was changed at run time: a line for each change since the
//! file was written, so that one change of thousands does not write all of them again. The next
//! time that the file is written takes it in.
//!
//! A line that was being written when the director or the machine stopped is left out: whoever
//! asked for the change had no answer yet. A journal names the file that it goes on from by a hash
//! of the file's content, so it counts for no other one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use lb_model::overlay::{Change, Overlays};
use lb_system::whole_file;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What the journal's name has more than the file's.
const JOURNAL: &str = ".journal";

/// What a journal is to the file beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    /// All of it counts, and more may be appended; or there is none.
    #[default]
    Whole,
    /// Its last change is not whole, and is left out.
    Torn,
    /// The file has taken it in.
    Over,
    /// It goes on from a file that is not there any more.
    Stray,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The first one: the hash of the file that the others go on from.
    Above(String),
    /// One change, which may be about several sources.
    Change(Vec<Splice>),
    /// The last one: the hash of the file that is written next, and has all of it.
    Folded(String),
}

/// From this place on in the list of a source so many changes have gone, and these have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Splice {
    source: String,
    at: usize,
    removed: usize,
    inserted: Vec<Change>,
}

/// The journal of a file.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(JOURNAL);
    PathBuf::from(name)
}

/// What a journal knows a file by; no file is an empty one.
pub(super) fn hash(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The line of a change; empty, if nothing differs.
pub(super) fn line(before: &Overlays, after: &Overlays) -> io::Result<Vec<u8>> {
    let sources: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let splices = sources.into_iter().filter_map(|source| splice(source, before, after));
    match splices.collect::<Vec<Splice>>() {
        none if none.is_empty() => Ok(Vec::new()),
        splices => ended(&Line::Change(splices)),
    }
}

fn splice(source: &str, before: &Overlays, after: &Overlays) -> Option<Splice> {
    let [before, after] = [before, after].map(|all| all.get(source).map_or(&[] as &[Change], Vec::as_slice));
    let at = before.iter().zip(after).take_while(|(old, new)| old == new).count();
    let (before, after) = (&before[at..], &after[at..]);
    let kept = before.iter().rev().zip(after.iter().rev()).take_while(|(old, new)| old == new).count();
    let removed = before.len() - kept;
    let inserted = after[..after.len() - kept].to_vec();
    let differs = removed > 0 || !inserted.is_empty();
    differs.then(|| Splice { source: source.to_owned(), at, removed, inserted })
}

fn ended(line: &Line) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}

/// Begins a journal of the file with this hash; who may read the file may read it.
pub(super) fn begin(path: &Path, hash: &str, line: &[u8]) -> io::Result<()> {
    let mut content = ended(&Line::Above(hash.to_owned()))?;
    content.extend_from_slice(line);
    whole_file::make_like(path, &beside(path), &content)
}

/// One more line. Where it cannot be written none of it stays.
pub(super) fn extend(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut journal = File::options().append(true).open(beside(path))?;
    let size = journal.metadata()?.len();
    let written = journal.write_all(line).and_then(|()| journal.sync_data());
    if written.is_err() {
        // Who asked is told that nothing was changed.
        let _ = journal.set_len(size);
    }
    written
}

/// Says in the journal, if there is one, which file takes it in, before that file is written: a
/// crash in between leaves either of them in force, and no doubt which.
pub(super) fn fold(path: &Path, hash: &str) -> io::Result<()> {
    // What stands before may be torn.
    let mut line = vec![b'\n'];
    line.extend(ended(&Line::Folded(hash.to_owned()))?);
    match extend(path, &line) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(beside(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Makes the journal's changes in what the file says, whose hash this is.
///
/// # Errors
/// A line before the last change makes no sense: nobody can say what the others would do then.
pub(super) fn replay(path: &Path, hash: &str, sources: &mut Overlays) -> io::Result<State> {
    let journal = beside(path);
    match fs::read(&journal) {
        Ok(text) => made(&text, hash, sources)
            .map_err(|why| io::Error::new(ErrorKind::InvalidData, format!("{}: {why}", journal.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(State::Whole),
        Err(error) => Err(error),
    }
}

fn made(text: &[u8], hash: &str, sources: &mut Overlays) -> Result<State, String> {
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let (whole, rest) = text.split_at(end);
    let lines = (1..).zip(whole.split(|byte| *byte == b'\n')).filter(|(_, line)| !line.is_empty());
    let lines: Vec<(usize, serde_json::Result<Line>)> =
        lines.map(|(number, line)| (number, serde_json::from_slice(line))).collect();
    if let Some((_, Ok(Line::Folded(into)))) = lines.last()
        && into == hash
    {
        return Ok(State::Over);
    }
    match lines.first() {
        Some((_, Ok(Line::Above(above)))) if above == hash => {}
        Some((_, Ok(Line::Above(_)))) => return Ok(State::Stray),
        _ => return Err("line 1: expected which file it goes on from".to_owned()),
    }
    let last = lines.iter().rposition(|(_, line)| matches!(line, Ok(Line::Change(_)))).unwrap_or_default();
    let mut is_torn = !rest.is_empty();
    for (index, (number, line)) in lines.into_iter().enumerate().skip(1) {
        match line {
            Ok(Line::Change(splices)) => {
                let mut all = splices.into_iter();
                all.try_for_each(|splice| put(splice, sources))
                    .map_err(|why| format!("line {number}: {why}"))?;
            }
            // The file was not written after all.
            Ok(Line::Folded(_)) => {}
            Ok(Line::Above(_)) => return Err(format!("line {number}: only the first line says that")),
            Err(error) if index < last => return Err(format!("line {number}: {error}")),
            Err(_) => is_torn = true,
        }
    }
    Ok(if is_torn { State::Torn } else { State::Whole })
}

fn put(Splice { source, at, removed, inserted }: Splice, sources: &mut Overlays) -> Result<(), String> {
    let changes = sources.entry(source.clone()).or_default();
    let end = at.checked_add(removed).filter(|end| *end <= changes.len());
    let end = end.ok_or_else(|| format!("{source} has {} changes before it", changes.len()))?;
    changes.splice(at..end, inserted);
    if changes.is_empty() {
        sources.remove(&source);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lb_model::overlay::CLI;
    use proptest::prelude::*;

    use super::*;

    fn remove(service: u8) -> Change {
        Change::RemoveService { service: format!("s{service}") }
    }

    fn overlays(sources: &[(&str, &[u8])]) -> Overlays {
        let changes = |services: &[u8]| services.iter().copied().map(remove).collect::<Vec<Change>>();
        sources.iter().map(|(source, services)| ((*source).to_owned(), changes(services))).collect()
    }

    /// A journal of the file with the hash `h`.
    fn journal(states: &[Overlays]) -> Vec<u8> {
        let mut text = ended(&Line::Above("h".to_owned())).expect("JSON");
        for pair in states.windows(2) {
            text.extend(line(&pair[0], &pair[1]).expect("JSON"));
        }
        text
    }

    #[test]
    fn a_line_has_what_differs() {
        let before = overlays(&[("acme", &[1]), (CLI, &[1, 2, 3, 4])]);
        let after = overlays(&[("acme", &[1]), (CLI, &[1, 5, 4])]);
        let splice = splice(CLI, &before, &after).expect("it differs");
        let wanted = Splice { source: CLI.to_owned(), at: 1, removed: 2, inserted: vec![remove(5)] };
        assert_eq!(splice, wanted);
        assert_eq!(line(&before, &before).expect("JSON"), b"");
    }

    #[test]
    fn what_was_being_written_is_left_out() {
        let states = [overlays(&[]), overlays(&[(CLI, &[1])]), overlays(&[(CLI, &[1, 2])])];
        let text = journal(&states);
        let first = journal(&states[..2]).len();
        for end in first..=text.len() {
            let mut sources = Overlays::new();
            let state = made(&text[..end], "h", &mut sources).expect("a journal");
            let (wanted, kept) = match end {
                end if end == first => (State::Whole, &states[1]),
                end if end == text.len() => (State::Whole, &states[2]),
                _ => (State::Torn, &states[1]),
            };
            assert_eq!((state, &sources), (wanted, kept), "{end} bytes");
        }
        // Blocks of a file that was not written before the power went.
        let mut zeroed = text[..first].to_vec();
        zeroed.extend([0; 20]);
        let mut sources = Overlays::new();
        assert_eq!(made(&zeroed, "h", &mut sources), Ok(State::Torn));
        assert_eq!(sources, states[1]);
    }

    #[test]
    fn a_line_that_others_follow_must_make_sense() {
        let states = [overlays(&[]), overlays(&[(CLI, &[1])]), overlays(&[(CLI, &[1, 2])])];
        let text = String::from_utf8(journal(&states)).expect("text");
        let wrong = text.replacen("\"at\":0", "\"at\":", 1);
        let refused = made(wrong.as_bytes(), "h", &mut Overlays::new()).expect_err("it makes no sense");
        assert!(refused.starts_with("line 2: "), "{refused}");
        let wrong = text.replacen("\"at\":0", "\"at\":7", 1);
        let refused = made(wrong.as_bytes(), "h", &mut Overlays::new()).expect_err("there is no such place");
        assert_eq!(refused, "line 2: cli has 0 changes before it");
        let refused = made(b"{}\n", "h", &mut Overlays::new()).expect_err("it has no first line");
        assert!(refused.starts_with("line 1: "), "{refused}");
    }

    #[test]
    fn it_counts_for_its_own_file_alone() {
        let states = [overlays(&[]), overlays(&[(CLI, &[1])])];
        let mut text = journal(&states);
        let mut sources = Overlays::new();
        assert_eq!(made(&text, "other", &mut sources), Ok(State::Stray));
        text.extend(ended(&Line::Folded("next".to_owned())).expect("JSON"));
        assert_eq!(made(&text, "next", &mut sources), Ok(State::Over), "the file was written");
        assert_eq!(made(&text, "other", &mut sources), Ok(State::Stray));
        assert_eq!(sources, Overlays::new());
        assert_eq!(made(&text, "h", &mut sources), Ok(State::Whole), "the file was not written");
        assert_eq!(sources, states[1]);
    }

    proptest! {
        #[test]
        fn whatever_was_changed_comes_back(
            states in prop::collection::vec(
                prop::collection::btree_map("[ab]", prop::collection::vec(0_u8..4, 1..6), 0..3),
                1..8,
            ),
        ) {
            let overlay = |state: &std::collections::BTreeMap<String, Vec<u8>>| -> Overlays {
                let list = |services: &Vec<u8>| services.iter().copied().map(remove).collect();
                state.iter().map(|(source, services)| (source.clone(), list(services))).collect()
            };
            let states: Vec<Overlays> = states.iter().map(overlay).collect();
            let mut sources = states[0].clone();
            prop_assert_eq!(made(&journal(&states), "h", &mut sources), Ok(State::Whole));
            prop_assert_eq!(Some(&sources), states.last());
        }
    }
}
