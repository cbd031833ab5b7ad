//! A file of changes that cannot be read, or a journal of changes that does not belong to it: it is
//! renamed, so that no other one is written over it, and is a finding until an operator has mended
//! or removed it. Nor is another one written over what somebody else has changed there.

use std::io::ErrorKind;
use std::path::Path;

use lb_api::events::{Level, Record};
use lb_api::findings::{Finding, Kind};

use super::journal::{self, State};
use super::{Overlay, file};

const EVENT: &str = "overlay_unreadable";

impl Overlay {
    /// Renames a file that could not be read, or a journal that does not belong to it; the event
    /// tells what to do about it. What is torn off a journal is told.
    pub(in crate::controller) fn put_aside(&mut self) -> Option<Record> {
        let Some(why) = self.unreadable.take() else { return self.put_journal_aside() };
        let shown = self.path.display();
        let text = match file::put_aside(&self.path) {
            Ok(aside) => format!(
                "what was changed at run time is left out: {shown} cannot be read ({why}), and is {} now; mend it, \
                 move it back and `lb reload`, or make the changes again",
                aside.display()
            ),
            Err(error) => {
                self.unreadable = Some(why.clone());
                format!(
                    "what was changed at run time is left out, and nothing can be changed: {shown} cannot be read \
                     ({why}) nor renamed ({error}); move it away and `lb reload`"
                )
            }
        };
        Some(Record::new(Level::Error, EVENT, text).cause(why))
    }

    fn put_journal_aside(&mut self) -> Option<Record> {
        let shown = journal::beside(&self.path).display().to_string();
        // The next change takes the rest in.
        let state = std::mem::replace(&mut self.kept.state, State::Over);
        let (level, text) = match state {
            State::Whole => {
                self.kept.state = State::Whole;
                return None;
            }
            State::Over => return None,
            State::Torn => (
                Level::Warning,
                format!(
                    "the last change in {shown} is left out: it was not yet written when this director or its machine \
                     stopped, and nobody was told that it is made; make it again"
                ),
            ),
            State::Stray => (
                Level::Error,
                match file::put_journal_aside(&self.path) {
                    Ok(aside) => format!(
                        "{} was changed by somebody else, and says what is in force; later changes at run time are \
                         left out, and {shown}, which has them, is {} now: make them again",
                        self.path.display(),
                        aside.display()
                    ),
                    Err(error) => format!(
                        "{} was changed by somebody else, and says what is in force; later changes at run time, in \
                         {shown}, are left out ({error}): make them again",
                        self.path.display()
                    ),
                },
            ),
        };
        Some(Record::new(level, EVENT, text))
    }

    /// Before the file is written, which says what is in force: what somebody else has put in its
    /// place since, and what cannot be read, is renamed. Returns the event, or why nothing can be
    /// written.
    pub(super) fn make_room(&self) -> Result<Option<Record>, String> {
        // Thousands of changes come one by one.
        if self.kept.is_as_left(&self.path) {
            return Ok(None);
        }
        let shown = self.path.display();
        let error = match file::read(&self.path) {
            Ok(there) if there.sources == self.sources || !self.path.exists() => return Ok(None),
            Ok(_) => {
                return Err(format!(
                    "nothing was changed: {shown} was changed by somebody else; `lb reload` takes what it says now, or \
                     remove it, and what is in force is written again with the next change"
                ));
            }
            Err(error) => error,
        };
        let why = error.to_string();
        if !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) {
            // Nothing is wrong with what it says, such as where too many files are open.
            return Err(format!("nothing was changed: {shown} cannot be read: {why}"));
        }
        let aside = file::put_aside(&self.path).map_err(|error| {
            format!("nothing was changed: {shown} cannot be read ({why}) nor renamed ({error}); move it away")
        })?;
        let text = format!(
            "{shown} was changed by somebody else and cannot be read ({why}); it is {} now, and what was changed at \
             run time by commands stays in force",
            aside.display()
        );
        Ok(Some(Record::new(Level::Error, EVENT, text).cause(why)))
    }

    /// Files whose changes are left out: one that could not be renamed, and those that were.
    pub(in crate::controller) fn findings(&self) -> Vec<Finding> {
        let shown = self.path.display();
        let in_place = self.unreadable.as_ref().map(|why| {
            let text = format!(
                "what was changed at run time is left out, and nothing can be changed: {shown} cannot be read \
                 ({why}) nor renamed"
            );
            finding(&self.path, text, "move it away and `lb reload`".to_owned())
        });
        let aside = file::aside(&self.path);
        let aside = aside.iter().map(|(aside, path)| {
            let (why, mend) = match *path == self.path {
                true => (
                    "it could not be read",
                    format!(
                        "mend it, move it to {shown} and `lb reload`, by which what was changed since is lost; or \
                         make the changes again, and remove it"
                    ),
                ),
                false => (
                    "it could not be read, or goes on from a file that somebody has changed",
                    format!(
                        "make the changes again, of which it has one a line, and remove it; or move it to {} together \
                         with the file of its time, and `lb reload`",
                        path.display()
                    ),
                ),
            };
            let text = format!("what {} says of changes at run time is left out: {why}", aside.display());
            finding(aside, text, mend)
        });
        in_place.into_iter().chain(aside).collect()
    }
}

fn finding(subject: &Path, text: String, mend: String) -> Finding {
    Finding { kind: Kind::OverlayUnreadable, subject: subject.display().to_string(), text, mend }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lb_model::overlay::{Change, Overlays};

    use super::*;

    fn subjects(overlay: &Overlay) -> Vec<String> {
        overlay.findings().into_iter().map(|finding| finding.subject).collect()
    }

    #[test]
    fn a_file_that_cannot_be_read_is_put_aside_and_stays_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("overlay.json");
        let aside = |name: &str| fs::read_to_string(folder.path().join(name));
        for (text, name) in [("{ torn", "overlay.json.unreadable"), ("[]", "overlay.json.unreadable.2")] {
            fs::write(&path, text).expect("a file");
            let why = file::read(&path).expect_err("it is no overlay").to_string();
            let mut overlay = Overlay { path: path.clone(), unreadable: Some(why), ..Overlay::default() };
            let told = overlay.put_aside().expect("it is told");
            assert_eq!((told.event.as_str(), told.level), ("overlay_unreadable", Level::Error));
            assert_eq!(aside(name).expect("it is there"), text);
            assert!(!path.exists() && overlay.put_aside().is_none(), "once");
        }
        assert_eq!(aside("overlay.json.unreadable").expect("the first one stays"), "{ torn");
        assert_eq!(file::read(&path).expect("there is none").sources, Overlays::new());
    }

    #[test]
    fn what_was_put_aside_is_a_finding_until_somebody_moves_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("overlay.json");
        let overlay = Overlay { path: path.clone(), ..Overlay::default() };
        assert_eq!(overlay.findings(), []);
        // Names that no director has given, and another director's file.
        for name in ["overlay.json.unreadable.bak", "overlay.json.old", "overlay.other.json.unreadable"] {
            fs::write(folder.path().join(name), "").expect("a file");
        }
        assert_eq!(overlay.findings(), []);
        let names = ["overlay.json.unreadable", "overlay.json.unreadable.2"];
        let files = names.map(|name| folder.path().join(name));
        files.iter().for_each(|file| fs::write(file, "{ torn").expect("a file"));
        // Another life, or another start, tells of it, too.
        let overlay = Overlay { path: path.clone(), ..Overlay::default() };
        assert_eq!(subjects(&overlay), files.each_ref().map(|file| file.display().to_string()));
        let found = overlay.findings().swap_remove(0);
        assert_eq!(found.kind, Kind::OverlayUnreadable);
        assert!(found.mend.contains(&path.display().to_string()), "{found:?}");
        fs::rename(&files[0], &path).expect("it is moved");
        fs::remove_file(&files[1]).expect("it is removed");
        assert_eq!(overlay.findings(), []);
    }

    /// The director's overlay of a file of many changes, and a journal that says one more.
    fn with_journal(folder: &Path) -> (Overlay, [Overlays; 2]) {
        let path = folder.join("overlay.json");
        let remove = |number: usize| Change::RemoveService { service: format!("tcp/192.0.2.10:{number}") };
        let removals = |count| Overlays::from([("cli".to_owned(), (0..count).map(remove).collect())]);
        let [now, next] = [removals(2_000), removals(2_001)];
        let kept = file::write(&path, &now).expect("it is written");
        let kept = file::keep(&path, &kept, &now, &next).expect("it is kept");
        (Overlay { path, sources: next.clone(), kept, ..Overlay::default() }, [now, next])
    }

    /// As the next director finds it.
    fn found(path: &Path) -> Overlay {
        let file::Found { sources, kept } = file::read(path).expect("it can be read");
        Overlay { path: path.to_owned(), sources, kept, ..Overlay::default() }
    }

    #[test]
    fn a_torn_change_is_told_once_and_the_others_are_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let (running, [now, next]) = with_journal(folder.path());
        let journal = journal::beside(&running.path);
        let text = fs::read(&journal).expect("the journal");
        fs::write(&journal, &text[..text.len() - 1]).expect("the journal");
        let mut overlay = found(&running.path);
        assert_eq!(overlay.sources, now);
        let told = overlay.put_aside().expect("it is told");
        assert_eq!((told.event.as_str(), told.level), ("overlay_unreadable", Level::Warning));
        assert!(overlay.put_aside().is_none(), "once");
        assert_eq!((overlay.make_room(), subjects(&overlay)), (Ok(None), Vec::new()));
        file::keep(&overlay.path, &overlay.kept, &now, &next).expect("it is kept");
        let mut overlay = found(&running.path);
        assert_eq!(overlay.sources, next);
        assert!(overlay.put_aside().is_none());
    }

    #[test]
    fn a_journal_goes_aside_when_somebody_has_changed_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (running, [now, _]) = with_journal(folder.path());
        assert_eq!(running.make_room(), Ok(None), "both are as they were left");
        let own = serde_json::to_string(&now).expect("JSON").replacen(":1999", ":7", 1);
        fs::write(&running.path, &own).expect("the file");
        let refused = running.make_room().expect_err("it is somebody's");
        assert!(refused.contains("changed by somebody else"), "{refused}");
        // `lb reload`.
        let mut overlay = found(&running.path);
        assert_eq!(serde_json::to_string(&overlay.sources).expect("JSON"), own, "it says what counts");
        let told = overlay.put_aside().expect("it is told");
        assert_eq!((told.event.as_str(), told.level), ("overlay_unreadable", Level::Error));
        let aside = folder.path().join("overlay.json.journal.unreadable");
        assert_eq!(subjects(&overlay), [aside.display().to_string()]);
        assert!(aside.exists() && overlay.put_aside().is_none());
        assert_eq!(overlay.make_room(), Ok(None));
        assert_eq!(fs::read_to_string(&running.path).expect("it stays"), own);
    }

    #[test]
    fn a_journal_that_makes_no_sense_goes_aside_with_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (running, [_, next]) = with_journal(folder.path());
        let journal = journal::beside(&running.path);
        let text = fs::read_to_string(&journal).expect("the journal");
        fs::write(&journal, text.replacen("above", "beside", 1)).expect("the journal");
        let why = file::read(&running.path).expect_err("it makes no sense").to_string();
        assert!(why.contains("overlay.json.journal: line 1"), "{why}");
        let mut overlay = Overlay { path: running.path.clone(), unreadable: Some(why), ..Overlay::default() };
        overlay.put_aside().expect("it is told");
        let names = ["overlay.json.unreadable", "overlay.json.journal.unreadable"];
        assert_eq!(subjects(&overlay), names.map(|name| folder.path().join(name).display().to_string()));
        // Mended, and moved back.
        fs::write(&journal, &text).expect("the journal");
        fs::rename(folder.path().join(names[0]), &running.path).expect("it is moved");
        assert_eq!(found(&running.path).sources, next);
    }

    #[test]
    fn one_that_cannot_be_renamed_is_a_finding_and_is_not_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gone").join("overlay.json");
        let unreadable = Some("torn".to_owned());
        let mut overlay = Overlay { path: path.clone(), unreadable, ..Overlay::default() };
        assert!(overlay.put_aside().is_some() && overlay.unreadable.is_some());
        assert_eq!(subjects(&overlay), [path.display().to_string()]);
        assert!(overlay.findings()[0].text.contains("torn"), "{:?}", overlay.findings());
    }

    #[test]
    fn what_somebody_has_changed_since_is_not_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("overlay.json");
        let remove = |service: &str| Change::RemoveService { service: service.to_owned() };
        let sources = Overlays::from([("cli".to_owned(), vec![remove("web")])]);
        let overlay = Overlay { path: path.clone(), sources: sources.clone(), ..Overlay::default() };
        assert_eq!(overlay.make_room(), Ok(None), "nothing is lost where nothing is");
        file::write(&path, &sources).expect("it is written");
        assert_eq!(overlay.make_room(), Ok(None));
        fs::write(&path, fs::read_to_string(&path).expect("it is there") + "\n\n").expect("a file");
        assert_eq!(overlay.make_room(), Ok(None), "it says the same");
        for other in [Overlays::new(), Overlays::from([("cli".to_owned(), vec![remove("mail")])])] {
            let text = serde_json::to_string(&other).expect("JSON");
            fs::write(&path, &text).expect("a file");
            let refused = overlay.make_room().expect_err("it is somebody's");
            assert!(
                refused.contains("changed by somebody else") && refused.contains("lb reload"),
                "{refused}"
            );
            assert_eq!(fs::read_to_string(&path).expect("it stays"), text);
        }
    }

    #[test]
    fn what_somebody_has_written_since_is_kept_if_it_cannot_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("overlay.json");
        let overlay = Overlay { path: path.clone(), ..Overlay::default() };
        assert_eq!(overlay.make_room(), Ok(None), "there is none");
        fs::write(&path, "{}").expect("a file");
        assert_eq!(overlay.make_room(), Ok(None), "it says what is in force");
        assert!(path.exists());
        fs::write(&path, "{ torn").expect("a file");
        let told = overlay.make_room().expect("it is renamed").expect("it is told");
        assert_eq!((told.event.as_str(), told.level), ("overlay_unreadable", Level::Error));
        let aside = folder.path().join("overlay.json.unreadable");
        assert_eq!(fs::read_to_string(&aside).expect("it is there"), "{ torn");
        assert_eq!(subjects(&overlay), [aside.display().to_string()]);
        assert!(!path.exists());
        // What cannot be opened may be in order.
        fs::create_dir(&path).expect("a folder");
        let refused = overlay.make_room().expect_err("nothing can be written");
        assert!(refused.starts_with("nothing was changed") && path.exists(), "{refused}");
    }
}
