//! What the start finds on the host and what it changes there, as events.

use lb_api::events::{Level, Record};
use lb_datapath::attach::file_system::{Mounted, USUAL};

/// The kernel is older than those that lb is tested on.
pub(super) fn old_kernel(warning: String) -> Record {
    Record::new(Level::Warning, "kernel_old", warning)
}

/// There was no BPF file system, and lb has mounted one.
pub(super) fn mounted(mounted: &Mounted) -> Record {
    let place = mounted.place.display().to_string();
    let text = format!("there was no BPF file system: mounted one on {place}");
    let record = match mounted.in_container {
        false => Record::new(Level::Info, "bpf_fs_mounted", text),
        true => {
            let text = format!(
                "{text}. It goes with this container, and the XDP program with it: if the container shares the host's \
                 network, give it the host's {USUAL}"
            );
            Record::new(Level::Warning, "bpf_fs_mounted", text)
        }
    };
    record.to(&place)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_file_system_that_goes_with_the_container_is_a_warning_with_the_mend() {
        let of = |in_container| mounted(&Mounted { place: Path::new("/run/lb/bpf"), in_container });
        let record = of(false);
        assert_eq!((record.level, &*record.event), (Level::Info, "bpf_fs_mounted"));
        assert_eq!(record.to.as_deref(), Some("/run/lb/bpf"));
        let record = of(true);
        assert_eq!((record.level, record.to.as_deref()), (Level::Warning, Some("/run/lb/bpf")));
        assert!(record.text.ends_with("give it the host's /sys/fs/bpf"), "{}", record.text);
    }
}
