//! Answers to DNS queries, over UDP and over TCP.

use std::time::Instant;

use lb_fuzz::bytes::{Edit, apply, edits};
use lb_fuzz::script::runtime;
use lb_fuzz::{Failed, hold};
use lb_model::{DnsProbe, Probe, RecordType};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use super::probes::{LIMIT, is_in_order};
use crate::probe::test_servers::{self, Asked, TestServer};

const HEADER: usize = 12;

/// Type and content of records, with names as pointers to the query's name; some of types that the
/// check never queries.
const RECORDS: [(u8, &[u8]); 14] = [
    (1, &[192, 0, 2, 80]),
    (28, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6]),
    (2, &[3, b'n', b's', b'1', 0xc0, 12]),
    (15, &[0, 10, 4, b'm', b'a', b'i', b'l', 0xc0, 12]),
    (16, &[6, b'v', b'=', b's', b'p', b'f', b'1', 5, b' ', b'-', b'a', b'l', b'l']),
    (6, &[0xc0, 12, 1, b'h', 0xc0, 12, 0, 0, 0, 7, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0, 60]),
    (5, &[0xc0, 12]),
    (33, &[0, 1, 0, 2, 0, 80, 0xc0, 12]),
    (41, &[0, 10, 0, 2, 1, 2]),
    (47, &[1, b'b', 0, 0, 2, 0x40, 1]),
    (50, &[1, 0, 0, 1, 1, 7, 1, 9, 0, 1, 0x40]),
    (64, &[0, 1, 0, 0, 1, 0, 3, 2, b'h', b'2']),
    (46, &[0, 1, 13, 2, 0, 0, 0, 60, 0, 0, 0, 9, 0, 0, 0, 1, 0, 7, 0, 1, 2, 3]),
    (99, &[1, 2, 3]),
];

#[derive(Debug, Clone)]
struct Answer {
    records: Vec<(u8, &'static [u8])>,
    code: u8,
    edits: Vec<Edit>,
    /// Restores the first bytes: otherwise hardly any message would be accepted as an answer.
    fits: bool,
}

impl Answer {
    fn to(&self, question: &[u8]) -> Vec<u8> {
        let mut answer = question.to_vec();
        answer[2..4].copy_from_slice(&[0x81, 0x80 | self.code]);
        answer[6..8].copy_from_slice(&(self.records.len() as u16).to_be_bytes());
        for (kind, content) in &self.records {
            answer.extend([0xc0, 12, 0, *kind, 0, 1, 0, 0, 0, 60, 0, content.len() as u8]);
            answer.extend_from_slice(content);
        }
        let start = if self.fits { question.len().min(answer.len()) } else { 0 };
        let mut rest = answer.split_off(start);
        apply(&self.edits, &mut rest);
        answer.extend(rest);
        if !self.fits && answer.len() >= HEADER {
            answer[..2].copy_from_slice(&question[..2]);
        }
        answer
    }
}

fn answers() -> impl Strategy<Value = Answer> {
    let records = prop::collection::vec(select(&RECORDS[..]), 0..6);
    let code = prop_oneof![8 => Just(0), 1 => 0..16_u8];
    (records, code, edits(6), prop::bool::weighted(0.8)).prop_map(|(records, code, edits, fits)| Answer {
        records,
        code,
        edits,
        fits,
    })
}

/// Serves TCP, too: the probe uses it after a truncated answer.
async fn server(answer: Answer, truncated: bool) -> (TestServer, TestServer) {
    let (datagrams, listener) = loop {
        let datagrams = UdpSocket::bind("127.0.0.1:0").await.expect("a port on loopback");
        if let Ok(listener) = TcpListener::bind(datagrams.local_addr().expect("an address")).await {
            break (datagrams, listener);
        }
    };
    let short = answer.clone();
    let udp = test_servers::answering_datagrams_on(datagrams, move |question| {
        let mut reply = short.to(question);
        if truncated && reply.len() > 2 {
            reply[2] |= 2;
        }
        reply.truncate(60_000);
        vec![reply]
    });
    let tcp = test_servers::serving_on(listener, move |mut stream| {
        let answer = answer.clone();
        async move {
            let Ok(length) = stream.read_u16().await else { return };
            let mut question = vec![0; usize::from(length)];
            if stream.read_exact(&mut question).await.is_ok() {
                let reply = answer.to(&question);
                let _ = stream.write_u16(reply.len() as u16).await;
                let _ = stream.write_all(&reply).await;
            }
        }
    });
    (udp, tcp)
}

pub(super) fn run(config: Config) -> Result<(), Failed> {
    let runtime = runtime();
    let inputs = (answers(), any::<bool>(), select(&RecordType::ALL[..]), any::<bool>());
    hold(config, inputs, |(answer, truncated, record, compared)| {
        let expected = compared.then(|| "192.0.2.81".to_owned());
        let probe = DnsProbe { name: "www.example.org".into(), record, answer: expected };
        let asked = Asked::of(Probe::Dns(probe), LIMIT);
        runtime.block_on(async {
            let (server, _tcp) = server(answer, truncated).await;
            let begun = Instant::now();
            is_in_order(&asked.report(server.address).await, begun)
        })
    })
}
