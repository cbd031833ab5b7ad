//! TCP: a connection is accepted.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::{Failure, Limit};

/// Connects to `target`. Who only wants to know drops the stream, which closes the connection by a FIN.
pub async fn probe(target: SocketAddr, limit: Limit) -> Result<TcpStream, Failure> {
    match limit.wait(TcpStream::connect(target), Failure::NoAnswerToSyn).await? {
        Ok(stream) => Ok(stream),
        // The kernel's own patience with SYNs, should it be shorter than ours.
        Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => {
            Err(Failure::NoAnswerToSyn(limit.whole))
        }
        Err(error) => Err(Failure::from_connect(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::health::probe::servers;

    const LIMIT: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn a_listener_is_good() {
        let server = servers::silent().await;
        probe(server.address, Limit::new(LIMIT)).await.expect("a connection");
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let failure = probe(servers::closed().await, Limit::new(LIMIT)).await.expect_err("no connection");
        assert_eq!(failure.to_string(), "connection refused");
    }

    #[tokio::test]
    async fn an_unanswered_syn_ends_with_the_time() {
        let (address, _queue) = servers::full_backlog();
        let start = Instant::now();
        let failure = probe(address, Limit::new(LIMIT)).await.expect_err("no connection");
        assert_eq!(failure.to_string(), "no answer to SYN within 300ms");
        assert!(start.elapsed() < LIMIT * 3, "{:?}", start.elapsed());
    }
}
