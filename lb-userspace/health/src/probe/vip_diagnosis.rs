//! VIP path diagnosis: if a server does not answer at the VIP, a probe of its own address shows
//! whether the VIP is missing, so that the failure can say so.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use lb_model::{Check, Probe, Protocol, Via};
use tokio::sync::OnceCell;
use tokio::time::sleep_until;

use super::{Answer, Attempt, Failure};

/// Runs a probe through the VIP. If there is no answer after half of the time, it also probes the
/// server's own address, so that the diagnosis is complete at the deadline.
pub(super) async fn ask(attempt: &Attempt<'_>) -> Result<Answer, Failure> {
    let answers = OnceCell::new();
    let never: Infallible = tokio::select! {
        biased;
        result = super::ask(attempt) => return judge(attempt, result, answers.get()).await,
        never = diagnose_when_late(attempt, &answers) => never,
    };
    match never {}
}

async fn diagnose_when_late(attempt: &Attempt<'_>, answers: &OnceCell<bool>) -> Infallible {
    sleep_until(attempt.limit.halfway()).await;
    if !attempt.has_received() {
        answers.get_or_init(|| own_address_answers(attempt)).await;
    }
    std::future::pending().await
}

/// Interprets a result; `answers`: whether the server answers at its own address.
async fn judge(
    attempt: &Attempt<'_>,
    result: Result<Answer, Failure>,
    answers: Option<&bool>,
) -> Result<Answer, Failure> {
    let (vip, own) = (attempt.target().ip(), own_address(attempt));
    match result {
        Err(Failure::Refused) if own_address_answers(attempt).await => Err(Failure::VipRefuses { vip, own }),
        Err(failure) if is_silence(attempt, &failure) && answers == Some(&true) => {
            Err(if has_connections(&attempt.check.probe) {
                Failure::VipUnreachable { vip, own }
            } else {
                Failure::VipSilent { vip, own }
            })
        }
        result => result,
    }
}

/// Whether the server sent nothing at all, and the failure is not local.
fn is_silence(attempt: &Attempt<'_>, failure: &Failure) -> bool {
    !attempt.has_received()
        && !matches!(failure, Failure::Refused | Failure::NoMac { .. } | Failure::Local(_))
}

fn has_connections(probe: &Probe) -> bool {
    probe.transports().first() == Some(&Protocol::Tcp)
}

fn own_address(attempt: &Attempt<'_>) -> SocketAddr {
    let server: IpAddr = attempt.subject.server;
    SocketAddr::new(server, attempt.target().port())
}

/// Whether the server's own address accepts connections or, for UDP, answers the same request.
async fn own_address_answers(attempt: &Attempt<'_>) -> bool {
    let left = attempt.limit.left();
    let check = Check { via: Via::Server, tls: None, timeout: left, ..attempt.check.clone() };
    let own = attempt.beside(&check);
    if has_connections(&check.probe) { own.connect().await.is_ok() } else { super::ask(&own).await.is_ok() }
}
