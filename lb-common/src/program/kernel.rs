//! Which kernels `lb` runs on, by their release (`uname -r`): the one place that says so.

use std::format;
use std::string::String;
use std::vec::Vec;

/// The oldest kernel that `lb` is tested on.
pub const MINIMUM: Release = Release { major: 6, minor: 1 };

/// What the program needs that an older kernel may lack, and the kernel it came with.
const NEEDS: [(Release, &str); 4] = [
    (Release { major: 5, minor: 9 }, "XDP programs attached by a BPF link that can be replaced"),
    (Release { major: 5, minor: 12 }, "atomic BPF instructions"),
    (Release { major: 5, minor: 17 }, "the BPF helper bpf_loop"),
    (Release { major: 5, minor: 18 }, "XDP on packets of several buffers"),
];

/// The part of a kernel's release that tells what it can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    pub major: u32,
    pub minor: u32,
}

impl core::fmt::Display for Release {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Reads a release such as `5.10.0-28-amd64` or `6.1-rc3`; `None` if it does not begin with two
/// numbers.
pub fn release(text: &str) -> Option<Release> {
    let (major, rest) = text.trim().split_once('.')?;
    let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    Some(Release { major: major.parse().ok()?, minor: rest[..digits].parse().ok()? })
}

/// Why the kernel of this release is too old for `lb`, in words; `None` if it is not, or if the
/// release cannot be read.
pub fn too_old(text: &str) -> Option<String> {
    let found = release(text).filter(|release| *release < MINIMUM)?;
    let lacking = NEEDS.iter().filter(|(since, _)| found < *since);
    let lacking: Vec<String> = lacking.map(|(since, what)| format!("{what} (Linux {since})")).collect();
    let lacks = match &lacking[..] {
        [] => "lb is not tested on it".into(),
        lacking => format!("it lacks {}", lacking.join(", ")),
    };
    Some(format!("Linux {} is too old: lb needs {MINIMUM} or later; {lacks}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_all_distributions_are_read() {
        for (text, major, minor) in [
            ("5.10.0-28-amd64", 5, 10),
            ("6.1.0-18-cloud-amd64", 6, 1),
            ("6.18.44-fc-v657", 6, 18),
            ("5.14.0-427.13.1.el9_4.x86_64", 5, 14),
            ("5.15.153.1-microsoft-standard-WSL2", 5, 15),
            ("7.0-rc1", 7, 0),
            ("6.1\n", 6, 1),
            ("6.12+", 6, 12),
            ("10.0.1", 10, 0),
        ] {
            assert_eq!(release(text), Some(Release { major, minor }), "{text}");
        }
        for text in ["", "6", "6.", "6.x", "x.1", "-6.1", "99999999999.1", "Linux"] {
            assert_eq!(release(text), None, "{text}");
        }
    }

    #[test]
    fn an_old_kernel_is_told_by_name_and_by_what_it_lacks() {
        assert_eq!(
            too_old("5.10.0-28-amd64").as_deref(),
            Some(
                "Linux 5.10.0-28-amd64 is too old: lb needs 6.1 or later; it lacks atomic BPF instructions (Linux \
                 5.12), the BPF helper bpf_loop (Linux 5.17), XDP on packets of several buffers (Linux 5.18)"
            )
        );
        let untested = too_old("6.0.19").expect("6.0 is older than 6.1");
        assert!(untested.ends_with("lb needs 6.1 or later; lb is not tested on it"), "{untested}");
        let lacking = too_old("4.19.0-26-amd64").expect("4.19 is older than 6.1");
        assert!(lacking.contains("BPF link") && lacking.contains("several buffers"), "{lacking}");
    }

    #[test]
    fn kernels_from_the_minimum_on_are_not_too_old() {
        for text in ["6.1.0-18-amd64", "6.1", "6.18.44-fc-v657", "7.0-rc1", "10.2"] {
            assert_eq!(too_old(text), None, "{text}");
        }
        assert_eq!(too_old("a kernel of one's own"), None, "what cannot be read is no reason");
    }
}
