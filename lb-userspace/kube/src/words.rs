//! What goes wrong between here and the API server, in words that say what to do about it.

use std::error::Error as _;

/// `doing`: such as `watching Services`.
pub(crate) fn of(doing: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => format!(
            "{doing}: forbidden: {}; the ClusterRole or Role of lb-kube lacks that, deploy/kubernetes has all that \
             it needs",
            status.message
        ),
        kube::Error::Api(status) if status.code == 401 => format!(
            "{doing}: the API server does not take our credentials: {}; is the token or the kubeconfig of \
             this cluster, and not expired?",
            status.message
        ),
        kube::Error::Api(status) => {
            format!("{doing}: the API server says {}: {}", status.code, status.message)
        }
        kube::Error::Service(_) | kube::Error::HyperError(_) => {
            format!("{doing}: the API server is not reached: {}", chain(error))
        }
        _ => format!("{doing}: {}", chain(error)),
    }
}

/// Each cause once: some errors repeat what the next one says.
fn chain(error: &kube::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

/// All refusals as one trouble: told by themselves, each would be news after the one before, again
/// and again.
pub(crate) fn in_one(refused: &[String]) -> String {
    const TOLD: usize = 3;
    let told = refused[..refused.len().min(TOLD)].join("; ");
    match refused.len().checked_sub(TOLD) {
        Some(more @ 1..) => format!("{told}; and {more} more"),
        _ => told,
    }
}

/// What tells apart names that had to be cut off: FNV-1a, the same on all directors, and in the
/// next version.
pub(crate) fn hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08x}", hash >> 32)
}

/// Tells each kind of trouble once, and its end.
#[derive(Debug, Default)]
pub(crate) struct OngoingTrouble(Option<String>);

impl OngoingTrouble {
    pub(crate) fn trouble(&mut self, words: String) {
        if self.0.as_ref() == Some(&words) {
            tracing::debug!("again: {words}");
        } else {
            tracing::warn!("{words}");
            self.0 = Some(words);
        }
    }

    /// `well`: what is so again.
    pub(crate) fn end(&mut self, well: &str) {
        if self.0.take().is_some() {
            tracing::info!("{well}");
        }
    }

    pub(crate) const fn is_trouble(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn what_is_forbidden_is_told_with_the_remedy() {
        let message = "services is forbidden: User \"a\" cannot list resource \"services\"";
        let status = Status::failure(message, "Forbidden").with_code(403);
        let words = of("watching Services", &kube::Error::Api(status.boxed()));
        assert!(words.starts_with("watching Services: forbidden: services is forbidden"), "{words}");
        assert!(words.contains("ClusterRole"), "{words}");
    }

    #[test]
    fn unknown_credentials_are_told() {
        let status = Status::failure("Unauthorized", "Unauthorized").with_code(401);
        let words = of("watching Nodes", &kube::Error::Api(status.boxed()));
        assert!(words.contains("kubeconfig"), "{words}");
    }

    #[test]
    fn refusals_are_told_as_one() {
        let of = |count: usize| in_one(&["a", "b", "c", "d", "e"].map(str::to_owned)[..count]);
        assert_eq!([of(1), of(3), of(5)], ["a", "a; b; c", "a; b; c; and 2 more"]);
    }

    #[test]
    fn the_same_trouble_is_told_once() {
        let mut told = OngoingTrouble::default();
        assert!(!told.is_trouble());
        told.trouble("a".into());
        told.trouble("a".into());
        assert!(told.is_trouble());
        told.end("well again");
        assert!(!told.is_trouble());
    }
}
