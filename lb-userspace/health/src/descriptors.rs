//! File descriptors: each check has one open while its probe is under way, all of them at once when servers hang.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What all else in this process may have open.
const OTHERS: u64 = 256;

/// Takes as many as the system permits this process. Returns how many that are.
pub(crate) fn raise_limit() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// What to say to the operator if `checks` may need more than `limit`.
pub(crate) fn too_few(checks: usize, limit: u64) -> Option<String> {
    let needed = checks as u64 + OTHERS;
    (needed > limit).then(|| {
        format!(
            "{checks} checks can have as many connections open at once, and lb may open {limit} files: should many servers \
             hang, others will not be checked; permit {needed} (systemd: LimitNOFILE={needed})"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_highest_there_is() {
        let limit = raise_limit().expect("the limit can be read and raised");
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((limit, limit)));
    }

    #[test]
    fn warns_of_more_checks_than_descriptors() {
        assert_eq!(too_few(768, 1024), None);
        let text = too_few(5000, 1024).expect("a warning");
        assert!(text.contains("LimitNOFILE=5256"), "{text}");
    }
}
