//! People who look at a director's page.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::lab::{Director, browser};

/// Processor time of the director while so many look at its page, for so long.
pub fn cost(director: &Director, viewers: usize, looked_at: Duration) -> Result<Duration> {
    director.node().run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut looking = JoinSet::new();
            for _ in 0..viewers {
                looking.spawn(look());
            }
            // All are connected by then.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let before = director.process().cpu_time()?;
            let ended = timeout(looked_at, looking.join_next()).await;
            if let Ok(Some(ended)) = ended {
                ended??;
            }
            if viewers == 0 {
                tokio::time::sleep(looked_at).await;
            }
            Ok(director.process().cpu_time()? - before)
        })
    })?
}

/// Fetches the page once a second, as its script does.
async fn look() -> Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", browser::PAGE)).await?);
    let mut seconds = interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            ensure!(stream.read_line(&mut line).await? > 0, "the director has closed the connection");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut page = vec![0; length];
        stream.read_exact(&mut page).await?;
    }
}
