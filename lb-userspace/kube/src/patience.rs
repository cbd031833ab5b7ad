//! Writes that hang, such as where a webhook does not answer: they hold up no others, and nobody
//! for long.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::timeout;

/// A write has so long.
const LONGEST: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Patience {
    /// What hung the last time that it was tried, the longest ago first.
    hung: VecDeque<String>,
    longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { hung: VecDeque::new(), longest: LONGEST }
    }
}

impl Patience {
    /// The writes of one round in their order: at most one that hung before is among them, and
    /// comes last. `subject` says what a write is about.
    pub(crate) fn round<T>(&mut self, writes: Vec<T>, subject: impl Fn(&T) -> String) -> Vec<T> {
        let subjects: BTreeSet<String> = writes.iter().map(&subject).collect();
        self.hung.retain(|hung| subjects.contains(hung));
        let (hung, mut round): (Vec<T>, Vec<T>) =
            writes.into_iter().partition(|write| self.hung.contains(&subject(write)));
        let next = self.hung.front();
        round.extend(hung.into_iter().find(|write| next.is_some_and(|next| *next == subject(write))));
        round
    }

    /// Waits for a write, but not for ever. `None`: it hung.
    pub(crate) async fn wait<T>(&mut self, subject: &str, write: impl Future<Output = T>) -> Option<T> {
        self.hung.retain(|hung| hung != subject);
        let outcome = timeout(self.longest, write).await.ok();
        if outcome.is_none() {
            self.hung.push_back(subject.to_owned());
        }
        outcome
    }

    /// What there is to tell of writes that hang.
    pub(crate) fn troubles(&self) -> impl Iterator<Item = String> {
        let subjects: BTreeSet<&String> = self.hung.iter().collect();
        let seconds = self.longest.as_secs();
        subjects.into_iter().map(move |subject| {
            format!(
                "writing to the {subject}: no answer within {seconds} s, as where a webhook hangs; it is tried again, \
                 and the others go on"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short() -> Patience {
        Patience { longest: Duration::from_millis(10), ..Patience::default() }
    }

    fn round(patience: &mut Patience, writes: &[&'static str]) -> Vec<&'static str> {
        patience.round(writes.to_vec(), |write| (*write).to_owned())
    }

    #[tokio::test]
    async fn what_hung_comes_last_and_one_by_one() {
        let mut patience = short();
        for subject in ["a", "b"] {
            assert_eq!(patience.wait(subject, std::future::pending::<()>()).await, None);
        }
        assert_eq!(patience.troubles().count(), 2);
        assert_eq!(round(&mut patience, &["a", "b", "c", "d"]), ["c", "d", "a"]);
        assert_eq!(patience.wait("a", std::future::pending::<()>()).await, None);
        assert_eq!(round(&mut patience, &["a", "b", "c"]), ["c", "b"], "each has its turn");
        assert_eq!(patience.wait("b", std::future::ready(7)).await, Some(7));
        assert_eq!(round(&mut patience, &["a", "b", "c"]), ["b", "c", "a"], "it answers again");
        assert_eq!(round(&mut patience, &["c"]), ["c"]);
        assert_eq!(patience.troubles().count(), 0, "what needs no write hangs no more");
    }

    #[tokio::test]
    async fn a_write_that_answers_late_is_not_waited_for() {
        let late = tokio::time::sleep(Duration::from_secs(3600));
        assert_eq!(short().wait("a", late).await, None);
    }
}
