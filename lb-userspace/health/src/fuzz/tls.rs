//! TLS servers whose handshake or certificate is nearly right.

use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_fuzz::bytes::{Edit, apply, edits};
use lb_fuzz::script::runtime;
use lb_fuzz::{Failed, hold};
use lb_model::{Exchange, Probe, Tls};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ServerConfig, ServerConnection};

use super::probes::{LIMIT, is_in_order};
use crate::net::certificate_warning;
use crate::probe::test_servers::{self, Asked, Authority, Certificate};

const NAME: &str = "www.example.org";
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

#[derive(Debug, Clone)]
struct Server {
    /// Changes of the certificate.
    shown: Vec<Edit>,
    /// Changes of all bytes that the server sends.
    said: Vec<Edit>,
    old: bool,
    verified: bool,
}

fn misfits() -> impl Strategy<Value = Server> {
    // Most servers have either a changed certificate or a changed handshake.
    let changes = prop_oneof![
        2 => (edits(4), Just(Vec::new())),
        2 => (Just(Vec::new()), edits(4)),
        1 => (edits(4), edits(4)),
    ];
    (changes, any::<bool>(), any::<bool>()).prop_map(|((shown, said), old, verified)| Server {
        shown,
        said,
        old,
        verified,
    })
}

/// Sends any certificate: this library's own resolver would check it first.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl Server {
    fn connection(&self, certificate: &Certificate) -> ServerConnection {
        let provider = ring::default_provider();
        let key = provider.key_provider.load_private_key(certificate.private_key()).expect("a key");
        let mut shown = certificate.chain[0].to_vec();
        apply(&self.shown, &mut shown);
        let shows = Shows(Arc::new(CertifiedKey::new(vec![shown.into()], key)));
        let versions = if self.old { [&TLS12] } else { [&TLS13] };
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&versions)
            .expect("a version")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shows));
        ServerConnection::new(Arc::new(config)).expect("a connection")
    }

    async fn serve(&self, mut tls: ServerConnection, mut stream: TcpStream) {
        let mut received = [0; 4096];
        let mut edits = &self.said[..];
        while let Ok(length @ 1..) = stream.read(&mut received).await {
            let mut received = Cursor::new(&received[..length]);
            while received.position() < length as u64 && matches!(tls.read_tls(&mut received), Ok(1..)) {
                if tls.process_new_packets().is_err() {
                    break;
                }
            }
            let mut says = Vec::new();
            while tls.wants_write() && tls.write_tls(&mut says).is_ok() {}
            apply(std::mem::take(&mut edits), &mut says);
            if stream.write_all(&says).await.is_err() {
                return;
            }
        }
    }
}

pub(super) fn run(config: Config) -> Result<(), Failed> {
    let runtime = runtime();
    let authority = Authority::new();
    let certificate = Arc::new(authority.certificate(NAME, -1..=100));
    let trusting = authority.trusted();
    hold(config, misfits(), |misfit| {
        warned_of(&misfit.shown, &certificate)?;
        let tls = Tls { name: Some(NAME.into()), verify: misfit.verified, expiry_warning: SOON };
        let asked = Asked::of(Probe::Tcp(Exchange::default()), LIMIT).with(|check| check.tls = Some(tls));
        let certificate = Arc::clone(&certificate);
        runtime.block_on(async {
            let server = test_servers::serving(move |stream| {
                let (misfit, tls) = (misfit.clone(), misfit.connection(&certificate));
                async move { misfit.serve(tls, stream).await }
            });
            let (server, begun) = (server.await, Instant::now());
            is_in_order(&asked.by(&trusting, server.address).await, begun)
        })
    })
}

/// Warnings about a certificate that was accepted without verification.
fn warned_of(changes: &[Edit], certificate: &Certificate) -> Result<(), TestCaseError> {
    let mut shown = certificate.chain[0].to_vec();
    apply(changes, &mut shown);
    if let Some(words) = certificate_warning(&CertificateDer::from(shown), UnixTime::now(), SOON) {
        prop_assert!(!words.is_empty() && words.len() < 400 && !words.contains(char::is_control), "{words}");
    }
    Ok(())
}
