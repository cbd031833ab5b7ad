//! Where a receiver's messages go: one SMTP server, webhook or Alertmanager.

mod http;
mod smtp;

use std::time::{Duration, Instant};

use lb_api::status::AlertTest;
use lb_model::{Channel, Email, HttpUrl, Receiver, Webhook};

use super::board::Posted;
use super::message;
use super::outbox::Message;

/// How long an attempt may take, and one by mail: a relay may look into a mail before it answers.
const LONGEST: Duration = Duration::from_secs(30);
const LONGEST_MAIL: Duration = Duration::from_secs(5 * 60);

/// A receiver, or one Alertmanager of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target {
    /// Name of the receiver.
    pub receiver: String,
    /// The director's, as messages have it.
    pub director: String,
    pub to: To,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum To {
    Email(Email),
    Webhook(Webhook),
    Alertmanager(HttpUrl),
}

/// What goes there at once.
#[derive(Debug)]
pub(crate) enum Parcel {
    Message(Message),
    Alerts(Vec<Posted>),
}

impl Target {
    /// All of a receiver.
    pub(crate) fn of<'a>(receiver: &'a Receiver, director: &'a str) -> impl Iterator<Item = Self> + 'a {
        let to: Vec<To> = match &receiver.channel {
            Channel::Email(email) => vec![To::Email(email.clone())],
            Channel::Webhook(webhook) => vec![To::Webhook(webhook.clone())],
            Channel::Alertmanager(urls) => urls.iter().cloned().map(To::Alertmanager).collect(),
        };
        let target = |to| Self { receiver: receiver.name.clone(), director: director.to_owned(), to };
        to.into_iter().map(target)
    }

    /// Host and port.
    pub(crate) fn place(&self) -> String {
        match &self.to {
            To::Email(email) => format!("{}:{}", email.host, email.port),
            To::Webhook(Webhook { url, .. }) | To::Alertmanager(url) => url.to_string(),
        }
    }

    /// Delivers what goes there.
    ///
    /// # Errors
    /// In words, what has gone wrong.
    pub(crate) async fn deliver(self, parcel: Parcel) -> Result<(), String> {
        let longest = self.longest();
        self.deliver_within(longest, parcel).await
    }

    const fn longest(&self) -> Duration {
        match self.to {
            To::Email(_) => LONGEST_MAIL,
            To::Webhook(_) | To::Alertmanager(_) => LONGEST,
        }
    }

    async fn deliver_within(&self, longest: Duration, parcel: Parcel) -> Result<(), String> {
        let delivered = tokio::time::timeout(longest, self.deliver_at_leisure(parcel)).await;
        delivered.unwrap_or_else(|_| {
            Err(format!("{} does not answer within {} s", self.place(), longest.as_secs()))
        })
    }

    async fn deliver_at_leisure(&self, parcel: Parcel) -> Result<(), String> {
        match (&self.to, parcel) {
            (To::Email(email), Parcel::Message(message)) => {
                let subject = message::subject(&message, &self.director);
                let text = message::text(&message, &self.director);
                let id = message::id(&message, &self.receiver);
                smtp::send(email, &self.director, smtp::Mail { id, subject, text }).await
            }
            (To::Webhook(Webhook { url, token }), Parcel::Message(message)) => {
                let body = message::json(&message, &self.director, &self.receiver);
                let body = body.map_err(|error| error.to_string())?;
                http::post(url, &url.path, token.as_ref(), body).await
            }
            (To::Alertmanager(url), Parcel::Alerts(alerts)) => {
                let body = serde_json::to_string(&alerts).map_err(|error| error.to_string())?;
                let path = format!("{}/api/v2/alerts", url.path.trim_end_matches('/'));
                http::post(url, &path, None, body).await
            }
            (_, Parcel::Message(_) | Parcel::Alerts(_)) => unreachable!("each queue has its target"),
        }
    }

    /// Delivers a test message: whoever asked waits for it.
    pub(crate) async fn test(self) -> AlertTest {
        let parcel = match &self.to {
            To::Email(_) | To::Webhook(_) => Parcel::Message(Message::default()),
            To::Alertmanager(_) => Parcel::Alerts(vec![Posted::test(&self.director)]),
        };
        let (receiver, target, start) = (self.receiver.clone(), self.place(), Instant::now());
        let failure = self.deliver_within(LONGEST, parcel).await.err();
        let took_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        AlertTest { receiver, target, took_us, failure }
    }
}
