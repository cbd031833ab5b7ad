//! The Lease of the API server, looked at and written as the [`Election`] says.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::lease::{Election, Found, INTERVAL, Record, Step};
use crate::words::{self, OngoingTrouble};

/// Its name in the namespace of `lb-kube`.
pub(crate) const NAME: &str = "lb-kube";

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(4);

pub(crate) struct Elector {
    leases: Api<Lease>,
    election: Election,
    began: Instant,
    told: OngoingTrouble,
}

impl Elector {
    pub(crate) fn new(client: Client, namespace: &str, me: String) -> Self {
        let leases = Api::namespaced(client, namespace);
        Self { leases, election: Election::new(me), began: Instant::now(), told: OngoingTrouble::default() }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Runs for office until `stop` says so, then gives the Lease up. `leads` has whether this one
    /// leads, and until when.
    pub(crate) async fn run(
        mut self,
        leads: watch::Sender<Option<Instant>>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut led = false;
        while !*stop.borrow_and_update() {
            match self.step().await {
                Ok(()) => self.told.end("the Lease can be had again"),
                Err(error) => self.told.trouble(format!("{error:#}")),
            }
            let until = self.election.until().map(|until| self.began + until);
            // A renewal is no news; that its time has run out is.
            leads.send_if_modified(|known| {
                *known = until;
                std::mem::replace(&mut led, is_ahead(until)) != led
            });
            // Whoever would say it may be gone.
            if let Ok(Err(_)) = timeout(INTERVAL, stop.changed()).await {
                break;
            }
        }
        leads.send_replace(None);
        if let Err(error) = self.leave().await {
            tracing::warn!("{error:#}");
        }
    }

    async fn step(&mut self) -> Result<()> {
        let found = self.get().await?;
        let now = self.now();
        let step = self.election.look(found.as_ref().map(|(found, _)| found), now);
        self.take(step, found.map(|(_, lease)| lease), true).await
    }

    async fn leave(&mut self) -> Result<()> {
        let found = self.get().await?;
        let step = self.election.leave(found.as_ref().map(|(found, _)| found));
        self.take(step, found.map(|(_, lease)| lease), false).await
    }

    async fn get(&self) -> Result<Option<(Found, Lease)>> {
        let lease = within("looking at the Lease", self.leases.get_opt(NAME)).await?;
        Ok(lease.map(|lease| (found(&lease), lease)))
    }

    async fn take(&mut self, step: Step, known: Option<Lease>, leads: bool) -> Result<()> {
        let sent = self.now();
        let written = match step {
            Step::Wait => return Ok(()),
            Step::Create(record) => {
                let lease = lease(&record, None, None);
                timeout(PATIENCE, self.leases.create(&PostParams::default(), &lease)).await
            }
            Step::Replace(record, version) => {
                let lease = lease(&record, Some(version), known);
                timeout(PATIENCE, self.leases.replace(NAME, &PostParams::default(), &lease)).await
            }
        };
        match written {
            Ok(Ok(_)) if leads => self.election.written(sent),
            Ok(Ok(_)) => {}
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => self.election.lost(),
            Ok(Err(error)) => return Err(anyhow!(words::of("writing the Lease", &error))),
            Err(_) => return Err(late("writing the Lease")),
        }
        Ok(())
    }
}

fn is_ahead(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() < until)
}

async fn within<T>(doing: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T> {
    match timeout(PATIENCE, request).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(anyhow!(words::of(doing, &error))),
        Err(_) => Err(late(doing)),
    }
}

fn late(doing: &str) -> anyhow::Error {
    anyhow!("{doing}: the API server does not answer within {} s", PATIENCE.as_secs())
}

fn found(lease: &Lease) -> Found {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let record = Record {
        holder: spec.holder_identity.unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or_default(),
        duration: Duration::from_secs(seconds.unwrap_or_default()),
    };
    Found { record, version: lease.metadata.resource_version.clone().unwrap_or_default() }
}

/// What is to be written; a holder that stays keeps the time at which it began.
fn lease(record: &Record, version: Option<String>, known: Option<Lease>) -> Lease {
    let now = MicroTime(Timestamp::now());
    let known = known.and_then(|known| known.spec);
    let same = known.filter(|known| known.holder_identity.as_deref() == Some(record.holder.as_str()));
    let since = same.and_then(|same| same.acquire_time).unwrap_or_else(|| now.clone());
    Lease {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            resource_version: version,
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(record.holder.clone()),
            lease_duration_seconds: i32::try_from(record.duration.as_secs()).ok(),
            lease_transitions: Some(record.transitions),
            acquire_time: Some(since),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_as_it_was_written() {
        let record = Record { holder: "a".into(), transitions: 2, duration: Duration::from_secs(15) };
        let written = lease(&record, Some("7".into()), None);
        assert_eq!(found(&written), Found { record: record.clone(), version: "7".into() });
        let since = written.spec.as_ref().and_then(|spec| spec.acquire_time.clone());
        let again = lease(&record, None, Some(written));
        assert_eq!(again.spec.expect("it has one").acquire_time, since);
        let empty = found(&Lease::default());
        assert_eq!((empty.record.holder.as_str(), empty.record.duration), ("", Duration::ZERO));
    }
}
