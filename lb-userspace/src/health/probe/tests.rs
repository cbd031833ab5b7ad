//! What holds for every kind of probe over a stream, whatever the server says.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::servers::{self, Asked, TestServer};
use crate::config::{Exchange, HttpProbe, Probe};

const LIMIT: Duration = Duration::from_millis(100);

fn stream_probes() -> Vec<Probe> {
    let exchange = Exchange { send: b"hello".to_vec(), wanted: servers::wanted(Some("welcome"), None) };
    vec![
        Probe::Tcp(exchange),
        Probe::Http(HttpProbe::default()),
        Probe::Smtp { helo: "localhost".into() },
        Probe::Imap,
        Probe::Pop3,
        Probe::Ftp,
        Probe::Ldap,
        Probe::Mysql { user: "lb".into() },
        Probe::Postgresql { user: "lb".into(), database: "lb".into() },
        Probe::Redis,
        Probe::Grpc { service: String::new() },
        Probe::Agent { send: None },
    ]
}

/// What good servers say, for answers that are nearly right.
const GOOD: [&[u8]; 10] = [
    b"220-mail\r\n220 mail\r\n250-mail\r\n250 HELP\r\n",
    b"* OK ready\r\n",
    b"+OK ready\r\n",
    b"0\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
    b"\x0e\0\0\0\x0a10.11.6-Maria\0\x08\0\0\x02\xff\x15\x04#28000\x0b\0\0\x02\xffunknown...",
    b"R\0\0\0\x0c\0\0\0\x05abcdE\0\0\0\x10C57P03\0Mno\0\0",
    b"+PONG\r\n-LOADING\r\n",
    b"up 75% # fine\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    // HTTP/2: SETTINGS, their acknowledgement, HEADERS with status 200 and no more.
    b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x88",
];

/// Arbitrary bytes, or a good answer with a few other bytes and its end cut off.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let nearly = (prop::sample::select(&GOOD[..]), changes, any::<prop::sample::Index>());
    let nearly = nearly.prop_map(|(good, changes, end)| {
        let mut answer = good.to_vec();
        for (place, byte) in changes {
            *place.get_mut(&mut answer) = byte;
        }
        answer.truncate(end.index(answer.len()) + 1);
        answer
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..600), nearly]
}

/// Says `answer` to each client at once; `closes` its half then, or keeps it open.
async fn saying(answer: Vec<u8>, closes: bool) -> TestServer {
    servers::serving(move |mut stream| {
        let answer = answer.clone();
        async move {
            tokio::spawn(async move {
                if stream.write_all(&answer).await.is_ok() && closes {
                    let _ = stream.shutdown().await;
                }
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    })
    .await
}

async fn ask_all(address: SocketAddr) {
    let asked: Vec<_> = stream_probes().into_iter().map(|probe| Asked::of(probe, LIMIT)).collect();
    for found in join_all(asked.iter().map(|asked| asked.at(address))).await {
        if let Err(words) = found {
            assert!(!words.is_empty() && words.len() < 400, "'{words}'");
            assert!(!words.contains(char::is_control), "'{words}'");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn whatever_a_server_says_every_probe_ends_in_time(answer in answers(), closes: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let begin = Instant::now();
        runtime.block_on(async {
            let server = saying(answer, closes).await;
            ask_all(server.address).await;
        });
        // Generous, for a busy machine: a probe that minds no limit never ends.
        prop_assert!(begin.elapsed() < LIMIT + Duration::from_secs(5), "{:?}", begin.elapsed());
    }
}
