//! What many viewers cost the director.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::busy::measured;
use lb_lab::cluster::Talk;
use lb_lab::lab::{Director, browser, unique_name};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::configuration;

const VIEWERS: usize = 100;
const LOOKED_AT: Duration = Duration::from_secs(10);

/// Of a processor, for all of them together. A build for debugging is another program.
const SHARE: f64 = 0.02;
const SHARE_OF_DEBUG_BUILD: f64 = 0.5;

#[test]
fn a_hundred_viewers_cost_the_director_little() -> Result<()> {
    let talk = Talk::new(&unique_name("viewers"))?;
    let configuration = configuration(&talk, "web: on\n");
    let director = Director::start(&talk.ha1, &configuration)?;
    let is_debug = lb_lab::lab::director::binary()?.components().any(|part| part.as_os_str() == "debug");
    let most = if is_debug { SHARE_OF_DEBUG_BUILD } else { SHARE };
    measured("a hundred viewers", || {
        let alone = cost(&director, 0)?;
        let viewed = cost(&director, VIEWERS)?;
        let share = viewed.saturating_sub(alone).as_secs_f64() / LOOKED_AT.as_secs_f64();
        println!("{VIEWERS} viewers take {:.2} % of a processor", share * 100.0);
        ensure!(share < most, "{VIEWERS} viewers take {:.2} % of a processor", share * 100.0);
        Ok(())
    })
}

/// Processor time of the director while so many look at its page.
fn cost(director: &Director, viewers: usize) -> Result<Duration> {
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
            let ended = timeout(LOOKED_AT, looking.join_next()).await;
            if let Ok(Some(ended)) = ended {
                ended??;
            }
            if viewers == 0 {
                tokio::time::sleep(LOOKED_AT).await;
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
