//! `clients`, of a service and of all: lists of addresses that may connect or may not, and limits.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use lb_model::{ClientLists, ClientPrefix, Clients, Listed, Rate, Rates};

use super::{Validator, Value};
use crate::source_map::SourceSpan;
use crate::yaml::{self, Scalar};
use crate::{lists, values};

/// Rates and bursts at most.
const MOST: u64 = 10_000_000;

/// What services have that say nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ClientDefaults {
    /// Of IPv4, of IPv6.
    prefixes: [Option<u8>; 2],
    limits: Limits,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Limits {
    of_each: Rates,
    connections: Option<u32>,
    of_all: Rates,
}

impl Validator {
    /// Whom no service serves, and the defaults of services.
    pub(super) fn every_client(
        &mut self,
        given: Option<&yaml::EveryClient>,
        span: SourceSpan<'_>,
    ) -> (Listed, ClientDefaults) {
        let Some(given) = given else { return Default::default() };
        if !given.says_something() {
            let message = "`clients` says nothing, expected at least one of `deny`, `each` and `all`";
            self.mistake(span.key_at(), message);
        }
        let yaml::EveryClient { deny, deny_file, prefix, prefix_v6, each, all } = given;
        let deny = self.prefixes(deny.as_deref(), "deny", span, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let given = Arc::new(ClientLists { allow: Vec::new(), deny });
        let deny_file = self.list_file(deny_file, "deny_file", span);
        let listed = Listed { lists: Arc::clone(&given), given, allow_file: None, deny_file };
        let prefixes = self.prefix_lengths([prefix, prefix_v6], span);
        let limits = self.limits_of_clients(each.as_ref(), all.as_ref(), span, Limits::default());
        (listed, ClientDefaults { prefixes, limits })
    }

    /// `vip` is the service's.
    pub(super) fn clients(
        &mut self,
        given: Option<&yaml::Clients>,
        span: SourceSpan<'_>,
        vip: IpAddr,
        defaults: ClientDefaults,
    ) -> Option<Clients> {
        let ClientDefaults { prefixes: [usual, usual_v6], limits: base } = defaults;
        let mut clients = Clients { prefix: usual_prefix(vip, [usual, usual_v6]), ..Clients::default() };
        let limits = match given {
            None if base == Limits::default() => return None,
            None => base,
            Some(given) => {
                if !given.says_something() && base == Limits::default() {
                    let message =
                        "`clients` says nothing, expected at least one of `allow`, `deny`, `each` and `all`";
                    self.mistake(span.key_at(), message);
                }
                let yaml::Clients { allow, allow_file, deny, deny_file, prefix, prefix_v6, each, all } =
                    given;
                if allow.as_ref().is_some_and(Vec::is_empty) {
                    let message = "`allow` is empty, expected at least one address or network, or no such key, \
                                   which serves everybody";
                    self.mistake(span.key("allow").key_at(), message);
                }
                let allow = self.prefixes(allow.as_deref(), "allow", span, vip);
                let deny = self.prefixes(deny.as_deref(), "deny", span, vip);
                let given = Arc::new(ClientLists { allow, deny });
                let allow_file = self.list_file(allow_file, "allow_file", span);
                let deny_file = self.list_file(deny_file, "deny_file", span);
                clients.listed = Listed { lists: Arc::clone(&given), given, allow_file, deny_file };
                let [own, own_v6] = self.prefix_lengths([prefix, prefix_v6], span);
                clients.prefix = usual_prefix(vip, [own.or(usual), own_v6.or(usual_v6)]);
                self.limits_of_clients(each.as_ref(), all.as_ref(), span, base)
            }
        };
        let Limits { of_each, connections, of_all } = limits;
        Some(Clients { of_each, connections, of_all, ..clients })
    }

    /// Sorted, none twice.
    fn prefixes(
        &mut self,
        given: Option<&[Scalar]>,
        key: &'static str,
        span: SourceSpan<'_>,
        vip: IpAddr,
    ) -> Vec<ClientPrefix> {
        let given = given.unwrap_or_default();
        let mut list = self.items(given, key, span.key(key), |text, _| lists::prefix(text, vip));
        list.sort_unstable();
        list.dedup();
        list
    }

    fn list_file(&mut self, given: &Scalar, key: &'static str, span: SourceSpan<'_>) -> Option<PathBuf> {
        self.optional(Value::of(given, key, span), |text| values::file_path(text, "/etc/lb/clients"))
    }

    /// A service may have both, so that services of both families can share an alias.
    fn prefix_lengths(&mut self, [v4, v6]: [&Scalar; 2], span: SourceSpan<'_>) -> [Option<u8>; 2] {
        let v4 = self.optional(Value::of(v4, "prefix", span), |text| values::whole(text, 1..=32));
        [v4, self.optional(Value::of(v6, "prefix_v6", span), |text| values::whole(text, 1..=128))]
    }

    fn limits_of_clients(
        &mut self,
        each: Option<&yaml::LimitsOfEach>,
        all: Option<&yaml::LimitsOfAll>,
        span: SourceSpan<'_>,
        base: Limits,
    ) -> Limits {
        let mut limits = base;
        if let Some(each) = each {
            let yaml::LimitsOfEach {
                new_per_second,
                new_burst,
                packets_per_second,
                packets_burst,
                connections,
            } = each;
            let span = span.key("each");
            limits.of_each = self.rates(
                [new_per_second, new_burst, packets_per_second, packets_burst],
                span,
                base.of_each,
            );
            let most = Value::of(connections, "connections", span);
            if let Some(most) = self.optional(most, |text| values::whole::<u32>(text, 0..=MOST)) {
                limits.connections = (most != 0).then_some(most);
            }
        }
        if let Some(all) = all {
            let yaml::LimitsOfAll { new_per_second, new_burst, packets_per_second, packets_burst } = all;
            let given = [new_per_second, new_burst, packets_per_second, packets_burst];
            limits.of_all = self.rates(given, span.key("all"), base.of_all);
        }
        limits
    }

    /// `given`: new connections a second and their burst, packets a second and theirs.
    fn rates(&mut self, given: [&Scalar; 4], span: SourceSpan<'_>, base: Rates) -> Rates {
        let [new, new_burst, packets, packets_burst] = given;
        Rates {
            new: self.rate([new, new_burst], ["new_per_second", "new_burst"], span, base.new),
            packets: self.rate(
                [packets, packets_burst],
                ["packets_per_second", "packets_burst"],
                span,
                base.packets,
            ),
        }
    }

    /// A rate of 0 is no limit, also where others have one by default.
    fn rate(
        &mut self,
        [rate, burst]: [&Scalar; 2],
        [rate_key, burst_key]: [&'static str; 2],
        span: SourceSpan<'_>,
        base: Option<Rate>,
    ) -> Option<Rate> {
        let (rate, burst) = (Value::of(rate, rate_key, span), Value::of(burst, burst_key, span));
        if burst.text.is_some() && rate.text.is_none() {
            self.mistake(
                burst.span().key_at(),
                format!("`{burst_key}` belongs to `{rate_key}`, which is missing"),
            );
        }
        let given = rate.text.is_some();
        let rate = self.optional(rate, |text| values::whole::<u32>(text, 0..=MOST));
        let burst = self.optional(burst, |text| values::whole::<u32>(text, 1..=MOST));
        match rate {
            None if given => None,
            None => base,
            Some(0) => None,
            Some(per_second) => Some(Rate { per_second, burst: burst.unwrap_or(per_second) }),
        }
    }
}

/// Of IPv6 a client has a network of its own and any number of addresses.
fn usual_prefix(vip: IpAddr, [v4, v6]: [Option<u8>; 2]) -> u8 {
    if vip.is_ipv4() { v4.unwrap_or(32) } else { v6.unwrap_or(64) }
}
