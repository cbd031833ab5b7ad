//! Persistence: of each service, then whether the services of a group agree.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use lb_model::{Persistence, Service};

use super::{DAY, SECOND, Validator, Value};
use crate::source_map::SourceSpan;
use crate::{values, yaml};

/// As of ipvsadm.
const TIMEOUT: Duration = Duration::from_secs(300);
const WEIGHT_ZERO: [(&str, bool); 2] = [("keep", true), ("release", false)];

impl Validator {
    pub(super) fn persistence(
        &mut self,
        given: &yaml::Persistence,
        span: SourceSpan<'_>,
        vip: IpAddr,
    ) -> Persistence {
        let yaml::Persistence { timeout, prefix, group, weight_zero } = given;
        let longest = if vip.is_ipv4() { 32 } else { 128 };
        let timeout = Value::of(timeout, "timeout", span);
        let timeout = self.optional(timeout, |text| values::time(text, SECOND..=7 * DAY));
        let prefix = Value::of(prefix, "prefix", span);
        let prefix = self.optional(prefix, |text| values::whole(text, 1..=u64::from(longest)));
        Persistence {
            timeout: timeout.unwrap_or(TIMEOUT),
            prefix: prefix.unwrap_or(longest),
            group: self.optional(Value::of(group, "group", span), values::name),
            keeps: self.one_of(Value::of(weight_zero, "weight_zero", span), &WEIGHT_ZERO, true),
        }
    }

    /// A group is of one VIP, and its services bind the same clients for the same time.
    pub(super) fn groups_agree(
        &mut self,
        given: &[yaml::Service],
        services: &[Service],
        span: SourceSpan<'_>,
    ) {
        let mut groups: HashMap<(IpAddr, &str), Vec<usize>> = HashMap::new();
        for (index, service) in services.iter().enumerate() {
            if let Some(name) = service.persistence.as_ref().and_then(|own| own.group.as_deref()) {
                groups.entry((service.key.vip, name)).or_default().push(index);
            }
        }
        let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
        groups.sort();
        for members in groups {
            let own = |index: usize| {
                let persistence = span.item(index).key("persistence");
                given[index].persistence.as_ref().map(|given| Value::of(&given.group, "group", persistence))
            };
            let Some((first, others)) = members.split_first() else { continue };
            if others.is_empty()
                && let Some(value) = own(*first)
            {
                let wrong = "no other service of this VIP is in this group, expected the same name at all services that \
                             share their clients' servers, or none";
                self.wrong(value, wrong);
            }
            for other in others {
                if services[*other].persistence != services[*first].persistence
                    && let Some(value) = own(*other)
                {
                    let name = &services[*first].name;
                    let wrong = format!(
                        "expected the timeout, prefix and weight_zero that {name} has in the same group: its bindings are \
                         those of all its services"
                    );
                    self.wrong(value, &wrong);
                }
            }
        }
    }
}
