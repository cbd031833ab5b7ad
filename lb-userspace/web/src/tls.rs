//! The certificate, read again when its files have changed: it is renewed while `lb` runs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use lb_model::WebTls;
use lb_system::private_file;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

/// No key is longer, in bytes.
const MOST: u64 = 64 * 1024;

pub(crate) struct Certificate {
    files: WebTls,
    acceptor: TlsAcceptor,
    /// When the files were changed last.
    changed: [Option<SystemTime>; 2],
}

impl Certificate {
    pub(crate) fn load(files: &WebTls) -> Result<Self> {
        let changed = changed(files);
        Ok(Self { files: files.clone(), acceptor: read(files)?, changed })
    }

    /// For the next connection. A new certificate that is wrong leaves the one before in force.
    pub(crate) fn acceptor(&mut self) -> TlsAcceptor {
        let changed = changed(&self.files);
        if changed != self.changed {
            self.changed = changed;
            match read(&self.files) {
                Ok(acceptor) => {
                    tracing::info!(
                        "the page has the certificate of {} now",
                        self.files.certificate.display()
                    );
                    self.acceptor = acceptor;
                }
                Err(error) => tracing::warn!("the page keeps the certificate that it has: {error:#}"),
            }
        }
        self.acceptor.clone()
    }
}

fn changed(files: &WebTls) -> [Option<SystemTime>; 2] {
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    [changed(&files.certificate), changed(&files.key)]
}

fn read(WebTls { certificate, key }: &WebTls) -> Result<TlsAcceptor> {
    let shown = certificate.display();
    let text = fs::read(certificate).with_context(|| format!("cannot read {shown}"))?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{shown}: not a certificate in PEM format"))?;
    ensure!(!chain.is_empty(), "{shown}: no certificate in PEM format in it");
    let secret = private_file::read(key, MOST)?;
    let secret = PrivateKeyDer::from_pem_slice(&secret)
        .with_context(|| format!("{}: no private key in PEM format", key.display()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .with_context(|| format!("{} is not the key of {shown}", key.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
