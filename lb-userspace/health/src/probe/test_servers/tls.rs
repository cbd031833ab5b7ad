//! TLS test servers, and an authority for their certificates.

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{WantsServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion, WantsVerifier,
};
use tokio_rustls::server::TlsStream;

use super::TestServer;
use crate::net::Net;

/// Signs certificates.
pub(crate) struct Authority {
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A server's certificate and key.
pub(crate) struct Certificate {
    pub chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Certificate {
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key")
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("an authority without names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        // The name contains the key, so that no two authorities have the same.
        let name = format!("authority {:?}", params.key_identifier(&key));
        params.distinguished_name.push(DnType::CommonName, name);
        let root = params.self_signed(&key).expect("a root").der().clone();
        Self { root, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `name`, valid during `days`, counted from now.
    pub(crate) fn certificate(&self, name: &str, days: RangeInclusive<i64>) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let certificate = params(name, days).signed_by(&key, &self.issuer).expect("a certificate");
        Certificate { chain: vec![certificate.der().clone()], key }
    }

    /// A network for probes that trusts only this authority.
    pub(crate) fn trusted(&self) -> Net {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("a root");
        Net::trusting(roots)
    }
}

/// A self-signed certificate.
pub(crate) fn self_signed(name: &str) -> Certificate {
    let key = KeyPair::generate().expect("a key");
    let certificate = params(name, -1..=100).self_signed(&key).expect("a certificate");
    Certificate { chain: vec![certificate.der().clone()], key }
}

fn params(name: &str, days: RangeInclusive<i64>) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock that is set");
    let at = |days: i64| {
        let time = i64::try_from(today.as_secs()).expect("a time of today") + days * 24 * 60 * 60;
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(time.unsigned_abs())
    };
    params.not_before = at(*days.start());
    params.not_after = at(*days.end()) - Duration::from_secs(60);
    params
}

/// Serves TLS connections one after another. The connection knows the negotiated protocol of
/// `alpn`.
pub(crate) async fn serving_tls<F, Fut>(certificate: Certificate, alpn: &[&str], serve: F) -> TestServer
where
    F: Fn(TlsStream<TcpStream>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    serving_tls_of(tokio_rustls::rustls::ALL_VERSIONS, certificate, alpn, serve).await
}

/// Serves these versions of TLS only.
pub(crate) async fn serving_tls_of<F, Fut>(
    versions: &[&'static SupportedProtocolVersion],
    certificate: Certificate,
    alpn: &[&str],
    serve: F,
) -> TestServer
where
    F: Fn(TlsStream<TcpStream>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let mut config = with_certificate(server(versions).with_no_client_auth(), certificate);
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    serving_tls_as(config, serve).await
}

/// Requires a client certificate of this authority, which no client has.
pub(crate) async fn wanting_certificates(
    version: &'static SupportedProtocolVersion,
    authority: &Authority,
    certificate: Certificate,
) -> TestServer {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root.clone()).expect("a root");
    let provider = Arc::new(ring::default_provider());
    let expected = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let config = server(&[version]).with_client_cert_verifier(expected.expect("roots"));
    serving_tls_as(with_certificate(config, certificate), |_| async {}).await
}

fn server(versions: &[&'static SupportedProtocolVersion]) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    builder.with_protocol_versions(versions).expect("versions")
}

fn with_certificate(
    builder: ConfigBuilder<ServerConfig, WantsServerCert>,
    certificate: Certificate,
) -> ServerConfig {
    let key = certificate.private_key();
    builder.with_single_cert(certificate.chain, key).expect("a key of this certificate")
}

async fn serving_tls_as<F, Fut>(config: ServerConfig, serve: F) -> TestServer
where
    F: Fn(TlsStream<TcpStream>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let (acceptor, serve) = (TlsAcceptor::from(Arc::new(config)), Arc::new(serve));
    super::serving(move |stream| {
        let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
        async move {
            // A client that refuses the certificate closes the connection.
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream).await;
            }
        }
    })
    .await
}
