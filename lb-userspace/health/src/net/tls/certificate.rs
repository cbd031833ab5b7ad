//! Messages about certificates.

use std::time::Duration;

use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::{DateTime, Decode};
use x509_cert::time::Time;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum number of a certificate's names in a message.
const NAMES: usize = 3;

/// A warning about a certificate at `now`: it expires sooner than `soon`, or is not valid.
pub(crate) fn warning(certificate: &CertificateDer<'_>, now: UnixTime, soon: Duration) -> Option<String> {
    let validity = match Certificate::from_der(certificate) {
        Ok(certificate) => *certificate.tbs_certificate().validity(),
        Err(error) => return Some(format!("certificate cannot be read: {error}")),
    };
    let (first, last) = (unix(validity.not_before), unix(validity.not_after));
    if last < now {
        return Some(ended(last));
    }
    if first > now {
        return Some(begins(first));
    }
    let left = Duration::from_secs(last.as_secs() - now.as_secs());
    let days = left.as_secs() / DAY.as_secs();
    let when = match days {
        0 => "within a day".into(),
        1 => "in 1 day".into(),
        days => format!("in {days} days"),
    };
    (left < soon).then(|| format!("certificate ends {when}, on {}", date(last)))
}

pub(super) fn ended(at: UnixTime) -> String {
    format!("certificate ended on {}", date(at))
}

pub(super) fn begins(at: UnixTime) -> String {
    format!("certificate begins only on {}", date(at))
}

/// `presented` are names in rustls's notation: `DnsName("www.example.org")`.
pub(super) fn not_for(expected: &str, presented: &[String]) -> String {
    if presented.is_empty() {
        return format!("certificate is for no name, not for {expected}");
    }
    let bare = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
    let mut names: Vec<_> = presented.iter().take(NAMES).map(bare).collect();
    if presented.len() > NAMES {
        names.push(format!("{} more", presented.len() - NAMES));
    }
    format!("certificate is for {}, not for {expected}", names.join(", "))
}

fn unix(time: Time) -> UnixTime {
    UnixTime::since_unix_epoch(time.to_unix_duration())
}

fn date(at: UnixTime) -> String {
    match DateTime::from_unix_duration(Duration::from_secs(at.as_secs())) {
        Ok(date) => format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()),
        Err(_) => "an unknown date".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::test_servers::Authority;

    /// The warning for a certificate that is valid from `first` to `last`, in days from now, with
    /// `soon` of 14 days.
    fn warning_between(first: i64, last: i64) -> Option<String> {
        let certificate = Authority::new().certificate("www.example.org", first..=last);
        warning(&certificate.chain[0], UnixTime::now(), 14 * DAY)
    }

    #[test]
    fn an_end_is_told_in_time() {
        let dated = |words: &str, says: Option<String>| {
            let says = says.expect("a warning");
            let date = says.strip_prefix(words).unwrap_or_else(|| panic!("'{says}' is not '{words}…'"));
            assert!(date.starts_with("20") && date.len() == "2026-11-29".len(), "'{date}'");
        };
        assert_eq!(warning_between(-5, 100), None);
        assert_eq!(warning_between(-5, 15), None);
        dated("certificate ends in 13 days, on ", warning_between(-5, 14));
        dated("certificate ends in 1 day, on ", warning_between(-5, 2));
        dated("certificate ends within a day, on ", warning_between(-5, 1));
        dated("certificate ended on ", warning_between(-5, -1));
        dated("certificate begins only on ", warning_between(2, 20));
    }

    #[test]
    fn dates_are_of_utc() {
        assert_eq!(
            ended(UnixTime::since_unix_epoch(Duration::from_secs(1_795_910_399))),
            "certificate ended on 2026-11-28"
        );
        assert_eq!(
            ended(UnixTime::since_unix_epoch(Duration::from_secs(1_795_910_400))),
            "certificate ended on 2026-11-29"
        );
        assert_eq!(ended(UnixTime::since_unix_epoch(Duration::MAX)), "certificate ended on an unknown date");
    }

    #[test]
    fn garbage_is_told_of() {
        let says = warning(&CertificateDer::from(&b"\x30\x03abc"[..]), UnixTime::now(), DAY);
        assert!(says.expect("a warning").starts_with("certificate cannot be read: "));
    }

    #[test]
    fn names_are_few() {
        let names: Vec<_> = ["a", "b", "c", "d", "e"].map(|name| format!("DnsName(\"{name}\")")).into();
        assert_eq!(not_for("x", &names), "certificate is for a, b, c, 2 more, not for x");
        assert_eq!(not_for("x", &names[..1]), "certificate is for a, not for x");
        assert_eq!(not_for("x", &[]), "certificate is for no name, not for x");
    }
}
