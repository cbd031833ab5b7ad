//! HTTPS, with a certificate that is renewed.

use lb_model::WebTls;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;

/// Writes a new certificate; returns it.
fn renew(files: &WebTls) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&files.key, signing_key.serialize_pem()).expect("a file");
    std::fs::set_permissions(&files.key, PermissionsExt::from_mode(0o600)).expect("chmod");
    std::fs::write(&files.certificate, cert.pem()).expect("a file");
    cert.der().clone()
}

async fn status_of(served: &Served, trusted: &CertificateDer<'static>) -> Result<u16, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(served.address).await.expect("a connection");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(converse(stream, "GET", "/events", &[], "").await.status)
}

#[tokio::test]
async fn a_renewed_certificate_is_served_and_a_wrong_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = WebTls { certificate: folder.path().join("web.crt"), key: folder.path().join("web.key") };
    let first = renew(&files);
    let served = Served::with(status(), |web| web.tls = Some(files.clone())).await;
    let is_served = |result: Result<u16, _>| matches!(result, Ok(200 | 503));
    assert!(is_served(status_of(&served, &first).await));
    let second = renew(&files);
    assert!(is_served(status_of(&served, &second).await));
    assert!(status_of(&served, &first).await.is_err(), "the first one has gone");
    std::fs::write(&files.certificate, "no certificate").expect("a file");
    assert!(is_served(status_of(&served, &second).await), "it keeps what it has");
}

#[test]
fn what_is_wrong_with_the_files_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = WebTls { certificate: folder.path().join("web.crt"), key: folder.path().join("web.key") };
    let web = Web {
        listen: ([127, 0, 0, 1], 9106).into(),
        tls: Some(files.clone()),
        tokens: None,
        hosts: Vec::new(),
    };
    let error = || format!("{:#}", Prepared::new(&web).err().expect("an error"));
    assert!(error().contains("cannot read") && error().contains("web.crt"), "{}", error());
    renew(&files);
    std::fs::set_permissions(&files.key, PermissionsExt::from_mode(0o644)).expect("chmod");
    assert!(error().contains("chmod 600"), "{}", error());
    let key = std::fs::read(&files.key).expect("a file");
    renew(&files);
    std::fs::write(&files.key, key).expect("a file");
    assert!(error().contains("is not the key of"), "{}", error());
}
