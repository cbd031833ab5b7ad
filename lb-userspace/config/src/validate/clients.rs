//! `clients` of a service: lists of addresses that may connect or may not, and rates.

use std::net::IpAddr;

use lb_model::{Clients, Rate, Rates};

use super::{Validator, Value};
use crate::source_map::SourceSpan;
use crate::{lists, values, yaml};

/// Rates and bursts at most.
const MOST: u64 = 10_000_000;

impl Validator {
    /// `vip` is the service's.
    pub(super) fn clients(&mut self, given: &yaml::Clients, span: SourceSpan<'_>, vip: IpAddr) -> Clients {
        let yaml::Clients { allow, allow_file, deny, deny_file, prefix, each, all } = given;
        let mut list = |given: &Option<Vec<yaml::Scalar>>, key: &'static str| {
            let given = given.as_deref().unwrap_or_default();
            self.items(given, key, span.key(key), |text, _| lists::prefix(text, vip))
        };
        let (allow, deny) = (list(allow, "allow"), list(deny, "deny"));
        if let Some(both) = deny.iter().find(|prefix| allow.contains(prefix)) {
            let message = format!("`deny` has {both}, which `allow` has, too");
            self.mistake(span.key("deny").key_at(), message);
        }
        let mut file = |scalar, key| {
            let value = Value::of(scalar, key, span);
            self.optional(value, |text| values::file_path(text, "/etc/lb/clients"))
        };
        let (allow_file, deny_file) = (file(allow_file, "allow_file"), file(deny_file, "deny_file"));
        let longest = if vip.is_ipv4() { 32 } else { 128 };
        // Of IPv6 a client has a network of its own and any number of addresses.
        let usual = if vip.is_ipv4() { 32 } else { 64 };
        let prefix = Value::of(prefix, "prefix", span);
        let prefix = self.optional(prefix, |text| values::whole(text, 1..=longest));
        let clients = Clients {
            allow,
            deny,
            allow_file,
            deny_file,
            prefix: prefix.unwrap_or(usual),
            of_each: self.rates(each.as_ref(), span.key("each")),
            of_all: self.rates(all.as_ref(), span.key("all")),
        };
        if clients == (Clients { prefix: clients.prefix, ..Clients::default() }) {
            let message =
                "`clients` limits nothing, expected `allow`, `deny`, `each` or `all`, or no such key";
            self.mistake(span.key_at(), message);
        }
        clients
    }

    fn rates(&mut self, given: Option<&yaml::Rates>, span: SourceSpan<'_>) -> Rates {
        let Some(yaml::Rates { new_connections, new_burst, packets, packets_burst }) = given else {
            return Rates::default();
        };
        let mut rate = |rate, rate_key, burst, burst_key| {
            let rate = self.optional(Value::of(rate, rate_key, span), |text| values::whole(text, 1..=MOST));
            let burst = Value::of(burst, burst_key, span);
            if burst.text.is_some() && rate.is_none() {
                self.mistake(burst.span().key_at(), format!("`{burst_key}` belongs to `{rate_key}`"));
            }
            let burst = self.optional(burst, |text| values::whole(text, 1..=MOST));
            rate.map(|per_second| Rate { per_second, burst: burst.unwrap_or(per_second) })
        };
        Rates {
            new_connections: rate(new_connections, "new_connections", new_burst, "new_burst"),
            packets: rate(packets, "packets", packets_burst, "packets_burst"),
        }
    }
}
