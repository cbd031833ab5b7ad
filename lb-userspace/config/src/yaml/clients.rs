//! `clients`, of a service and of all.

use serde::Deserialize;

use super::{Scalar, given};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `allow`, `deny`, `each` or `all`")]
pub(crate) struct Clients {
    pub allow: Option<Vec<Scalar>>,
    pub allow_file: Scalar,
    pub deny: Option<Vec<Scalar>>,
    pub deny_file: Scalar,
    pub prefix: Scalar,
    pub prefix_v6: Scalar,
    #[serde(deserialize_with = "given")]
    pub each: Option<LimitsOfEach>,
    #[serde(deserialize_with = "given")]
    pub all: Option<LimitsOfAll>,
}

/// Of all services.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `deny`, `each` or `all`")]
pub(crate) struct EveryClient {
    pub deny: Option<Vec<Scalar>>,
    pub deny_file: Scalar,
    pub prefix: Scalar,
    pub prefix_v6: Scalar,
    #[serde(deserialize_with = "given")]
    pub each: Option<LimitsOfEach>,
    #[serde(deserialize_with = "given")]
    pub all: Option<LimitsOfAll>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `new_per_second` or `connections`")]
pub(crate) struct LimitsOfEach {
    pub new_per_second: Scalar,
    pub new_burst: Scalar,
    pub packets_per_second: Scalar,
    pub packets_burst: Scalar,
    pub connections: Scalar,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping with `new_per_second`")]
pub(crate) struct LimitsOfAll {
    pub new_per_second: Scalar,
    pub new_burst: Scalar,
    pub packets_per_second: Scalar,
    pub packets_burst: Scalar,
}

impl Clients {
    /// Whether there is a list or a limit.
    pub(crate) fn says_something(&self) -> bool {
        let Self { allow, allow_file, deny, deny_file, prefix: _, prefix_v6: _, each, all } = self;
        let listed = allow.is_some() || deny.is_some() || allow_file.is_given() || deny_file.is_given();
        listed || limited(each.as_ref(), all.as_ref())
    }
}

impl EveryClient {
    /// As [`Clients::says_something`].
    pub(crate) fn says_something(&self) -> bool {
        let Self { deny, deny_file, prefix: _, prefix_v6: _, each, all } = self;
        deny.is_some() || deny_file.is_given() || limited(each.as_ref(), all.as_ref())
    }
}

fn limited(each: Option<&LimitsOfEach>, all: Option<&LimitsOfAll>) -> bool {
    let each = each.is_some_and(|each| {
        let LimitsOfEach { new_per_second, new_burst, packets_per_second, packets_burst, connections } = each;
        let all = [new_per_second, new_burst, packets_per_second, packets_burst, connections];
        all.into_iter().any(Scalar::is_given)
    });
    let all = all.is_some_and(|all| {
        let LimitsOfAll { new_per_second, new_burst, packets_per_second, packets_burst } = all;
        [new_per_second, new_burst, packets_per_second, packets_burst].into_iter().any(Scalar::is_given)
    });
    each || all
}
