//! The shape of the YAML file: which keys there are and where they nest.
//!
//! Scalars stay the text they were written as, so that [`super::check`] can report every wrong value of a file at
//! once and quote it literally.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `interface` and `services`")]
pub struct File {
    pub interface: Scalar,
    pub connections: Scalar,
    pub control: Option<Control>,
    pub metrics: Option<Metrics>,
    pub timeouts: Option<Timeouts>,
    pub groups: Option<Vec<Group>>,
    pub services: Option<Vec<Service>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a group: a mapping with `vips`")]
pub struct Group {
    pub name: Scalar,
    pub vips: Option<Vec<Scalar>>,
    pub label: Scalar,
    pub refresh: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `socket`")]
pub struct Control {
    pub socket: Scalar,
}

#[derive(Debug)]
pub enum Metrics {
    /// `off`, `on` and their like.
    Switch(String),
    On(MetricsOn),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsOn {
    pub listen: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping of connection states and times")]
pub struct Timeouts {
    pub established: Scalar,
    pub fin_wait: Scalar,
    pub syn_recv: Scalar,
    pub closed: Scalar,
    pub udp: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a service: a mapping with `vip` and `servers`")]
pub struct Service {
    pub name: Scalar,
    pub vip: Scalar,
    pub protocol: Scalar,
    pub scheduler: Scalar,
    pub fallback: Scalar,
    pub stray: Scalar,
    pub timeouts: Option<Timeouts>,
    pub drain: Scalar,
    #[serde(deserialize_with = "given")]
    pub check: Option<Check>,
    pub servers: Option<Vec<Server>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `type`")]
pub struct Check {
    pub r#type: Scalar,
    pub request: Scalar,
    pub receive: Scalar,
    pub host: Scalar,
    pub status: Scalar,
    pub interval: Scalar,
    pub timeout: Scalar,
    pub rise: Scalar,
    pub fall: Scalar,
    pub port: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a server: a mapping with `address`")]
pub struct Server {
    pub address: Scalar,
    pub name: Scalar,
    pub weight: Scalar,
}

/// The text of a scalar, if its key was given. An absent value and `null` are given, and empty.
#[derive(Debug, Default)]
pub struct Scalar(pub Option<String>);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Scalar;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a single value")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(Some(text.to_owned())))
            }

            fn visit_none<E: Error>(self) -> Result<Scalar, E> {
                Ok(Scalar(Some(String::new())))
            }

            // serde_yaml hands the text of any scalar to a type that asks for a string, numbers and booleans included.
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scalar, D::Error> {
                deserializer.deserialize_str(self)
            }
        }
        deserializer.deserialize_option(Text)
    }
}

/// A key without a value is an empty mapping here, not an absent one: an empty `check` must not turn checking off.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SwitchOrMap;
        impl<'de> Visitor<'de> for SwitchOrMap {
            type Value = Metrics;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`off` or a mapping with `listen`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Metrics, E> {
                Ok(Metrics::Switch(text.to_owned()))
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<Metrics, E> {
                Ok(Metrics::Switch(on.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Metrics, A::Error> {
                MetricsOn::deserialize(MapAccessDeserializer::new(map)).map(Metrics::On)
            }
        }
        deserializer.deserialize_any(SwitchOrMap)
    }
}
