//! `alerts`: who is told of events.

use serde::Deserialize;

use super::{Scalar, given};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `receivers`")]
pub(crate) struct Alerts {
    pub group_wait: Scalar,
    pub receivers: Option<Vec<Receiver>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a receiver: a mapping with `name` and `email`, `webhook` or `alertmanager`"
)]
pub(crate) struct Receiver {
    pub name: Scalar,
    pub severity: Scalar,
    pub events: Option<Vec<Scalar>>,
    pub limit: Scalar,
    pub repeat: Scalar,
    #[serde(deserialize_with = "given")]
    pub email: Option<Email>,
    #[serde(deserialize_with = "given")]
    pub webhook: Option<Webhook>,
    #[serde(deserialize_with = "given")]
    pub alertmanager: Option<Alertmanager>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `host`, `from` and `to`")]
pub(crate) struct Email {
    pub host: Scalar,
    pub port: Scalar,
    pub tls: Scalar,
    pub user: Scalar,
    pub password: Scalar,
    pub from: Scalar,
    pub to: Option<Vec<Scalar>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `url`")]
pub(crate) struct Webhook {
    pub url: Scalar,
    pub token: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `urls`")]
pub(crate) struct Alertmanager {
    pub urls: Option<Vec<Scalar>>,
}
