//! The section `alerts`: who is told of events.

use std::collections::BTreeSet;
use std::time::Duration;

use lb_model::{
    Alerts, Channel, EVENTS, Email, HttpUrl, Login, MailTls, Receiver, Secret, Severity, Webhook, is_event,
    is_local,
};

use super::{Unique, Validator, Value};
use crate::source_map::SourceSpan;
use crate::{values, yaml};

/// Default of `group_wait`.
const GROUP_WAIT: Duration = Duration::from_secs(10);
/// Default of `limit`, messages an hour.
const LIMIT: u32 = 30;
/// Default of `repeat`.
const REPEAT: Duration = Duration::from_secs(4 * 60 * 60);
/// Maximum number of receivers, of recipients of one, and of Alertmanagers of one.
const MOST: usize = 16;

const SEVERITIES: [(&str, Option<Severity>); 4] = [
    ("info", Some(Severity::Info)),
    ("warning", Some(Severity::Warning)),
    ("error", Some(Severity::Error)),
    ("none", None),
];

const TLS: [(&str, MailTls); 3] =
    [("starttls", MailTls::StartTls), ("on", MailTls::Always), ("off", MailTls::Off)];

const WAYS: &str = "one of `email`, `webhook` and `alertmanager`";
const URL: &str = "a URL of HTTP, such as https://alerts.example.net/lb";
const ADDRESS: &str = "a mail address, such as lb@example.net";
const PASSWORD: &str = "1 to 255 characters without control characters";
const TOKEN: &str = "1 to 4096 ASCII characters without blanks";

impl Validator {
    pub(super) fn alerts(&mut self, alerts: Option<&yaml::Alerts>, span: SourceSpan<'_>) -> Alerts {
        let Some(yaml::Alerts { group_wait, receivers }) = alerts else { return Alerts::default() };
        let longest = Duration::from_secs(60 * 60);
        let group_wait = self.optional(Value::of(group_wait, "group_wait", span), |text| {
            values::time(text, Duration::ZERO..=longest)
        });
        let list = span.key("receivers");
        let given = receivers.as_deref().unwrap_or_default();
        if given.is_empty() {
            self.mistake(span.key_at(), "`receivers` is missing, expected at least one");
        }
        self.at_most(MOST, given.len(), "receivers", list);
        let mut names = Unique::default();
        let mut read = Vec::with_capacity(given.len());
        for (index, receiver) in given.iter().enumerate() {
            let span = list.item(index);
            let found = self.receiver(receiver, span);
            let name = Value::of(&receiver.name, "name", span);
            match names.insert(found.name.clone(), name.span()) {
                Err(line) if receiver.name.is_given() => {
                    self.wrong(name, &format!("line {line} already has a receiver of this name"));
                }
                _ => read.push(found),
            }
        }
        Alerts { group_wait: group_wait.unwrap_or(GROUP_WAIT), receivers: read }
    }

    fn receiver(&mut self, given: &yaml::Receiver, span: SourceSpan<'_>) -> Receiver {
        let yaml::Receiver { name, severity, events, limit, repeat, email, webhook, alertmanager } = given;
        let name = self.needed(Value::of(name, "name", span), "a name of its own", values::name);
        let severity =
            self.one_of(Value::of(severity, "severity", span), &SEVERITIES, Some(Severity::Warning));
        let events =
            self.items(events.as_deref().unwrap_or_default(), "events", span.key("events"), |text, _| {
                event(text)
            });
        let limit = Value::of(limit, "limit", span);
        if limit.text.is_some() && alertmanager.is_some() {
            self.wrong(limit, "Alertmanager groups and limits by itself, expected no `limit`");
        }
        let limit = self.optional(limit, |text| values::whole(text, 1..=3600));
        let repeat = Value::of(repeat, "repeat", span);
        if repeat.text.is_some() && alertmanager.is_some() {
            self.wrong(repeat, "Alertmanager repeats by itself, expected no `repeat`");
        }
        let repeat = self.optional(repeat, repeat_interval);
        let ways = [email.is_some(), webhook.is_some(), alertmanager.is_some()];
        if ways.into_iter().filter(|is_given| *is_given).count() != 1 {
            self.mistake(span.at(), format!("a receiver has {WAYS}"));
        }
        let channel = match (email, webhook, alertmanager) {
            (Some(email), ..) => Channel::Email(self.email(email, span.key("email"))),
            (None, Some(webhook), _) => Channel::Webhook(self.webhook(webhook, span.key("webhook"))),
            (None, None, Some(yaml::Alertmanager { urls })) => {
                Channel::Alertmanager(self.alertmanagers(urls.as_deref(), span.key("alertmanager")))
            }
            (None, None, None) => Channel::Alertmanager(Vec::new()),
        };
        Receiver {
            name: name.unwrap_or_default(),
            severity,
            events: BTreeSet::from_iter(events),
            limit: limit.unwrap_or(LIMIT),
            repeat: repeat.unwrap_or(Some(REPEAT)),
            channel,
        }
    }

    fn email(&mut self, given: &yaml::Email, span: SourceSpan<'_>) -> Email {
        let yaml::Email { host, port, tls, user, password, from, to } = given;
        let host = self.needed(Value::of(host, "host", span), "the SMTP server's name or address", |text| {
            values::tls_name(text).map_err(|_| "expected a host's name or address without a port".to_owned())
        });
        let host = host.unwrap_or_default();
        let tls = self.one_of(Value::of(tls, "tls", span), &TLS, MailTls::StartTls);
        let port = self.optional(Value::of(port, "port", span), |text| values::whole(text, 1..=65535));
        let port = port.unwrap_or(match tls {
            MailTls::StartTls => 587,
            MailTls::Always => 465,
            MailTls::Off => 25,
        });
        for (given, missing, name) in [(user, password, "password"), (password, user, "user")] {
            if given.is_given() && !missing.is_given() {
                let message = format!("`{name}` is missing: a login needs `user` and `password`");
                self.mistake(span.key_at(), message);
            }
        }
        let login = self.optional(Value::of(user, "user", span), values::name);
        let secret = self.unshown(Value::of(password, "password", span), |text| {
            secret(text, 255, |char| !char.is_control()).ok_or_else(|| format!("expected {PASSWORD}"))
        });
        if password.is_given() && tls == MailTls::Off && !is_local(&host) {
            self.mistake(
                span.key("password").at(),
                format!("the password would cross the network in clear text to {host}: expected `tls: starttls` or on"),
            );
        }
        let from = self.needed(Value::of(from, "from", span), ADDRESS, mail_address);
        let list = span.key("to");
        let given = to.as_deref().unwrap_or_default();
        if given.is_empty() {
            self.mistake(span.key_at(), "`to` is missing, expected at least one mail address");
        }
        self.at_most(MOST, given.len(), "recipients", list);
        let to = self.items(given, "to", list, |text, _| mail_address(text));
        let login = login.zip(secret).map(|(user, password)| Login { user, password });
        Email { host, port, tls, login, from: from.unwrap_or_default(), to }
    }

    fn webhook(&mut self, given: &yaml::Webhook, span: SourceSpan<'_>) -> Webhook {
        let yaml::Webhook { url, token } = given;
        if !url.is_given() {
            self.mistake(span.key_at(), format!("`url` is missing, expected {URL}"));
        }
        let url = self.unshown(Value::of(url, "url", span), http_url);
        let secret = self.unshown(Value::of(token, "token", span), |text| {
            let secret = secret(text, 4096, |char| char.is_ascii_graphic());
            secret.ok_or_else(|| format!("expected {TOKEN}"))
        });
        if let Some(url) = url.as_ref().filter(|url| !url.tls && !url.is_local())
            && token.is_given()
        {
            let message = format!(
                "the token would cross the network in clear text to {url}: expected a URL with https"
            );
            self.mistake(span.key("token").at(), message);
        }
        let nowhere = HttpUrl { tls: false, host: String::new(), port: 0, path: String::new() };
        Webhook { url: url.unwrap_or(nowhere), token: secret }
    }

    fn alertmanagers(&mut self, urls: Option<&[yaml::Scalar]>, span: SourceSpan<'_>) -> Vec<HttpUrl> {
        let list = span.key("urls");
        let given = urls.unwrap_or_default();
        if given.is_empty() {
            let expected = "`urls` is missing, expected at least one, such as [http://127.0.0.1:9093]";
            self.mistake(span.key_at(), expected);
        }
        self.at_most(MOST, given.len(), "URLs", list);
        self.items(given, "urls", list, |text, _| http_url(text))
    }

    /// Like [`Self::optional`], for a value that no message shows.
    fn unshown<T>(&mut self, value: Value<'_>, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match read(value.text?) {
            Ok(read) => Some(read),
            Err(wrong) => {
                self.mistake(value.span().at(), format!("{}: {wrong}", value.key));
                None
            }
        }
    }
}

/// `None`: never.
fn repeat_interval(text: &str) -> Result<Option<Duration>, String> {
    if text == "never" {
        return Ok(None);
    }
    let range = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 60 * 60);
    let wrong = |_| "expected never, or a time from 1s to 30days, such as 4h".to_owned();
    values::time(text, range).map(Some).map_err(wrong)
}

fn secret(text: &str, most: usize, fits: impl Fn(char) -> bool) -> Option<Secret> {
    let is_one = !text.is_empty() && text.len() <= most && text.chars().all(fits);
    is_one.then(|| Secret(text.to_owned()))
}

fn event(text: &str) -> Result<String, String> {
    if is_event(text) {
        return Ok(text.to_owned());
    }
    Err(match values::nearest(text, EVENTS.into_iter()) {
        Some(name) => format!("there is no such event, did you mean `{name}`?"),
        None => format!("expected one of {}", EVENTS.join(", ")),
    })
}

fn mail_address(text: &str) -> Result<String, String> {
    if let Some(char) = unquoted(text) {
        return Err(format!("the name before `<` has `{char}`, expected it in double quotes"));
    }
    match text.parse::<email_address::EmailAddress>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("expected {ADDRESS}")),
    }
}

/// What the name before an address may have in quotes only (RFC 5322).
fn unquoted(text: &str) -> Option<char> {
    let (mut found, mut in_quotes, mut chars) = (None, false, text.chars());
    while let Some(char) = chars.next() {
        match char {
            '"' => in_quotes = !in_quotes,
            '\\' if in_quotes => _ = chars.next(),
            '<' if !in_quotes => return found,
            _ if !in_quotes && ",:;()[]\\@".contains(char) => found = found.or(Some(char)),
            _ => {}
        }
    }
    None
}

/// Without credentials: a token is a key of its own.
fn http_url(text: &str) -> Result<HttpUrl, String> {
    let expected = || format!("expected {URL}");
    let url = text.parse::<http::Uri>().map_err(|_| expected())?;
    let tls = match url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(expected()),
    };
    let authority = url.authority().ok_or_else(expected)?;
    if authority.as_str().contains('@') {
        return Err(format!("found a user in the URL, expected {URL}"));
    }
    let host = authority.host();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = values::tls_name(host).map_err(|_| expected())?;
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    Ok(HttpUrl { tls, host, port, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_has_its_default() {
        let text = "
interface: eth0
alerts:
  receivers:
    - name: mail
      email: { host: localhost, tls: off, from: lb@example.net, to: [ops@example.net] }
    - { name: chat, severity: none, repeat: never, events: [node_dead], webhook: { url: 'http://[::1]/', token: abc } }
services: [{ vip: '192.0.2.10:80', servers: [{ address: 192.0.2.21 }] }]
";
        let alerts = crate::parse(text, "test.yaml").unwrap_or_else(|error| panic!("{error}")).alerts;
        assert_eq!(alerts.group_wait, GROUP_WAIT);
        let [mail, chat] = &alerts.receivers[..] else { panic!("{alerts:?}") };
        assert_eq!((mail.severity, mail.limit, mail.events.len()), (Some(Severity::Warning), LIMIT, 0));
        assert_eq!((mail.repeat, chat.repeat), (Some(REPEAT), None));
        let Channel::Email(email) = &mail.channel else { panic!("{mail:?}") };
        assert_eq!((email.port, &email.login), (25, &None));
        assert_eq!((chat.severity, chat.events.contains("node_dead")), (None, true));
        let Channel::Webhook(Webhook { url, token }) = &chat.channel else { panic!("{chat:?}") };
        assert!(url.is_local() && token.is_some(), "{url:?}");
    }

    #[test]
    fn a_name_with_special_characters_stands_in_quotes() {
        for fine in
            ["ops@example.net", "The director <lb@example.net>", "\"Ops, night: [a\\\"b]\" <ops@example.net>"]
        {
            assert_eq!(mail_address(fine), Ok(fine.to_owned()));
        }
        for char in [',', ':', ';', '(', ')', '[', ']', '\\', '@'] {
            let wrong = mail_address(&format!("Ops{char} night <ops@example.net>"));
            let text = format!("the name before `<` has `{char}`, expected it in double quotes");
            assert_eq!(wrong, Err(text));
        }
    }

    #[test]
    fn what_lasts_is_told_again_after_a_time_or_never() {
        assert_eq!(repeat_interval("never"), Ok(None));
        assert_eq!(repeat_interval("90m"), Ok(Some(Duration::from_secs(90 * 60))));
        assert_eq!(repeat_interval("3600"), Ok(Some(Duration::from_secs(3600))), "seconds");
        for wrong in ["0", "31days", "off", ""] {
            assert!(repeat_interval(wrong).is_err_and(|wrong| wrong.starts_with("expected never, or")));
        }
    }

    #[test]
    fn urls_are_taken_apart() {
        let read = |text| http_url(text).map(|url| (url.tls, url.host, url.port, url.path));
        let url = |tls, host: &str, port, path: &str| Ok((tls, host.to_owned(), port, path.to_owned()));
        assert_eq!(
            read("https://chat.example.net/hooks/abc?x=1"),
            url(true, "chat.example.net", 443, "/hooks/abc?x=1")
        );
        assert_eq!(read("http://127.0.0.1:9093"), url(false, "127.0.0.1", 9093, "/"));
        assert_eq!(read("http://[2001:db8::1]:80/"), url(false, "2001:db8::1", 80, "/"));
        for wrong in
            ["chat.example.net", "ftp://chat/", "https://", "http://a b/", "https://me:pass@chat/", "/hook"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_event_that_is_none_is_told_with_the_one_that_was_meant() {
        assert_eq!(event("server_down"), Ok("server_down".to_owned()));
        assert_eq!(
            event("server_donw"),
            Err("there is no such event, did you mean `server_down`?".to_owned())
        );
        assert!(event("\u{1}").is_err_and(|wrong| wrong.starts_with("expected one of attached, ")));
    }
}
