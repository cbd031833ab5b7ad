//! The limit on file descriptors: each probe in flight uses one, and when servers hang all checks
//! have a probe in flight.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors reserved for the rest of this process.
const OTHERS: u64 = 256;

/// Raises the soft limit to the hard limit, and returns it.
pub(crate) fn raise_limit() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// A warning for the operator if `checks` may need more descriptors than `limit`.
pub(crate) fn too_few(checks: usize, limit: u64) -> Option<String> {
    let needed = checks as u64 + OTHERS;
    (needed > limit).then(|| {
        format!(
            "{checks} checks need up to {needed} open files when servers hang, and the limit is {limit}: \
             some checks \
             would not run then; raise the limit (systemd: LimitNOFILE={needed})"
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
