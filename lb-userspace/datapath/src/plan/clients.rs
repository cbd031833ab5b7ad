//! Which clients a service takes: from the configuration to what the program reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_common::addr::V6;
use lb_common::admission::{self, Admission, SERVICE_BITS};
use lb_common::binding;
use lb_model::{ClientPrefix, Rates};

/// A service's rules; the default has none. Lists are long, and copies of a state share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clients {
    pub admission: Admission,
    /// By length of the key in the map `LISTED` and address: allowed or denied.
    pub listed: Arc<BTreeMap<(u32, [u64; 2]), u32>>,
}

impl Clients {
    /// `is_ipv4`: the family of the service.
    pub fn new(clients: Option<&lb_model::Clients>, is_ipv4: bool) -> Self {
        let Some(clients) = clients else { return Self::default() };
        let prefixes = |list: &[ClientPrefix], verdict| -> Vec<_> {
            list.iter().map(|prefix| (key_of(prefix), verdict)).collect()
        };
        let allowed = prefixes(&clients.allow, admission::ALLOWED);
        let listed: BTreeMap<_, _> =
            allowed.into_iter().chain(prefixes(&clients.deny, admission::DENIED)).collect();
        let mut flags = 0;
        if !listed.is_empty() || !clients.takes_unlisted() {
            flags |= Admission::LISTS;
        }
        if !clients.takes_unlisted() {
            flags |= Admission::LISTED_ONLY;
        }
        let of = |rate: Option<lb_model::Rate>| match rate {
            Some(rate) => admission::Rate::per_second(rate.per_second, rate.burst),
            None => admission::Rate::NONE,
        };
        let (Rates { new_connections, packets }, all) = (clients.of_each, clients.of_all);
        let admission = Admission {
            mask: binding::mask(is_ipv4, clients.prefix).0,
            client_new: of(new_connections),
            client_packets: of(packets),
            service_new: of(all.new_connections),
            service_packets: of(all.packets),
            flags,
        };
        Self { admission, listed: Arc::new(listed) }
    }

    pub fn is_empty(&self) -> bool {
        self.admission.is_none()
    }
}

fn key_of(prefix: &ClientPrefix) -> (u32, [u64; 2]) {
    let before = if prefix.address.is_ipv4() { 96 } else { 0 };
    (SERVICE_BITS + before + u32::from(prefix.length), V6::from(prefix.address).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allow_list_alone_leaves_out_the_others() {
        let prefix = |text: &str| ClientPrefix { address: text.parse().unwrap(), length: 24 };
        let (some, others) = (vec![prefix("192.0.2.0")], vec![prefix("198.51.100.0")]);
        let flags = |allow: &[ClientPrefix], deny: &[ClientPrefix]| {
            let clients = lb_model::Clients {
                allow: allow.into(),
                deny: deny.into(),
                prefix: 32,
                ..Default::default()
            };
            Clients::new(Some(&clients), true).admission.flags
        };
        assert_eq!(flags(&[], &[]), 0);
        assert_eq!(flags(&some, &[]), Admission::LISTS | Admission::LISTED_ONLY);
        assert_eq!(flags(&[], &others), Admission::LISTS);
        assert_eq!(flags(&some, &others), Admission::LISTS);
    }
}
