//! What `lb realserver setup` has done, in a file.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};
use lb_system::whole_file;
use serde::{Deserialize, Serialize};

use super::Wanted;
use super::condition::Undo;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// All that was asked for so far.
    pub wanted: Option<Wanted>,
    /// In the order in which they were done.
    pub steps: Vec<Undo>,
}

impl Record {
    pub(super) fn read(file: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("cannot read {}", file.display()))?,
        };
        let record = serde_json::from_str(&text);
        record.map(Some).with_context(|| {
            format!("{} is no record of `lb realserver setup`; undo by hand, then remove it", file.display())
        })
    }

    pub(super) fn write(&self, file: &Path) -> Result<()> {
        whole_file::replace(file, &serde_json::to_vec_pretty(self)?).context("cannot write the record")
    }

    pub(super) fn remove(file: &Path) -> Result<()> {
        fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))
    }

    /// What is asked for now comes to what was asked for before.
    pub(super) fn add(&mut self, wanted: &Wanted) {
        let Some(before) = &mut self.wanted else {
            self.wanted = Some(wanted.clone());
            return;
        };
        let new = wanted.vips.iter().filter(|vip| !before.vips.contains(vip)).copied().collect::<Vec<_>>();
        before.vips.extend(new);
        let new = wanted.tunnels.iter().filter(|tunnel| !before.tunnels.contains(tunnel)).copied();
        let new = new.collect::<Vec<_>>();
        before.tunnels.extend(new);
        before.gue_port = wanted.gue_port;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tunnel;
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_grows() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("state/realserver.json");
        assert_eq!(Record::read(&file).expect("none yet"), None);
        let wanted = |last, tunnels: &[Tunnel]| Wanted {
            vips: vec![[192, 0, 2, last].into()],
            tunnels: tunnels.to_vec(),
            gue_port: 6080,
        };
        let mut record = Record::default();
        record.add(&wanted(10, &[]));
        record.add(&wanted(11, &[Tunnel::Ipip]));
        record.add(&wanted(10, &[Tunnel::Ipip]));
        let setting = "net.ipv4.conf.all.arp_ignore".to_owned();
        record.steps.push(Undo::Setting { setting, before: 0, set: 1 });
        record.write(&file).expect("it is written");
        let read = Record::read(&file).expect("it is read").expect("it is there");
        assert_eq!(read, record);
        let all = read.wanted.expect("something");
        assert_eq!((all.vips.len(), all.tunnels.len()), (2, 1));
        fs::write(&file, "{").expect("it is broken");
        let error = Record::read(&file).expect_err("it makes no sense").to_string();
        assert!(error.contains("undo by hand"), "{error}");
    }
}
