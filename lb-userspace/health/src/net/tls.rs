//! TLS: the handshake, and warnings about certificates.

mod certificate;
mod ending;
mod trust;

use std::io;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{ServerName, UnixTime};
use tokio_rustls::rustls::{self, CertificateError, ProtocolVersion};

#[cfg(test)]
pub(crate) use self::certificate::warning as certificate_warning;
use lb_model::{Probe, Tls};

use self::certificate::{begins, ended};
pub(super) use self::trust::Clients;
use super::Stream;
use crate::probe::{Attempt, Failure};

const AGREEMENT: &str = "end of the TLS handshake";

/// Performs the TLS handshake on `stream`.
pub(super) async fn wrap(
    attempt: &Attempt<'_>,
    tls: &Tls,
    clients: &Clients,
    stream: Stream,
) -> Result<Stream, Failure> {
    let http2 = matches!(attempt.check.probe, Probe::Grpc { .. });
    let client = clients.get(tls.verify, http2).await?;
    let handshake = TlsConnector::from(client).connect(name(attempt, tls), stream);
    let late = |within| Failure::Late { expected: AGREEMENT, within };
    let stream = attempt.limit.wait(handshake, late).await?.map_err(|error| failure(&error))?;
    let (_, connection) = stream.get_ref();
    attempt.step(match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3 negotiated",
        _ => "TLS 1.2 negotiated",
    });
    let presented = connection.peer_certificates().and_then(<[_]>::first);
    let warning = presented.and_then(|der| certificate::warning(der, UnixTime::now(), tls.expiry_warning));
    if let Some(warning) = warning {
        attempt.warn(warning);
    }
    Ok(Box::new(ending::Lenient(stream)))
}

/// The server name for SNI and for verification: the configured name, else the host of the HTTP
/// request, else the VIP. An address is not sent (RFC 6066 section 3).
fn name(attempt: &Attempt<'_>, tls: &Tls) -> ServerName<'static> {
    let host = match &attempt.check.probe {
        Probe::Http(http) => http.host.as_deref().map(without_port),
        _ => None,
    };
    let name = tls.name.as_deref().or(host).and_then(|name| ServerName::try_from(name.to_owned()).ok());
    name.unwrap_or_else(|| attempt.subject.service.vip.into())
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _port)) => address,
        None => host.rsplit_once(':').map_or(host, |(host, _port)| host),
    }
}

fn failure(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => Failure::Wrong(message(error)),
        None => Failure::from_stream(error, AGREEMENT),
    }
}

/// The remedy for protocols that rustls does not implement.
const INSTEAD: &str = "use `type: tcp`, or an external check with `openssl s_client`";

/// The meaning of a TLS error, and its remedy.
fn message(error: &rustls::Error) -> String {
    use rustls::PeerIncompatible::{ServerDoesNotSupportTls12Or13, ServerTlsVersionIsDisabledByOurConfig};
    use rustls::{AlertDescription as Alert, Error};
    match error {
        Error::InvalidCertificate(error) => certificate_words(error),
        Error::InvalidMessage(_) => format!("the answer is not TLS: {error}"),
        Error::AlertReceived(Alert::ProtocolVersion)
        | Error::PeerIncompatible(ServerDoesNotSupportTls12Or13 | ServerTlsVersionIsDisabledByOurConfig) => {
            format!("the server offers TLS 1.1 or older only, which lb does not speak: {INSTEAD}")
        }
        Error::AlertReceived(alert @ (Alert::HandshakeFailure | Alert::InsufficientSecurity)) => format!(
            "TLS refused: {alert:?}; the server wants a cipher that lb does not have (RSA key exchange, CBC, DHE), or a \
             client certificate: {INSTEAD}"
        ),
        Error::AlertReceived(
            alert @ (Alert::CertificateRequired | Alert::BadCertificate | Alert::NoCertificate),
        ) => {
            format!(
                "TLS refused: {alert:?}; the server wants a client certificate, and lb has none: {INSTEAD}"
            )
        }
        Error::AlertReceived(alert @ Alert::UnrecognisedName) => {
            format!("TLS refused: {alert:?}; the server has no such name: set `tls_name`")
        }
        Error::AlertReceived(alert) => format!("TLS refused: {alert:?}"),
        Error::PeerIncompatible(_) => format!("no {AGREEMENT}: {error}; {INSTEAD}"),
        other => format!("no {AGREEMENT}: {other}"),
    }
}

fn certificate_words(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => ended(*not_after),
        CertificateError::NotValidYetContext { not_before, .. } => begins(*not_before),
        CertificateError::NotValidForNameContext { expected, presented } => {
            certificate::not_for(&expected.to_str(), presented)
        }
        CertificateError::UnknownIssuer => {
            "certificate is signed by an authority that this host does not trust".into()
        }
        other => format!("certificate cannot be trusted: {other}"),
    }
}

#[cfg(test)]
mod tests;
