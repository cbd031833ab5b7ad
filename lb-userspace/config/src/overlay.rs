//! Changes that are made at run time, as changes of the file's text: so they are validated as if
//! they stood there, and can be written there.
//!
//! Many are made together (`plan`): each file is written and read once. Where services of a file
//! have something in common (anchors), or do not stand in lines of their own, changes of them are
//! made one by one (`stepwise`). `base` is for one change more. `text` has the words of the file.

mod base;
mod plan;
mod stepwise;
mod text;

use std::collections::BTreeMap;

use lb_model::overlay::{Change, ChangedFile};
use lb_model::{Config, Fallback, Service, ServiceNames};

pub use self::base::{Base, ServiceChange};

use self::plan::{Plan, Taken};
use super::ConfigError;
use super::edit::Cut;
use super::files::{Document, Files};

/// What has come of changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    pub config: Config,
    /// The files that differ.
    pub files: Vec<ChangedFile>,
    /// Indices of changes that change nothing, and why: the files may have changed since.
    pub unused: BTreeMap<usize, String>,
}

impl Changed {
    /// What a file must have that these would not, if they were written. Changes that come one by
    /// one may be made without it: a service that `ipvsadm -A` has added waits for its servers.
    pub fn lacks(&self) -> Option<String> {
        let waits = |service: &&Service| {
            service.servers.is_empty() && matches!(service.fallback, Fallback::None | Fallback::Refuse)
        };
        match self.config.services.as_slice() {
            [] => Some("no service is left, and a configuration file has at least one".to_owned()),
            services => services
                .iter()
                .find(waits)
                .map(|one| format!("service {} has no server, and in a file it needs one", one.name)),
        }
    }
}

/// Changes with their indices.
type Numbered<'a> = (usize, &'a Change);

impl Files {
    /// Makes the changes in the texts, one after the other: each in the file in which the service
    /// stands. A new service comes into the first one.
    ///
    /// # Errors
    /// The files are not valid by themselves.
    pub fn changed<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> Result<Changed, ConfigError> {
        let config = self.config()?;
        let mut files = self.clone();
        files.at_run_time = true;
        let changes: Vec<Numbered<'_>> = changes.into_iter().enumerate().collect();
        let mut making = Making { files, cuts: None, config, unused: BTreeMap::new() };
        making.make(&changes);
        let Making { mut files, mut config, unused, .. } = making;
        let both = self.documents.iter().zip(&files.documents);
        let differ: Vec<ChangedFile> = both
            .filter(|(old, new)| new.text != old.text)
            .map(|(old, Document { path, text })| ChangedFile {
                path: path.clone(),
                before: old.text.clone(),
                after: text.clone(),
            })
            .collect();
        if !changes.is_empty() && has_lists_in_files(&config) {
            config = files.config()?;
        }
        Ok(Changed { config, files: differ, unused })
    }

    /// Puts these texts in place of those of the files with these numbers, if what they say then is
    /// right; else they stay as they were. What is returned lacks lists of clients in files of
    /// their own: no change touches them.
    fn put(
        &mut self,
        texts: Vec<(usize, String)>,
        is_right: impl FnOnce(&Config) -> bool,
    ) -> Result<Config, String> {
        let mut before = Vec::new();
        for (number, text) in texts {
            before.push((number, std::mem::replace(&mut self.documents[number].text, text)));
        }
        // Only the words of a mistake: the line is in no file.
        let with_changes = self.config_without_lists().map_err(|error| match error.mistakes().first() {
            Some(mistake) => mistake.message.clone(),
            None => error.to_string(),
        });
        let with_changes = with_changes.and_then(|new| match is_right(&new) {
            true => Ok(new),
            false => Err("the file's layout does not let that be changed alone".to_owned()),
        });
        if with_changes.is_err() {
            for (number, text) in before {
                self.documents[number].text = text;
            }
        }
        with_changes
    }
}

/// Files in which changes are being made.
struct Making {
    files: Files,
    /// Of these files; `None`: not cut yet.
    cuts: Option<Vec<Cut>>,
    /// What the files say.
    config: Config,
    unused: BTreeMap<usize, String>,
}

impl Making {
    fn make(&mut self, mut changes: &[Numbered<'_>]) {
        while !changes.is_empty() {
            let cuts = self.cuts.take();
            let cuts = cuts.unwrap_or_else(|| cuts_of(&self.files));
            let made = self.make_together(changes, cuts);
            changes = &changes[made..];
        }
    }

    /// Makes changes as far as they go together, and returns how many these are; of those that
    /// cannot be made it notes why. What cannot be made at once is tried by halves, so thousands
    /// take few looks at the files.
    fn make_together(&mut self, changes: &[Numbered<'_>], cuts: Vec<Cut>) -> usize {
        let (planned, rejected, texts, wanted) = {
            let names = ServiceNames::of(&self.config.services);
            let mut plan = Plan::new(&names);
            let (mut planned, mut rejected) = (0, Vec::new());
            for (index, change) in changes {
                match plan.take(change) {
                    Ok(Taken::Yes) => planned += 1,
                    Ok(Taken::Later) => break,
                    Err(why) => rejected.push((*index, why)),
                }
            }
            let texts = plan.texts(&self.files.documents, &cuts, &self.config);
            (planned, rejected, texts, plan.counts(&self.config))
        };
        let taken = &changes[..planned + rejected.len()];
        if planned == 0 {
            self.cuts = Some(cuts);
            self.unused.extend(rejected);
            return taken.len();
        }
        // A file may have a list that several services share.
        let has_so_many = |new: &Config| {
            let servers: usize = new.services.iter().map(|service| service.servers.len()).sum();
            (new.services.len(), servers) == wanted
        };
        let with_changes = match (texts, taken) {
            (Ok(texts), _) => self.files.put(texts, has_so_many),
            (Err(_), [(index, change)]) => {
                if let Err(why) = self.files.make_alone(change, &mut self.config) {
                    self.cuts = Some(cuts);
                    self.unused.insert(*index, why);
                }
                return 1;
            }
            (Err(why), _) => Err(why),
        };
        match (with_changes, taken) {
            (Ok(config), _) => {
                self.config = config;
                self.unused.extend(rejected);
            }
            (Err(why), [(index, _)]) => {
                self.cuts = Some(cuts);
                self.unused.insert(*index, why);
            }
            // Those that were rejected may go with others than these.
            (Err(_), _) => {
                self.cuts = Some(cuts);
                let (some, others) = taken.split_at(taken.len() / 2);
                self.make(some);
                self.make(others);
            }
        }
        taken.len()
    }
}

fn cuts_of(files: &Files) -> Vec<Cut> {
    files.documents.iter().map(|document| Cut::of(&document.text)).collect()
}

/// Those were not read with the changes.
fn has_lists_in_files(config: &Config) -> bool {
    let clients = config.services.iter().filter_map(|service| service.clients.as_ref());
    let mut lists = clients.map(|clients| &clients.listed).chain([&config.denied]);
    lists.any(|listed| listed.allow_file.is_some() || listed.deny_file.is_some())
}

#[cfg(test)]
mod tests;
