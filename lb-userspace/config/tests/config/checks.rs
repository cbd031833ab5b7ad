//! Checks: which statuses of HTTP count where the file does not say.

use super::*;

/// The file with these keys of the check besides its type.
fn with(keys: &str) -> Config {
    accepted(&LEAST.replace("type: http", &format!("type: http{keys}")))
}

const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A redirect shows that a server serves, but it is not the page that is expected.
#[test]
fn redirects_count_unless_a_page_is_expected() {
    let digest = format!(", digest: {DIGEST}");
    for (keys, statuses) in [
        ("", "200-399"),
        (", method: HEAD", "200-399"),
        (", receive: ok", "200-299"),
        (", matches: ok", "200-299"),
        (&digest, "200-299"),
        (", status: 204", "204"),
        (", status: 200-399, receive: ok", "200-399"),
    ] {
        let config = with(keys);
        let Probe::Http(http) = &config.services[0].servers[0].checks[0].probe else {
            panic!("not http: {keys}");
        };
        assert_eq!(http.statuses().to_string(), statuses, "{keys}");
    }
}

/// Nodes agree where only one of them writes the default.
#[test]
fn a_default_that_is_written_is_the_same_for_the_other_nodes() {
    for (short, long) in [("", ", status: 200-399"), (", receive: ok", ", receive: ok, status: 200-299")] {
        assert_eq!(with(short).digest(), with(long).digest(), "{long}");
    }
    assert_ne!(with("").digest(), with(", status: 200-299").digest());
}
