//! Which clients a service takes: from the configuration to what the program reads.

use std::sync::Arc;

use lb_common::service::admission::{self, Admission};
use lb_common::service::binding;
use lb_model::{ClientLists, Rates};

/// A service's rules. The default has none, and is what is left of a service that goes. Lists are
/// long, and copies of a state share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clients {
    pub admission: Admission,
    /// The service's own.
    pub lists: Arc<ClientLists>,
}

impl Clients {
    /// `is_ipv4`: the family of the service. `denied`: clients whom every service denies.
    pub fn new(clients: Option<&lb_model::Clients>, is_ipv4: bool, denied: &ClientLists) -> Self {
        let everywhere = if denied.denies_any_of(is_ipv4) { Admission::DENIED_EVERYWHERE } else { 0 };
        let mask = |prefix| binding::mask(is_ipv4, prefix).0;
        let Some(clients) = clients else {
            let mask = mask(if is_ipv4 { 32 } else { 64 });
            let admission = Admission { mask, flags: everywhere, ..Admission::default() };
            return Self { admission, lists: Arc::default() };
        };
        let lb_model::Clients { listed, prefix, of_each, connections, of_all } = clients;
        let flags = [
            (!listed.lists.is_empty(), Admission::LISTED),
            (!listed.lists.deny.is_empty(), Admission::DENIES),
            (listed.takes_allowed_only(), Admission::LISTED_ONLY),
        ];
        let flags =
            flags.into_iter().filter(|(set, _)| *set).fold(everywhere, |flags, (_, flag)| flags | flag);
        let of = |rate: Option<lb_model::Rate>| match rate {
            Some(rate) => admission::Rate::per_second(rate.per_second, rate.burst),
            None => admission::Rate::NONE,
        };
        let (Rates { new, packets }, all) = (*of_each, *of_all);
        let admission = Admission {
            mask: mask(*prefix),
            client_new: of(new),
            client_packets: of(packets),
            service_new: of(all.new),
            service_packets: of(all.packets),
            connections: connections.unwrap_or(0).into(),
            flags,
        };
        Self { admission, lists: Arc::clone(&listed.lists) }
    }

    pub fn is_empty(&self) -> bool {
        self.admission.is_none()
    }
}

#[cfg(test)]
mod tests {
    use lb_model::{ClientPrefix, Listed};

    use super::*;

    fn lists(allow: &[&str], deny: &[&str]) -> ClientLists {
        let of = |list: &[&str]| {
            list.iter().map(|text| ClientPrefix { address: text.parse().unwrap(), length: 24 }).collect()
        };
        ClientLists { allow: of(allow), deny: of(deny) }
    }

    fn flags(own: ClientLists, denied: &ClientLists) -> u64 {
        let given = Arc::new(own);
        let listed = Listed { given: Arc::clone(&given), lists: given, ..Listed::default() };
        let clients = lb_model::Clients { listed, prefix: 32, ..Default::default() };
        Clients::new(Some(&clients), true, denied).admission.flags
    }

    #[test]
    fn an_allow_list_leaves_out_the_others() {
        let nobody = ClientLists::default();
        let (some, others) = (["192.0.2.0"], ["198.51.100.0"]);
        let (listed, only) = (Admission::LISTED, Admission::LISTED_ONLY);
        assert_eq!(flags(lists(&[], &[]), &nobody), 0);
        assert_eq!(flags(lists(&some, &[]), &nobody), listed | only);
        assert_eq!(flags(lists(&[], &others), &nobody), listed | Admission::DENIES);
        assert_eq!(flags(lists(&some, &others), &nobody), listed | Admission::DENIES | only);
    }

    /// A file that has nobody yet is a list all the same.
    #[test]
    fn an_allow_file_without_a_line_allows_nobody() {
        let listed = Listed { allow_file: Some("/etc/lb/allow".into()), ..Listed::default() };
        let clients = lb_model::Clients { listed, prefix: 32, ..Default::default() };
        let made = Clients::new(Some(&clients), true, &ClientLists::default());
        assert_eq!(made.admission.flags, Admission::LISTED_ONLY);
        assert!(!made.is_empty());
    }

    #[test]
    fn whom_every_service_denies_concerns_services_of_the_same_family() {
        let denied = lists(&[], &["198.51.100.0"]);
        let of = |is_ipv4| Clients::new(None, is_ipv4, &denied).admission;
        assert_eq!(of(true).flags, Admission::DENIED_EVERYWHERE);
        assert!(of(false).is_none());
        assert_eq!(flags(lists(&[], &[]), &denied), Admission::DENIED_EVERYWHERE);
        let nobody = Clients::new(None, true, &ClientLists::default());
        assert!(nobody.is_empty());
        assert_eq!(nobody.admission.mask, of(true).mask, "clients are told apart without rules, too");
    }
}
