//! Certificate verification: by this host's roots, or none.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::sync::OnceCell;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{ClientConfig, Resumption, WantsClientCert};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, WantsVerifier,
};

use crate::probe::Failure;

/// TLS clients, each created at its first use. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clients(Arc<Made>);

#[derive(Debug, Default)]
struct Made {
    /// Accepts any certificate.
    open: OnceLock<Pair>,
    strict: OnceCell<Pair>,
}

/// A client per application protocol.
#[derive(Debug)]
struct Pair {
    plain: Arc<ClientConfig>,
    /// Negotiates HTTP/2 by ALPN.
    http2: Arc<ClientConfig>,
}

impl Clients {
    pub(crate) async fn get(&self, verify: bool, http2: bool) -> Result<Arc<ClientConfig>, Failure> {
        let pair = match verify {
            false => self.0.open.get_or_init(open),
            true => self
                .0
                .strict
                .get_or_try_init(|| async { Ok(strict(roots().await?)) })
                .await
                .map_err(Failure::Local)?,
        };
        Ok(Arc::clone(if http2 { &pair.http2 } else { &pair.plain }))
    }

    /// Clients that trust these roots and not this host's.
    #[cfg(test)]
    pub(crate) fn trusting(roots: RootCertStore) -> Self {
        Self(Arc::new(Made { open: OnceLock::new(), strict: OnceCell::new_with(Some(strict(roots))) }))
    }
}

/// This host's roots, read once on a blocking thread, because they are many files.
async fn roots() -> io::Result<RootCertStore> {
    let read = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read.map_err(io::Error::other)?.certs);
    if roots.is_empty() {
        return Err(io::Error::other("no root certificates for verification"));
    }
    Ok(roots)
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows these versions")
}

fn strict(roots: RootCertStore) -> Pair {
    pair(builder().with_root_certificates(roots))
}

fn open() -> Pair {
    let builder = builder();
    let verifier = AnyCertificate(Arc::clone(builder.crypto_provider()));
    pair(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)))
}

fn pair(builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> Pair {
    let mut plain = builder.with_no_client_auth();
    // No session resumption: a resumed session has no certificate, and the store is by name, so it
    // could be another server's session.
    plain.resumption = Resumption::disabled();
    let mut http2 = plain.clone();
    http2.alpn_protocols = vec![b"h2".to_vec()];
    Pair { plain: Arc::new(plain), http2: Arc::new(http2) }
}

/// Accepts any certificate, for checks with `verify: off`, which test only that a server speaks
/// TLS. Probes send nothing secret.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// Includes algorithms that rustls does not implement: nothing is verified, and old servers
    /// have no others.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.0.signature_verification_algorithms.supported_schemes();
        schemes.extend([
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED448,
            SignatureScheme::ECDSA_SHA1_Legacy,
            SignatureScheme::RSA_PKCS1_SHA1,
        ]);
        schemes
    }
}
