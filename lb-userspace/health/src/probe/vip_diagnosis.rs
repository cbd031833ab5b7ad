//! A second look at a server that does not answer at the VIP: does it at its own address? Then the VIP is what is wrong, and
//! the reason says so.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use lb_model::{Check, Probe, Protocol, Via};
use tokio::sync::OnceCell;
use tokio::time::sleep_until;

use super::{Answer, Attempt, Failure};

/// Makes a probe through the VIP. While the answer is late the server's own address is asked as well, so that all is known
/// when the time is up.
pub(super) async fn ask(attempt: &Attempt<'_>) -> Result<Answer, Failure> {
    let answers = OnceCell::new();
    let look: Infallible = tokio::select! {
        biased;
        result = super::ask(attempt) => return judge(attempt, result, answers.get()).await,
        never = look_when_late(attempt, &answers) => never,
    };
    match look {}
}

async fn look_when_late(attempt: &Attempt<'_>, answers: &OnceCell<bool>) -> Infallible {
    sleep_until(attempt.limit.halfway()).await;
    if !attempt.has_received() {
        answers.get_or_init(|| looks_well(attempt)).await;
    }
    std::future::pending().await
}

/// What a result means, knowing whether the server `answers` at its own address.
async fn judge(
    attempt: &Attempt<'_>,
    result: Result<Answer, Failure>,
    answers: Option<&bool>,
) -> Result<Answer, Failure> {
    let (vip, own) = (attempt.target().ip(), own_address(attempt));
    match result {
        Err(Failure::Refused) if looks_well(attempt).await => Err(Failure::VipRefuses { vip, own }),
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

/// Whether nothing at all came from the server, for no fault of this host.
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

/// Whether the server's own address accepts connections or, where there are none, answers the same question.
async fn looks_well(attempt: &Attempt<'_>) -> bool {
    let left = attempt.limit.left();
    let check = Check { via: Via::Server, tls: None, timeout: left, ..attempt.check.clone() };
    let own = attempt.beside(&check);
    if has_connections(&check.probe) { own.connect().await.is_ok() } else { super::ask(&own).await.is_ok() }
}
