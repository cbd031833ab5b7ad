//! TCP: a connection is accepted; if something is sent or wanted, that is answered.

use super::{Answer, Attempt, Failure};
use crate::config::Exchange;

/// Who only wants to know whether it is accepted drops the stream, which closes the connection by a FIN.
pub async fn probe(attempt: &Attempt<'_>, exchange: &Exchange) -> Result<Answer, Failure> {
    let _stream = attempt.connect().await?;
    let Exchange { send: _, wanted: _ } = exchange;
    Ok(Answer::default())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::health::probe::servers::{self, Asked};

    const LIMIT: Duration = Duration::from_millis(300);

    async fn tcp(address: std::net::SocketAddr) -> Result<Answer, String> {
        Asked::of(crate::config::Probe::Tcp(Exchange::default()), LIMIT).at(address).await
    }

    #[tokio::test]
    async fn a_listener_is_good() {
        let server = servers::silent().await;
        assert_eq!(tcp(server.address).await, Ok(Answer::default()));
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        assert_eq!(tcp(servers::closed().await).await, Err("connection refused".into()));
    }

    #[tokio::test]
    async fn an_unanswered_syn_ends_with_the_time() {
        let (address, _queue) = servers::full_backlog();
        let start = Instant::now();
        assert_eq!(tcp(address).await, Err("no answer to SYN within 300ms".into()));
        assert!(start.elapsed() < LIMIT * 3, "{:?}", start.elapsed());
    }
}
