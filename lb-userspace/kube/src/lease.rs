//! Who writes to the cluster: one of all `lb-kube`s, by a Lease of `coordination.k8s.io`. Pure, and
//! safe whatever the clocks of the others say: a holder's time ends by its own clock, and whoever
//! waits counts by its own how long the Lease has not changed.

use std::time::Duration;

/// How long a holder that is silent is waited for.
pub(crate) const DURATION: Duration = Duration::from_secs(15);
/// How long after its last renewal a holder takes itself for one: less, so that no two do.
pub(crate) const LEADS: Duration = Duration::from_secs(10);
/// From one look at the Lease to the next.
pub(crate) const INTERVAL: Duration = Duration::from_secs(2);

/// What stands in the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Empty: nobody holds it.
    pub holder: String,
    pub transitions: i32,
    /// How long others wait for the holder.
    pub duration: Duration,
}

/// A Lease as the API server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub record: Record,
    /// Its resource version: another one after each change.
    pub version: String,
}

/// What is to be done with the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Only if there still is none.
    Create(Record),
    /// Only if it still has this version.
    Replace(Record, String),
    Wait,
}

#[derive(Debug)]
pub(crate) struct Election {
    me: String,
    /// The version that was last seen, and since when.
    seen: Option<(String, Duration)>,
    /// Until when this one leads, if somebody has not been faster.
    until: Option<Duration>,
}

impl Election {
    pub(crate) const fn new(me: String) -> Self {
        Self { me, seen: None, until: None }
    }

    #[cfg(test)]
    fn leads(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    pub(crate) const fn until(&self) -> Option<Duration> {
        self.until
    }

    /// What follows from a look at the Lease. `now` is when the look was over.
    pub(crate) fn look(&mut self, found: Option<&Found>, now: Duration) -> Step {
        let Some(Found { record, version }) = found else {
            self.seen = None;
            return Step::Create(self.record(0));
        };
        let since = match &self.seen {
            Some((seen, since)) if seen == version => *since,
            _ => {
                self.seen = Some((version.clone(), now));
                now
            }
        };
        if record.holder == self.me {
            return Step::Replace(self.record(record.transitions), version.clone());
        }
        if record.holder.is_empty() || now.saturating_sub(since) > record.duration.max(DURATION) {
            return Step::Replace(self.record(record.transitions.saturating_add(1)), version.clone());
        }
        self.until = None;
        Step::Wait
    }

    /// The step was taken, by a request that was sent at `sent`.
    pub(crate) fn written(&mut self, sent: Duration) {
        self.until = Some(sent + LEADS);
    }

    /// Another one was faster.
    pub(crate) fn lost(&mut self) {
        self.until = None;
        self.seen = None;
    }

    /// Gives the Lease up, if this one has it.
    pub(crate) fn leave(&mut self, found: Option<&Found>) -> Step {
        self.until = None;
        match found {
            Some(Found { record, version }) if record.holder == self.me => {
                Step::Replace(Record { holder: String::new(), ..record.clone() }, version.clone())
            }
            _ => Step::Wait,
        }
    }

    fn record(&self, transitions: i32) -> Record {
        Record { holder: self.me.clone(), transitions, duration: DURATION }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn held(holder: &str, version: &str) -> Found {
        let record = Record { holder: holder.into(), transitions: 3, duration: DURATION };
        Found { record, version: version.into() }
    }

    #[test]
    fn the_first_one_makes_the_lease_and_renews_it() {
        let mut election = Election::new("a".into());
        assert!(!election.leads(seconds(0)));
        let wanted = Record { holder: "a".into(), transitions: 0, duration: DURATION };
        assert_eq!(election.look(None, seconds(1)), Step::Create(wanted));
        election.written(seconds(1));
        assert!(election.leads(seconds(10)) && !election.leads(seconds(11)));
        let wanted = Record { holder: "a".into(), transitions: 3, duration: DURATION };
        assert_eq!(election.look(Some(&held("a", "5")), seconds(3)), Step::Replace(wanted, "5".into()));
        election.written(seconds(3));
        assert!(election.leads(seconds(12)));
    }

    #[test]
    fn a_silent_holder_is_followed() {
        let mut election = Election::new("b".into());
        assert_eq!(election.look(Some(&held("a", "5")), seconds(100)), Step::Wait);
        assert_eq!(election.look(Some(&held("a", "6")), seconds(110)), Step::Wait, "it has been renewed");
        assert_eq!(election.look(Some(&held("a", "6")), seconds(125)), Step::Wait);
        let wanted = Record { holder: "b".into(), transitions: 4, duration: DURATION };
        assert_eq!(election.look(Some(&held("a", "6")), seconds(126)), Step::Replace(wanted, "6".into()));
        election.lost();
        assert!(!election.leads(seconds(126)));
    }

    #[test]
    fn a_lease_that_was_given_up_is_taken_at_once() {
        let mut leaving = Election::new("a".into());
        leaving.written(seconds(1));
        let Step::Replace(record, _) = leaving.leave(Some(&held("a", "5"))) else { panic!("it holds it") };
        assert!(!leaving.leads(seconds(1)));
        assert_eq!(leaving.leave(Some(&held("b", "5"))), Step::Wait);
        let mut election = Election::new("b".into());
        let found = Found { record, version: "6".into() };
        assert!(matches!(election.look(Some(&found), seconds(1)), Step::Replace(..)));
    }

    /// One that looks: its election, how its clock differs, and a request that is under way.
    struct Node {
        election: Election,
        ahead: Duration,
        request: Option<(Step, Duration)>,
    }

    impl Node {
        fn clock(&self, now: Duration) -> Duration {
            now + self.ahead
        }
    }

    /// Has the server take a step, if its condition holds.
    fn take(server: &mut Option<Found>, step: &Step) -> bool {
        let next = server.as_ref().map_or(0, |found| found.version.parse::<u64>().expect("a number")) + 1;
        let record = match (step, &*server) {
            (Step::Create(record), None) => record,
            (Step::Replace(record, version), Some(found)) if found.version == *version => record,
            _ => return false,
        };
        *server = Some(Found { record: record.clone(), version: next.to_string() });
        true
    }

    proptest! {
        /// Requests may take long, and their answers may be lost.
        #[test]
        fn no_two_lead_at_once(
            steps in prop::collection::vec((0..3_usize, 0..20_u64, 0..4_u8), 1..200),
        ) {
            let mut nodes: Vec<Node> = [0, 1000, 7]
                .iter()
                .zip(["a", "b", "c"])
                .map(|(ahead, name)| Node {
                    election: Election::new(name.into()),
                    ahead: seconds(*ahead),
                    request: None,
                })
                .collect();
            let mut server: Option<Found> = None;
            let mut now = seconds(0);
            for (who, passes, luck) in steps {
                now += seconds(passes);
                let node = &mut nodes[who];
                match node.request.take() {
                    None => {
                        let clock = node.clock(now);
                        let step = node.election.look(server.as_ref(), clock);
                        node.request = (step != Step::Wait).then_some((step, clock));
                    }
                    // It arrives now, long after it was sent.
                    Some((step, sent)) => match (take(&mut server, &step), luck) {
                        (_, 0) => {}
                        (true, _) => node.election.written(sent),
                        (false, _) => node.election.lost(),
                    },
                }
                let leading = nodes.iter().filter(|node| node.election.leads(node.clock(now))).count();
                prop_assert!(leading <= 1, "{leading} lead");
            }
        }
    }
}
