//! Answers to probes: each type of probe gets answers that are nearly right, in pieces, from
//! servers that close, reset or keep the connection.

use std::time::{Duration, Instant};

use lb_fuzz::bytes::{self, samples};
use lb_fuzz::script::{runtime, scripts};
use lb_fuzz::{Failed, hold};
use lb_model::{Command, Exchange, ExternalProbe, HttpProbe, Probe};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

use crate::probe::Report;
use crate::probe::test_servers::{self, Asked, expected};

pub(super) const LIMIT: Duration = Duration::from_millis(100);

/// Limit for probes that ignore their own time limit.
const PATIENCE: Duration = Duration::from_secs(60);

/// More steps than the longest dialogue of a probe has.
const STEPS: usize = 20;

/// The property of every probe with any server.
pub(super) fn is_in_order(report: &Report, begun: Instant) -> Result<(), TestCaseError> {
    prop_assert!(begun.elapsed() < LIMIT + PATIENCE, "{:?}", begun.elapsed());
    let failure = report.result.as_ref().err().map(ToString::to_string);
    for words in failure.iter().chain(&report.warning) {
        prop_assert!(!words.is_empty() && words.len() < 400, "'{words}'");
        prop_assert!(!words.contains(char::is_control), "'{words}'");
    }
    prop_assert!(report.steps.len() <= STEPS, "{:?}", report.steps);
    for step in &report.steps {
        prop_assert!(step.what.len() < 400 && !step.what.contains(char::is_control), "{step:?}");
    }
    Ok(())
}

/// A probe over a stream.
fn stream(config: Config, probe: Probe, samples: Vec<Vec<u8>>) -> Result<(), Failed> {
    streams(config, vec![probe], samples)
}

fn streams(config: Config, probes: Vec<Probe>, samples: Vec<Vec<u8>>) -> Result<(), Failed> {
    let runtime = runtime();
    let asked: Vec<Asked> = probes.into_iter().map(|probe| Asked::of(probe, LIMIT)).collect();
    hold(config, (scripts(samples), any::<prop::sample::Index>()), |(script, which)| {
        let asked = which.get(&asked);
        runtime.block_on(async {
            let server = test_servers::serving(move |stream| {
                let script = script.clone();
                async move { script.play(stream).await }
            });
            let (server, begun) = (server.await, Instant::now());
            is_in_order(&asked.report(server.address).await, begun)
        })
    })
}

pub(super) fn run_agent(config: Config) -> Result<(), Failed> {
    let good = [&b"up 75% # fine\n"[..], b"drain\r\n", b"maxconn:30 ready 128", b"down#reason for people\n"];
    streams(
        config,
        vec![Probe::Agent { send: None }, Probe::Agent { send: Some("how\n".into()) }],
        samples(good),
    )
}

pub(super) fn run_ftp(config: Config) -> Result<(), Failed> {
    let good = [
        &b"220-hello\r\n 220 not yet\r\n220 ready\r\n221 bye\r\n"[..],
        b"220 ready\r\n221 bye\r\n",
        b"421 no\r\n",
    ];
    stream(config, Probe::Ftp, samples(good))
}

pub(super) fn run_grpc(config: Config) -> Result<(), Failed> {
    // SETTINGS, their acknowledgement, HEADERS with status 200 (and a literal content-type), DATA,
    // trailers.
    let settings = b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";
    let headers = b"\0\0\x01\x01\x04\0\0\0\x01\x88";
    let data = b"\0\0\x07\0\0\0\0\0\x01\0\0\0\0\x02\x08\x01";
    let trailers = b"\0\0\x0f\x01\x05\0\0\0\x01\x40\x0bgrpc-status\x010";
    let whole = [&settings[..], headers, data, trailers].concat();
    let goaway = [&settings[..], b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\x0b"].concat();
    let refused = [&settings[..], headers, b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07"].concat();
    let settled = b"\0\0\x0c\x04\0\0\0\0\0\0\x03\0\0\0\x01\0\x04\0\0\x10\0\0\0\x04\x01\0\0\0\0";
    let good = vec![whole, goaway, refused, settled.to_vec(), b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()];
    streams(
        config,
        vec![Probe::Grpc { service: String::new() }, Probe::Grpc { service: "web.Shop".into() }],
        good,
    )
}

pub(super) fn run_http(config: Config) -> Result<(), Failed> {
    let good = [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: x\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nhello until the end",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: https://www.example.org/\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x05hello",
        b"hello, this is HTTP/0.9\n",
    ];
    let page = HttpProbe { expected: expected(Some("hello"), None), ..HttpProbe::default() };
    let digest =
        HttpProbe { digest: Some([7; 32]), expected: expected(None, Some("h.l+o$")), ..page.clone() };
    let probes = [HttpProbe::default(), page, digest].map(Probe::Http).to_vec();
    streams(config, probes, samples(good))
}

pub(super) fn run_imap(config: Config) -> Result<(), Failed> {
    let good = [
        &b"* OK [CAPABILITY IMAP4rev1] ready\r\na OK done\r\n* BYE\r\n"[..],
        b"* PREAUTH hi\r\n",
        b"* BYE overloaded\r\n",
    ];
    stream(config, Probe::Imap, samples(good))
}

pub(super) fn run_ldap(config: Config) -> Result<(), Failed> {
    let good = [
        &b"0\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00"[..],
        b"0\x84\0\0\0\x10\x02\x01\x01\x61\x84\0\0\0\x07\x0a\x01\x00\x04\x00\x04\x00",
        b"0\x10\x02\x01\0\x78\x0b\x0a\x01\x34\x04\0\x04\x04down",
    ];
    stream(config, Probe::Ldap, samples(good))
}

pub(super) fn run_mysql(config: Config) -> Result<(), Failed> {
    let greeting = b"\x0e\0\0\0\x0a10.11.6-Maria\0";
    let refused = b"\x14\0\0\x02\xff\x15\x04#28000go away, lb";
    let accepted = b"\x07\0\0\x02\0\0\0\x02\0\0\0";
    let switch = b"\x19\0\0\x02\xfecaching_sha2_password\0salt\x14\0\0\x04\xff\x15\x04#28000go away, lb";
    let good = vec![
        [&greeting[..], refused].concat(),
        [&greeting[..], accepted].concat(),
        [&greeting[..], switch].concat(),
        b"\x17\0\0\0\xff\x10\x04Too many connections".to_vec(),
    ];
    stream(config, Probe::Mysql { user: "lb".into() }, good)
}

pub(super) fn run_pop3(config: Config) -> Result<(), Failed> {
    stream(config, Probe::Pop3, samples([&b"+OK ready <1@x>\r\n+OK bye\r\n"[..], b"-ERR busy\r\n"]))
}

pub(super) fn run_postgresql(config: Config) -> Result<(), Failed> {
    let good = [
        &b"R\0\0\0\x0c\0\0\0\x05abcd"[..],
        b"R\0\0\0\x08\0\0\0\0S\0\0\0\x0ea\0b\0c\0d\0e\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I",
        b"E\0\0\0\x1dSFATAL\0C57P03\0Mstarting\0\0",
        b"N\0\0\0\x09Mhi\0\0E\0\0\0\x10C28000\0Mno\0\0",
    ];
    stream(config, Probe::Postgresql { user: "lb".into(), database: "lb".into() }, samples(good))
}

pub(super) fn run_redis(config: Config) -> Result<(), Failed> {
    let good = [
        &b"+PONG\r\n+OK\r\n"[..],
        b"-LOADING dataset\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"$4\r\nPONG\r\n",
    ];
    stream(config, Probe::Redis, samples(good))
}

pub(super) fn run_smtp(config: Config) -> Result<(), Failed> {
    let good = [
        &b"220-mail\r\n220 mail\r\n250-mail\r\n250-PIPELINING\r\n250 HELP\r\n221 bye\r\n"[..],
        b"220 mail\r\n502 no EHLO\r\n250 mail\r\n221 bye\r\n",
        b"554 no service\r\n",
    ];
    stream(config, Probe::Smtp { helo: "localhost".into() }, samples(good))
}

pub(super) fn run_tcp(config: Config) -> Result<(), Failed> {
    let exchange = |send: &[u8], text, pattern| {
        Probe::Tcp(Exchange { send: send.to_vec(), expected: expected(text, pattern) })
    };
    let probes = vec![
        exchange(b"", None, None),
        exchange(b"hello", Some("welcome"), None),
        exchange(b"", Some("you"), Some("^wel.*me$")),
    ];
    streams(config, probes, samples([&b"welcome"[..], b"thank you, welcome"]))
}

pub(super) fn run_udp(config: Config) -> Result<(), Failed> {
    let runtime = runtime();
    let exchange = Exchange { send: b"hello".to_vec(), expected: expected(Some("welcome"), Some("w.*e")) };
    let asked = Asked::of(Probe::Udp(exchange), LIMIT);
    hold(config, bytes::nearly(samples([&b"welcome"[..], b"you are welcome"])), |answer| {
        // Longer ones do not fit into a datagram.
        let answer = answer[..answer.len().min(60_000)].to_vec();
        runtime.block_on(async {
            let server = test_servers::answering_datagrams(move |_| vec![answer.clone()]).await;
            let begun = Instant::now();
            is_in_order(&asked.report(server.address).await, begun)
        })
    })
}

pub(super) fn run_file(config: Config) -> Result<(), Failed> {
    let runtime = runtime();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weight");
    let asked = Asked::of(Probe::File(path.clone()), LIMIT);
    hold(config, bytes::nearly(samples([&b"100\n"[..], b"0", b" 65535 \r\n"])), |text| {
        std::fs::write(&path, text).expect("a file");
        is_in_order(&runtime.block_on(asked.report(([127, 0, 0, 1], 80).into())), Instant::now())
    })
}

pub(super) fn run_external(config: Config) -> Result<(), Failed> {
    let runtime = runtime();
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("output");
    let inputs = (
        bytes::nearly(samples([&b"fine\n"[..], b"\nreplica is 20 s behind\n\n"])),
        any::<u8>(),
        any::<bool>(),
    );
    hold(config, inputs, |(text, code, dynamic)| {
        std::fs::write(&output, text).expect("a file");
        let script = format!("cat {}; exit {code}", output.display());
        // On a busy machine a process takes longer than the limit of other probes.
        let limit = PATIENCE / 2;
        let command = Command { words: vec!["/bin/sh".into(), "-c".into(), script], timeout: limit };
        let asked = Asked::of(Probe::External(ExternalProbe { command, dynamic }), limit);
        let begun = Instant::now();
        is_in_order(&runtime.block_on(asked.report(([127, 0, 0, 1], 80).into())), begun)
    })
}
