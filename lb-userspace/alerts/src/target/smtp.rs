//! Mails to an SMTP server.

use std::time::{Duration, SystemTime};

use lb_model::{Email, Login, MailTls, Secret};
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

/// How long each command may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends a mail. `director`: the name that this host greets with.
pub(super) async fn send(email: &Email, director: &str, subject: String, text: String) -> Result<(), String> {
    let place = format!("{}:{}", email.host, email.port);
    let host = if is_host(director) { director } else { "localhost" };
    let message = message(email, host, subject, text)?;
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&*email.host)
        .port(email.port)
        .timeout(Some(PATIENCE))
        .hello_name(ClientId::Domain(host.to_owned()))
        .tls(tls(email).await.map_err(|error| format!("TLS with {place}: {error}"))?);
    if let Some(Login { user, password: Secret(password) }) = &email.login {
        transport = transport.credentials(Credentials::new(user.clone(), password.clone()));
    }
    let sent = transport.build::<Tokio1Executor>().send(message).await;
    sent.map(drop).map_err(|error| format!("{place}: {error}"))
}

async fn tls(email: &Email) -> Result<Tls, String> {
    if email.tls == MailTls::Off {
        return Ok(Tls::None);
    }
    let host = email.host.clone();
    // Reads this host's roots, which are many files.
    let parameters = tokio::task::spawn_blocking(|| TlsParameters::new_rustls(host)).await;
    let parameters = parameters.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    Ok(match email.tls {
        MailTls::StartTls => Tls::Required(parameters),
        MailTls::Always | MailTls::Off => Tls::Wrapper(parameters),
    })
}

fn message(email: &Email, host: &str, subject: String, text: String) -> Result<Message, String> {
    let mailbox =
        |text: &str| text.parse::<Mailbox>().map_err(|error| format!("the mail address {text}: {error}"));
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let mut message = Message::builder()
        .from(mailbox(&email.from)?)
        .subject(subject)
        .date_now()
        .message_id(Some(format!("<lb.{}@{host}>", since.as_nanos())))
        // Nobody's absence is answered to (RFC 3834).
        .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
        .header(ContentType::TEXT_PLAIN);
    for to in &email.to {
        message = message.to(mailbox(to)?);
    }
    message.body(text).map_err(|error| error.to_string())
}

/// What may stand in a greeting and in a message's id.
fn is_host(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_has_its_headers_and_no_others() {
        let email = Email {
            host: "localhost".into(),
            port: 25,
            tls: MailTls::Off,
            login: None,
            from: "The director <lb@example.net>".into(),
            to: vec!["ops@example.net".into(), "boss@example.net".into()],
        };
        let subject = "[lb lb1] one\r\nBcc: all@example.net".to_owned();
        let message = message(&email, "lb1", subject, "a\nb\n".into()).expect("a message");
        let text = String::from_utf8(message.formatted()).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        for line in ["Auto-Submitted: auto-generated", "To: ops@example.net, boss@example.net"] {
            assert!(head.lines().any(|found| found == line), "{head}");
        }
        assert!(head.contains("lb@example.net") && head.contains("@lb1>"), "{head}");
        assert!(!head.lines().any(|line| line.starts_with("Bcc:")), "{head}");
        assert_eq!(body.trim_end(), "a\r\nb");
        assert_eq!(message.envelope().to().len(), 2);
    }

    #[test]
    fn names_that_no_greeting_may_have_are_told_apart() {
        assert!(is_host("lb1.example.net") && !is_host("the first one") && !is_host(""));
    }
}
