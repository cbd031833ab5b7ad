//! Mails to an SMTP server.

use std::time::Duration;

use lb_model::{Email, Login, MailTls, Secret};
use lettre::address::Envelope;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

/// How long each command may take.
const PATIENCE: Duration = Duration::from_secs(2 * 60);

/// What a mail says.
pub(super) struct Mail {
    /// What its id has before the host.
    pub id: String,
    pub subject: String,
    pub text: String,
}

/// Sends a mail to each recipient by itself: one that is refused keeps it from no other. One who
/// takes it is enough. `director`: the name that this host greets with.
pub(super) async fn send(email: &Email, director: &str, mail: Mail) -> Result<(), String> {
    let place = format!("{}:{}", email.host, email.port);
    let host = if is_host(director) { director } else { "localhost" };
    let message = message(email, host, mail)?;
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&*email.host)
        .port(email.port)
        .timeout(Some(PATIENCE))
        .hello_name(ClientId::Domain(host.to_owned()))
        .tls(tls(email).await.map_err(|error| format!("TLS with {place}: {error}"))?);
    if let Some(Login { user, password: Secret(password) }) = &email.login {
        transport = transport.credentials(Credentials::new(user.clone(), password.clone()));
    }
    let transport = transport.build::<Tokio1Executor>();
    let (text, mut is_taken, mut failures) = (message.formatted(), false, Vec::new());
    for to in message.envelope().to() {
        let envelope = Envelope::new(message.envelope().from().cloned(), vec![to.clone()]);
        let envelope = envelope.map_err(|error| error.to_string())?;
        match transport.send_raw(&envelope, &text).await {
            Ok(_) => is_taken = true,
            Err(error) => {
                failures.push(format!("{place}: {error}"));
                if email.to.len() > 1 {
                    tracing::warn!("no mail to {to}: {place}: {error}");
                }
                // Without an answer from the server the next recipient would wait for nothing,
                // and a login that is refused once more may lock the account.
                let is_answer = error.is_permanent() || error.is_transient();
                if !is_answer || error.status().is_some_and(|code| code.to_string().starts_with("53")) {
                    break;
                }
            }
        }
    }
    match failures.into_iter().next() {
        Some(failure) if !is_taken => Err(failure),
        _ => Ok(()),
    }
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

fn message(email: &Email, host: &str, mail: Mail) -> Result<Message, String> {
    let Mail { id, subject, text } = mail;
    let mailbox =
        |text: &str| text.parse::<Mailbox>().map_err(|error| format!("the mail address {text}: {error}"));
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let mut message = Message::builder()
        .from(mailbox(&email.from)?)
        .subject(subject)
        .date_now()
        .message_id(Some(format!("<{id}@{host}>")))
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
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn email(port: u16, to: &[&str]) -> Email {
        Email {
            host: "127.0.0.1".into(),
            port,
            tls: MailTls::Off,
            login: None,
            from: "The director <lb@example.net>".into(),
            to: to.iter().map(|to| (*to).to_owned()).collect(),
        }
    }

    fn mail() -> Mail {
        let subject = "[lb lb1] one\r\nBcc: all@example.net".to_owned();
        Mail { id: "lb.7".into(), subject, text: "a\nb\n".into() }
    }

    /// A server that refuses whoever is `gone`, and its port.
    fn server() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.expect("a connection"));
                let (mut answer, mut in_mail) = ("220 here", false);
                // Whoever has quit may have gone before the answer.
                while writeln!(stream.get_mut(), "{answer}\r").is_ok() {
                    let mut line = String::new();
                    while stream.read_line(&mut line).is_ok_and(|read| read > 0) && in_mail {
                        in_mail = line != ".\r\n";
                        if !in_mail {
                            break;
                        }
                        line.clear();
                    }
                    if line.is_empty() {
                        break;
                    }
                    in_mail = line.starts_with("DATA");
                    answer = match &*line {
                        _ if in_mail => "354 go on",
                        line if line.contains("<gone@") => "550 nobody",
                        _ => "250 yes",
                    };
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn one_recipient_who_is_refused_keeps_mail_from_no_other() {
        let port = server();
        let gone = "gone@example.net";
        for to in [&[gone, "ops@example.net"], &["ops@example.net", gone]] {
            assert_eq!(send(&email(port, to), "lb1", mail()).await, Ok(()));
        }
        let refused = send(&email(port, &[gone, gone]), "lb1", mail()).await.expect_err("nobody takes it");
        assert!(refused.contains("nobody"), "{refused}");
    }

    #[test]
    fn a_mail_has_its_headers_and_no_others() {
        let message = message(&email(25, &["ops@example.net", "boss@example.net"]), "lb1", mail());
        let message = message.expect("a message");
        let text = String::from_utf8(message.formatted()).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        for line in ["Auto-Submitted: auto-generated", "To: ops@example.net, boss@example.net"] {
            assert!(head.lines().any(|found| found == line), "{head}");
        }
        assert!(head.contains("lb@example.net") && head.contains("Message-ID: <lb.7@lb1>"), "{head}");
        assert!(!head.lines().any(|line| line.starts_with("Bcc:")), "{head}");
        assert_eq!(body.trim_end(), "a\r\nb");
        assert_eq!(message.envelope().to().len(), 2);
    }

    #[test]
    fn names_that_no_greeting_may_have_are_told_apart() {
        assert!(is_host("lb1.example.net") && !is_host("the first one") && !is_host(""));
    }
}
