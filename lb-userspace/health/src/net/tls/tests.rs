//! Probes over TLS, with good and bad certificates.

use std::time::Duration;

use lb_model::{Exchange, HttpProbe};
use tokio::io::AsyncWriteExt;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::*;
use crate::net::Net;
use crate::probe::test_servers::{self, Asked, Authority, Certificate, PATIENCE, TestServer};
use crate::probe::{Answer, Report};

const NAME: &str = "www.example.org";

fn tls(name: Option<&str>, verify: bool) -> Tls {
    let expiry_warning = Duration::from_secs(14 * 24 * 60 * 60);
    Tls { name: name.map(Into::into), verify, expiry_warning }
}

/// A probe that only connects by TLS.
fn asked(tls: Tls) -> Asked {
    Asked::of(Probe::Tcp(Exchange::default()), PATIENCE).with(|check| check.tls = Some(tls))
}

async fn page(certificate: Certificate) -> TestServer {
    let page = &["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nTest Page"];
    test_servers::serving_tls(certificate, &[], |stream| test_servers::answer(stream, page)).await
}

fn steps(report: &Report) -> Vec<&str> {
    report.steps.iter().map(|step| step.what.as_ref()).collect()
}

#[tokio::test]
async fn any_certificate_will_do_unless_verified() {
    let authority = Authority::new();
    let certificates = [
        ("self-signed", test_servers::self_signed("nobody.example.net")),
        ("expired", authority.certificate(NAME, -10..=-2)),
        ("not yet", authority.certificate(NAME, 2..=10)),
        ("another's", authority.certificate("nobody.example.net", -1..=100)),
    ];
    for (what, certificate) in certificates {
        let server = page(certificate).await;
        assert_eq!(asked(tls(Some(NAME), false)).at(server.address).await, Ok(Answer::default()), "{what}");
    }
}

#[tokio::test]
async fn a_verified_certificate_is_trusted_in_time_and_of_this_name() {
    let authority = Authority::new();
    let cases = [
        (authority.certificate(NAME, -1..=100), ""),
        (
            test_servers::self_signed(NAME),
            "certificate is signed by an authority that this host does not trust",
        ),
        (
            Authority::new().certificate(NAME, -1..=100),
            "certificate is signed by an authority that this host does not trust",
        ),
        (authority.certificate(NAME, -10..=-2), "certificate ended on 2"),
        (authority.certificate(NAME, 2..=10), "certificate begins only on 2"),
        (
            authority.certificate("*.example.net", -1..=100),
            "certificate is for *.example.net, not for www.example.org",
        ),
    ];
    let trust = authority.trusted();
    for (certificate, words) in cases {
        let server = page(certificate).await;
        match asked(tls(Some(NAME), true)).by(&trust, server.address).await.result {
            Ok(_) => assert_eq!(words, ""),
            Err(failure) => {
                let failure = failure.to_string();
                assert!(!words.is_empty() && failure.starts_with(words), "{failure}, not {words}");
            }
        }
    }
}

#[tokio::test]
async fn without_a_name_the_certificate_is_the_vips() {
    let authority = Authority::new();
    let server = page(authority.certificate("211.58.250.6", -1..=100)).await;
    let report = asked(tls(None, true)).by(&authority.trusted(), server.address).await;
    assert_eq!(report.result.expect("an address in the certificate"), Answer::default());
}

#[tokio::test]
async fn steps_and_versions_are_told() {
    for (versions, step) in [(&[&TLS13][..], "TLS 1.3 negotiated"), (&[&TLS12], "TLS 1.2 negotiated")] {
        let certificate = test_servers::self_signed(NAME);
        let server = test_servers::serving_tls_of(versions, certificate, &[], |_| async {}).await;
        let report = asked(tls(None, false)).report(server.address).await;
        assert_eq!(steps(&report), ["connected", step]);
        assert!(report.result.is_ok());
    }
}

#[tokio::test]
async fn an_end_that_is_near_is_a_warning() {
    let authority = Authority::new();
    let near = page(authority.certificate(NAME, -1..=6)).await;
    let past = page(authority.certificate(NAME, -10..=-2)).await;
    let far = page(authority.certificate(NAME, -1..=100)).await;
    for verify in [false, true] {
        let (asked, trust) = (asked(tls(Some(NAME), verify)), authority.trusted());
        let report = asked.by(&trust, near.address).await;
        assert!(report.result.is_ok());
        let warning = report.warning.expect("5 days left");
        assert!(warning.starts_with("certificate ends in 5 days, on 20"), "{warning}");
        assert_eq!(asked.by(&trust, far.address).await.warning, None);
    }
    let report = asked(tls(Some(NAME), false)).report(past.address).await;
    assert!(report.result.is_ok());
    assert!(report.warning.expect("it is past").starts_with("certificate ended on 20"));
}

/// The server name (SNI) of a probe for a page.
async fn name_asked_for(probe: Probe, name: Option<&str>) -> Option<String> {
    let (sender, mut names) = tokio::sync::mpsc::unbounded_channel();
    let server = test_servers::serving_tls(test_servers::self_signed(NAME), &[], move |mut stream| {
        let sender = sender.clone();
        async move {
            sender.send(stream.get_ref().1.server_name().map(str::to_owned)).expect("a test that listens");
            // Closing a connection with an unread request resets it, and the answer may be lost.
            test_servers::read_header(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    let asked = Asked::of(probe, PATIENCE).with(|check| check.tls = Some(tls(name, false)));
    assert_eq!(asked.at(server.address).await, Ok(Answer::default()));
    names.recv().await.expect("a connection")
}

#[tokio::test]
async fn the_name_asked_for_is_the_hosts_unless_configured() {
    let http =
        |host: Option<&str>| Probe::Http(HttpProbe { host: host.map(Into::into), ..HttpProbe::default() });
    for (host, name, sent) in [
        (None, None, None),
        (Some("www.example.org"), None, Some("www.example.org")),
        (Some("www.example.org:8443"), None, Some("www.example.org")),
        (Some("192.0.2.1:8443"), None, None),
        (Some("[2001:db8::1]:8443"), None, None),
        (Some("www.example.org"), Some("other.example.org"), Some("other.example.org")),
    ] {
        assert_eq!(name_asked_for(http(host), name).await.as_deref(), sent, "{host:?} {name:?}");
    }
    assert_eq!(name_asked_for(Probe::Tcp(Exchange::default()), Some(NAME)).await.as_deref(), Some(NAME));
}

#[tokio::test]
async fn a_page_is_read_inside() {
    let server = page(test_servers::self_signed(NAME)).await;
    let probe =
        HttpProbe { expected: test_servers::expected(Some("Test Page"), None), ..HttpProbe::default() };
    let asked = Asked::of(Probe::Http(probe), PATIENCE).with(|check| check.tls = Some(tls(None, false)));
    let report = asked.report(server.address).await;
    assert_eq!(
        steps(&report),
        ["connected", "TLS 1.3 negotiated", "got status 200", "read 9 bytes as expected"]
    );
    assert!(report.result.is_ok());
}

#[tokio::test]
async fn what_is_not_tls_is_told() {
    let brief = asked(tls(None, false)).within(Duration::from_millis(300));
    let silent = test_servers::silent().await;
    let words = "no end of the TLS handshake within 300ms";
    assert_eq!(brief.at(silent.address).await, Err(words.into()));
    let asked = asked(tls(None, false));
    let cases = [
        (test_servers::closing_after(b"").await, "closed before the end of the TLS handshake"),
        (test_servers::resetting().await, "reset before the end of the TLS handshake"),
        (test_servers::closing_after(b"HTTP/1.1 400 Bad Request\r\n\r\n").await, "the answer is not TLS"),
        (test_servers::closing_after(b"\x15\x03\x03\0\x02\x02\x28").await, "TLS refused: HandshakeFailure"),
    ];
    for (server, words) in cases {
        let failure = asked.at(server.address).await.expect_err(words);
        assert!(failure.starts_with(words), "{failure}, not {words}");
    }
    test_servers::fails_at_all(&brief).await;
}

/// A ServerHello with this version and a cipher suite of that version.
fn server_hello(version: u8) -> Vec<u8> {
    let body = [&[3, version][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
    let length = u8::try_from(body.len()).expect("a short hello");
    [&[0x16, 3, version, 0, length + 4, 2, 0, 0, length], &body[..]].concat()
}

fn alert(version: u8, description: u8) -> Vec<u8> {
    vec![0x15, 3, version, 0, 2, 2, description]
}

/// Failures for versions that rustls does not implement name the remedy.
#[tokio::test]
async fn servers_of_other_tls_are_told_apart() {
    const OLD: &str = "the server offers TLS 1.1 or older only, which lb does not speak: use `type: tcp`, or an external \
                       check with `openssl s_client`";
    let cipher = |alert: &str| {
        format!(
            "TLS refused: {alert}; the server wants a cipher that lb does not have (RSA key exchange, CBC, DHE), or a \
             client certificate: use `type: tcp`, or an external check with `openssl s_client`"
        )
    };
    let rows = [
        ("TLS 1.1", server_hello(2), OLD.to_owned()),
        ("TLS 1.0", server_hello(1), OLD.into()),
        ("TLS 1.0, by an alert", alert(1, 70), OLD.into()),
        ("TLS 1.1, by an alert", alert(2, 70), OLD.into()),
        ("SSL 3.0, by an alert", alert(0, 70), OLD.into()),
        ("RSA key exchange alone", alert(3, 40), cipher("HandshakeFailure")),
        ("the same of an old one", alert(1, 40), cipher("HandshakeFailure")),
        ("ciphers that are too weak for it", alert(3, 71), cipher("InsufficientSecurity")),
        (
            "another name",
            alert(3, 112),
            "TLS refused: UnrecognisedName; the server has no such name: set `tls_name`".into(),
        ),
        ("trouble of its own", alert(3, 80), "TLS refused: InternalError".into()),
    ];
    for (name, answer, words) in rows {
        let answer: &'static [u8] = answer.leak();
        let server = test_servers::closing_after(answer).await;
        assert_eq!(asked(tls(None, false)).at(server.address).await, Err(words), "{name}");
    }
}

/// A plain connection shows only that such a server is there; it answers no client without a
/// certificate.
#[tokio::test]
async fn a_server_that_wants_a_client_certificate_says_so() {
    let authority = Authority::new();
    let wants = "wants a client certificate, and lb has none: use `type: tcp`, or an external check with `openssl s_client`";
    for version in [&TLS12, &TLS13] {
        let certificate = authority.certificate(NAME, -1..=100);
        let server = test_servers::wanting_certificates(version, &authority, certificate).await;
        let http = Asked::of(Probe::Http(HttpProbe::default()), PATIENCE)
            .with(|check| check.tls = Some(tls(None, false)));
        let words = http.at(server.address).await.expect_err("no certificate");
        assert!(words.ends_with(wants), "{version:?}: {words}");
        if version.version == ProtocolVersion::TLSv1_3 {
            assert_eq!(asked(tls(None, false)).at(server.address).await, Ok(Answer::default()));
        }
    }
}

/// Some TLS 1.2 servers sign only with SHA-1. Verification would refuse them.
#[tokio::test]
async fn old_signatures_are_taken_where_nothing_is_verified() {
    use tokio_rustls::rustls::SignatureScheme;
    let offered = |verify| async move {
        let (sender, mut offers) = tokio::sync::mpsc::unbounded_channel();
        let server = test_servers::serving(move |mut stream| {
            let sender = sender.clone();
            async move {
                let mut hello = vec![0; 4096];
                let length = tokio::io::AsyncReadExt::read(&mut stream, &mut hello).await.expect("a hello");
                hello.truncate(length);
                sender.send(hello).expect("a test that listens");
            }
        })
        .await;
        let net = Authority::new().trusted();
        asked(tls(Some(NAME), verify)).by(&net, server.address).await.result.expect_err("no answer");
        let hello: Vec<u8> = offers.recv().await.expect("a hello");
        let offers = |scheme: SignatureScheme| hello.windows(2).any(|two| two == scheme.to_array());
        // Extension 13 has the list. Two bytes of a key may match by chance, so the test looks for
        // several algorithms.
        [SignatureScheme::RSA_PKCS1_SHA1, SignatureScheme::ED448, SignatureScheme::ECDSA_SHA1_Legacy]
            .map(offers)
    };
    assert_eq!(offered(false).await, [true; 3]);
    assert_ne!(offered(true).await, [true; 3]);
}

#[tokio::test]
async fn this_hosts_roots_are_read_once_and_trust_no_stranger() {
    let server = page(Authority::new().certificate(NAME, -1..=100)).await;
    let (asked, net) = (asked(tls(Some(NAME), true)), Net::default());
    let first = asked.by(&net, server.address).await.result.expect_err("a stranger");
    let again = asked.by(&net, server.address).await.result.expect_err("a stranger");
    // On a host without roots the failure is local.
    assert!(first.is_local() || first.to_string().contains("this host does not trust"), "{first}");
    assert_eq!(first.to_string(), again.to_string());
}
