//! The DNS probe with good and bad servers.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::message_builder::AnswerBuilder;
use domain::base::{Message, MessageBuilder, Name, Rtype, Serial, Ttl};
use domain::rdata::{A, Aaaa, Cname, Mx, Ns, Soa, Txt};
use lb_model::{Probe, RecordType};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::probe::test_servers::{self, Asked, PATIENCE, TestServer};

const LIMIT: Duration = Duration::from_millis(300);
const TTL: Ttl = Ttl::from_secs(60);

fn name(text: &str) -> Name<Vec<u8>> {
    text.parse().expect("a name")
}

fn check(record: RecordType, answer: Option<&str>) -> DnsProbe {
    DnsProbe { name: "www.example.org".into(), record, answer: answer.map(Into::into) }
}

fn asked(check: DnsProbe) -> Asked {
    Asked::of(Probe::Dns(check), PATIENCE)
}

/// A server that answers every query.
async fn server(finish: fn(&Message<[u8]>, &mut AnswerBuilder<Vec<u8>>)) -> TestServer {
    test_servers::answering_datagrams(move |question| vec![answer(question, Rcode::NOERROR, finish)]).await
}

fn answer(
    question: &[u8],
    code: Rcode,
    finish: impl Fn(&Message<[u8]>, &mut AnswerBuilder<Vec<u8>>),
) -> Vec<u8> {
    let question = Message::from_slice(question).expect("a question");
    let mut builder = MessageBuilder::new_vec().start_answer(question, code).expect("room");
    finish(question, &mut builder);
    builder.finish()
}

/// One record of each type, and a few more.
fn zone(question: &Message<[u8]>, answer: &mut AnswerBuilder<Vec<u8>>) {
    let www = || name("WWW.Example.org");
    let pushed = match question.qtype().expect("a question") {
        Rtype::A => answer
            .push((www(), TTL, Cname::new(name("farm.example.org"))))
            .and_then(|()| answer.push((name("farm.example.org"), TTL, A::new(Ipv4Addr::new(192, 0, 2, 80)))))
            .and_then(|()| {
                answer.push((name("farm.example.org"), TTL, A::new(Ipv4Addr::new(192, 0, 2, 81))))
            }),
        Rtype::AAAA => {
            answer.push((www(), TTL, Aaaa::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80))))
        }
        Rtype::NS => answer.push((www(), TTL, Ns::new(name("NS1.example.org")))),
        Rtype::MX => answer.push((www(), TTL, Mx::new(10, name("mail.example.org")))),
        Rtype::TXT => answer.push((
            www(),
            TTL,
            Txt::<Vec<u8>>::from_octets(b"\x06v=spf1\x05 -all".to_vec()).expect("text"),
        )),
        Rtype::SOA => {
            let (first, responsible) = (name("ns1.example.org"), name("hostmaster.example.org"));
            answer.push((www(), TTL, Soa::new(first, responsible, Serial(7), TTL, TTL, TTL, TTL)))
        }
        other => panic!("nobody asks for {other}"),
    };
    pushed.expect("room");
}

#[tokio::test]
async fn answers_are_as_a_zone_file_writes_them() {
    let server = server(zone).await;
    for (record, answers) in [
        (RecordType::A, &["192.0.2.80", "192.0.2.81"][..]),
        (RecordType::Aaaa, &["2001:db8::80", "2001:DB8:0:0::80"]),
        (RecordType::Ns, &["ns1.example.org", "NS1.EXAMPLE.ORG."]),
        (RecordType::Mx, &["10 mail.example.org", "10  Mail.Example.Org."]),
        (RecordType::Txt, &["v=spf1 -all", "\"v=spf1\" \" -all\""]),
        (RecordType::Soa, &["ns1.example.org. hostmaster.example.org. 7 60 60 60 60"]),
    ] {
        for answer in answers.iter().copied().map(Some).chain([None]) {
            let result = asked(check(record, answer)).at(server.address).await;
            assert_eq!(result, Ok(Answer::default()), "{record:?} {answer:?}");
        }
    }
}

#[tokio::test]
async fn another_answer_is_told() {
    let zone = server(zone).await;
    let nothing = server(|_, _| {}).await;
    for (server, record, answer, words) in [
        (&zone, RecordType::A, "192.0.2.8", "no 192.0.2.8 among the answers: 192.0.2.80, 192.0.2.81"),
        (
            &zone,
            RecordType::Mx,
            "20 mail.example.org",
            "no 20 mail.example.org among the answers: 10 mail.example.org.",
        ),
        (&zone, RecordType::Txt, "V=SPF1 -ALL", "no V=SPF1 -ALL among the answers: \"v=spf1\" \" -all\""),
        (&nothing, RecordType::A, "192.0.2.80", "no 192.0.2.80: the answer has no A record"),
    ] {
        assert_eq!(asked(check(record, Some(answer))).at(server.address).await, Err(words.into()));
    }
    let result = asked(check(RecordType::A, None)).at(nothing.address).await;
    assert_eq!(result, Ok(Answer::default()), "no error, no answer expected");
}

/// Answers with `code`, with and without the query's question section.
async fn erring(code: Rcode) -> [TestServer; 2] {
    let whole =
        test_servers::answering_datagrams(move |question| vec![answer(question, code, |_, _| {})]).await;
    let bare = test_servers::answering_datagrams(move |question| {
        let mut header = MessageBuilder::new_vec();
        header.header_mut().set_id(u16::from_be_bytes([question[0], question[1]]));
        header.header_mut().set_qr(true);
        header.header_mut().set_rcode(code);
        vec![header.finish()]
    })
    .await;
    [whole, bare]
}

/// For a configured name an error is a failure, as in keepalived.
#[tokio::test]
async fn errors_are_told_by_name() {
    let refused =
        "the answer is REFUSED (is `query` in a zone that it serves, and may this host ask for it?)";
    for (code, words) in [
        (Rcode::NXDOMAIN, "the answer is NXDOMAIN (does it have the name in `query`?)"),
        (Rcode::SERVFAIL, "the answer is SERVFAIL"),
        (Rcode::REFUSED, refused),
        (Rcode::NOTIMP, "the answer is NOTIMP"),
        (Rcode::FORMERR, "the answer is FORMERR"),
    ] {
        for server in erring(code).await {
            assert_eq!(asked(check(RecordType::A, None)).at(server.address).await, Err(words.into()));
        }
    }
}

/// For the root, authoritative servers and old ones give various answers, and any answer counts as
/// success. Only SERVFAIL means that a server cannot serve.
#[tokio::test]
async fn c4_without_a_name_any_answer_but_servfail_is_good() {
    let root = || DnsProbe { name: ".".into(), record: RecordType::Ns, answer: None };
    for code in
        [Rcode::NOERROR, Rcode::NXDOMAIN, Rcode::REFUSED, Rcode::NOTIMP, Rcode::FORMERR, Rcode::NOTAUTH]
    {
        for server in erring(code).await {
            assert_eq!(asked(root()).at(server.address).await, Ok(Answer::default()), "{code}");
        }
    }
    for server in erring(Rcode::SERVFAIL).await {
        assert_eq!(asked(root()).at(server.address).await, Err("the answer is SERVFAIL".into()));
    }
    // A record that is expected must be there.
    let expected = DnsProbe { answer: Some("a.root-servers.net".into()), ..root() };
    for server in erring(Rcode::REFUSED).await {
        assert!(asked(expected.clone()).at(server.address).await.is_err());
    }
}

/// Unusual servers that dig, keepalived and stub resolvers accept.
#[tokio::test]
async fn odd_servers_that_answer_are_up() {
    type Odd = fn(&[u8]) -> Vec<Vec<u8>>;
    let rows: [(&str, Odd); 12] = [
        ("leaves the question out", |question| {
            let mut header = MessageBuilder::new_vec();
            header.header_mut().set_id(u16::from_be_bytes([question[0], question[1]]));
            header.header_mut().set_qr(true);
            vec![header.finish()]
        }),
        ("writes the name in capitals", |question| {
            let mut message = answer(question, Rcode::NOERROR, |_, _| {});
            message[13..16].make_ascii_uppercase();
            vec![message]
        }),
        ("has bytes behind the message", |question| {
            vec![[&answer(question, Rcode::NOERROR, zone)[..], &[0; 20]].concat()]
        }),
        ("counts a record that is not there", |question| {
            let mut message = answer(question, Rcode::NOERROR, |_, _| {});
            message[7] = 1;
            vec![message]
        }),
        ("sends a record that cannot be read", |question| {
            let mut message = answer(question, Rcode::NOERROR, |_, _| {});
            message[7] = 1;
            message.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x03abc");
            vec![message]
        }),
        ("sets reserved bits", |question| {
            let mut message = answer(question, Rcode::NOERROR, |_, _| {});
            message[3] |= 0x70;
            vec![message]
        }),
        ("answers twice", |question| vec![answer(question, Rcode::NOERROR, zone); 2]),
        ("claims authority", |question| {
            let mut message = answer(question, Rcode::NOERROR, zone);
            message[2] |= 4;
            vec![message]
        }),
        ("offers no recursion, and forgets that it was asked to", |question| {
            let mut message = answer(question, Rcode::NOERROR, zone);
            message[2] &= !1;
            message[3] &= !0x80;
            vec![message]
        }),
        ("adds options that nobody asked for", |question| {
            let mut message = answer(question, Rcode::NOERROR, zone);
            message[11] = 1;
            message.extend_from_slice(b"\0\0\x29\x10\0\0\0\0\0\0\0");
            vec![message]
        }),
        ("has only another name for it", |question| {
            vec![answer(question, Rcode::NOERROR, |_, answer| {
                let alias = Cname::new(name("farm.example.org"));
                answer.push((name("www.example.org"), TTL, alias)).expect("room");
            })]
        }),
        ("says that there is more", |question| {
            let mut message = answer(question, Rcode::NOERROR, |_, _| {});
            message[2] |= 2;
            vec![message]
        }),
    ];
    for (name, answers) in rows {
        let server = test_servers::answering_datagrams(answers).await;
        assert_eq!(
            asked(check(RecordType::A, None)).at(server.address).await,
            Ok(Answer::default()),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_question_that_is_lost_is_asked_again() {
    let received = std::sync::atomic::AtomicUsize::new(0);
    let server = test_servers::answering_datagrams(move |question| {
        match received.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 | 1 => Vec::new(),
            _ => vec![answer(question, Rcode::NOERROR, zone)],
        }
    })
    .await;
    let asked = asked(check(RecordType::A, None)).with(|check| check.timeout = Duration::from_secs(6));
    let report = asked.report(server.address).await;
    let steps: Vec<_> = report.steps.iter().map(|step| step.what.as_ref()).collect();
    assert_eq!(steps, ["sent the question", "asked again", "asked again", "got an answer"]);
    assert_eq!(report.result.expect("the third time"), Answer::default());
}

/// Messages that look like an answer to `question` but are not.
fn strangers(question: &[u8]) -> Vec<Vec<u8>> {
    let mut other_id = answer(question, Rcode::SERVFAIL, |_, _| {});
    other_id[0] ^= 1;
    let mut other_name = answer(question, Rcode::SERVFAIL, |_, _| {});
    other_name[13] ^= 1;
    vec![other_id, other_name, question.to_vec()]
}

#[tokio::test]
async fn answers_to_other_questions_are_waited_through() {
    let server = test_servers::answering_datagrams(|question| {
        let mut datagrams = strangers(question);
        datagrams.push(answer(question, Rcode::NOERROR, zone));
        datagrams
    })
    .await;
    assert_eq!(
        asked(check(RecordType::A, Some("192.0.2.80"))).at(server.address).await,
        Ok(Answer::default())
    );
    let server = test_servers::answering_datagrams(strangers).await;
    let words = "no matching answer within 2s";
    let asked = asked(check(RecordType::A, None)).within(Duration::from_secs(2));
    assert_eq!(asked.at(server.address).await, Err(words.into()));
}

#[tokio::test]
async fn silence_refusal_and_garbage_are_told() {
    let silent = test_servers::answering_datagrams(|_| Vec::new()).await;
    let brief = asked(check(RecordType::A, None)).within(LIMIT);
    assert_eq!(brief.at(silent.address).await, Err("no answer within 300ms".into()));
    let address = silent.address;
    silent.stopped().await;
    let asked = asked(check(RecordType::A, None));
    assert_eq!(asked.at(address).await, Err("connection refused".into()));
    let garbage = test_servers::answering_datagrams(|_| vec![b"HTTP/1.1 40".to_vec()]).await;
    assert_eq!(asked.at(garbage.address).await, Err("the answer is not DNS: 'HTTP/1.1 40'".into()));
}

/// Answers truncated over UDP, and by `reply` over TCP on the same port.
async fn truncating(reply: fn(&[u8]) -> Vec<u8>) -> (TestServer, TestServer) {
    // Tries ports until one is free for both protocols.
    let (datagrams, listener) = loop {
        let datagrams = UdpSocket::bind("127.0.0.1:0").await.expect("a port on loopback");
        let address: SocketAddr = datagrams.local_addr().expect("an address");
        if let Ok(listener) = TcpListener::bind(address).await {
            break (datagrams, listener);
        }
    };
    let udp = test_servers::answering_datagrams_on(datagrams, |question| {
        let mut truncated = answer(question, Rcode::NOERROR, |_, _| {});
        truncated[2] |= 2;
        vec![truncated]
    });
    let tcp = test_servers::serving_on(listener, move |mut stream| async move {
        let length = stream.read_u16().await.expect("a length");
        let mut question = vec![0; usize::from(length)];
        stream.read_exact(&mut question).await.expect("a question");
        let _ = stream.write_all(&reply(&question)).await;
    });
    (udp, tcp)
}

fn with_length(message: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a short message");
    [length.to_be_bytes().to_vec(), message].concat()
}

#[tokio::test]
async fn what_does_not_fit_is_asked_for_over_tcp() {
    let expected = asked(check(RecordType::A, Some("192.0.2.81")));
    let (server, _tcp) = truncating(|question| with_length(answer(question, Rcode::NOERROR, zone))).await;
    let report = expected.report(server.address).await;
    assert_eq!(report.result.expect("the record"), Answer::default());
    let steps: Vec<_> = report.steps.iter().map(|step| step.what.as_ref()).collect();
    assert_eq!(steps, ["sent the question", "got a truncated answer", "connected"]);
    assert_eq!(asked(check(RecordType::A, None)).at(server.address).await, Ok(Answer::default()));

    let (server, _tcp) = truncating(|question| {
        let mut other = answer(question, Rcode::NOERROR, zone);
        other[0] ^= 1;
        with_length(other)
    })
    .await;
    assert_eq!(expected.at(server.address).await, Err("the answer is to another question".into()));
    let (server, _tcp) = truncating(|_| vec![0xff, 0xff]).await;
    assert_eq!(expected.at(server.address).await, Err("closed before the answer".into()));
    let (server, _tcp) = truncating(|_| vec![0, 100, 1]).await;
    assert_eq!(expected.at(server.address).await, Err("closed before the answer".into()));
}

proptest! {
    #[test]
    fn no_answer_is_too_strange(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end: prop::sample::Index,
        record in prop::sample::select(&RecordType::ALL[..]),
    ) {
        let question = Question::new(&check(record, None)).expect("a question");
        let mut message = answer(question.as_bytes(), Rcode::NOERROR, zone);
        for (place, byte) in changes {
            *place.get_mut(&mut message) = byte;
        }
        message.truncate(end.index(message.len() + 1));
        if let Ok(Some(reply)) = question.reply(&message) {
            let _ = judge(&check(record, Some("x")), &reply);
        }
    }
}
