//! Ping: the host answers ICMP echo requests; the service itself is not tested.

use super::{Answer, Attempt, Failure};

pub(super) async fn probe(attempt: &Attempt<'_>) -> Result<Answer, Failure> {
    attempt.echo().await?;
    Ok(Answer::default())
}
