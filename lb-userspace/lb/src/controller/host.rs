//! What the start finds on the host and what it changes there, as events.

use std::collections::BTreeSet;
use std::fs;

use lb_api::events::{Level, Record};
use lb_common::kernel::{MINIMUM, too_old};
use lb_datapath::kernel;

/// The kernel's number is old, although it can do all that is needed.
pub(super) fn old_kernel() -> Option<Record> {
    judge(&kernel::release())
}

fn judge(release: &str) -> Option<Record> {
    too_old(release)?;
    let text = format!("Linux {release} is older than {MINIMUM}, the oldest kernel that lb is tested on");
    Some(Record::new(Level::Warning, "kernel_old", text))
}

/// The BPF file systems of this mount namespace, by their mount points.
pub(super) struct BpfMounts(BTreeSet<String>);

impl BpfMounts {
    pub(super) fn now() -> Self {
        Self(of_type_bpf(&fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default()))
    }

    /// Those that have been mounted since.
    pub(super) fn new_ones(&self) -> Vec<Record> {
        let record = |place: &String| {
            let text = format!("there was no BPF file system: mounted one on {place}");
            Record::new(Level::Info, "bpf_fs_mounted", text).to(place)
        };
        Self::now().0.difference(&self.0).map(record).collect()
    }
}

/// `mountinfo` as in proc_pid_mountinfo(5).
fn of_type_bpf(mountinfo: &str) -> BTreeSet<String> {
    let is_bpf =
        |line: &&str| line.split_once(" - ").is_some_and(|(_, kind)| kind.split(' ').next() == Some("bpf"));
    let place = |line: &str| line.split(' ').nth(4).map(str::to_owned);
    mountinfo.lines().filter(is_bpf).filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_an_event_that_says_what_is_tested() {
        let record = judge("2.6.78").expect("a record");
        let text = "Linux 2.6.78 is older than 6.1, the oldest kernel that lb is tested on";
        assert_eq!((&*record.event, &*record.text), ("kernel_old", text));
        assert_eq!(judge("6.12.3"), None);
    }

    #[test]
    fn only_bpf_file_systems_are_listed() {
        let mountinfo = "\
24 31 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw
33 24 0:29 / /sys/fs/bpf rw,nosuid,nodev shared:10 - bpf bpf rw,mode=700
40 31 0:35 / /run/lb/bpf rw - bpf bpf rw,mode=700
41 31 8:1 /bpf /mnt rw master:1 - ext4 /dev/bpf rw
";
        assert_eq!(Vec::from_iter(of_type_bpf(mountinfo)), ["/run/lb/bpf", "/sys/fs/bpf"]);
    }
}
