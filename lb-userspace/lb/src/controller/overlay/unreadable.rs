//! A file of changes that cannot be read: it is renamed, so that no other one is written over it,
//! and is a finding until an operator has mended or removed it. Nor is another one written over
//! what somebody else has changed there.

use std::io::ErrorKind;
use std::path::Path;

use lb_api::events::{Level, Record};
use lb_api::findings::{Finding, Kind};

use super::{Overlay, file};

const EVENT: &str = "overlay_unreadable";

impl Overlay {
    /// Renames a file that could not be read; the event tells what to do about it.
    pub(in crate::controller) fn put_aside(&mut self) -> Option<Record> {
        let why = self.unreadable.take()?;
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

    /// Before the file is written, which says what is in force: what somebody else has put in its
    /// place since, and what cannot be read, is renamed. Returns the event, or why nothing can be
    /// written.
    pub(super) fn make_room(&self) -> Result<Option<Record>, String> {
        let shown = self.path.display();
        let error = match file::read(&self.path) {
            Ok(there) if there == self.sources || !self.path.exists() => return Ok(None),
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
        let aside = aside.iter().map(|aside| {
            let text = format!(
                "what {} says of changes at run time is left out: it could not be read",
                aside.display()
            );
            let mend = format!(
                "mend it, move it to {shown} and `lb reload`, by which what was changed since is lost; or make the \
                 changes again, and remove it"
            );
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
        assert_eq!(file::read(&path).expect("there is none"), Overlays::new());
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
