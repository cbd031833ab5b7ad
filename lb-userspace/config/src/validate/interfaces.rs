//! The interfaces that clients' packets come in by.

use lb_model::{Config, MAX_INTERFACES};

use super::{Unique, Validator, Value, values};
use crate::source_map::SourceSpan;
use crate::yaml;

impl Validator {
    /// The main interface, and the others.
    pub(super) fn interfaces(&mut self, file: &yaml::File, root: SourceSpan<'_>) -> (String, Vec<String>) {
        let one = Value::of(&file.interface, "interface", root);
        let Some(given) = &file.interfaces else {
            const EXPECTED: &str = "the network interface of the VIPs, such as eth0";
            return (self.needed(one, EXPECTED, values::interface).unwrap_or_default(), Vec::new());
        };
        let list = root.key("interfaces");
        if one.text.is_some() {
            let message = "`interfaces` and `interface` are both given, expected one of them";
            self.mistake(list.key_at(), message);
        }
        if given.is_empty() {
            let message = "`interfaces` is empty, expected the network interfaces that clients come in by, such as eth0";
            self.mistake(list.key_at(), message);
        }
        self.at_most(MAX_INTERFACES, given.len(), "interfaces", list);
        let mut taken = Unique::default();
        let names = self.items(given, "interfaces", list, |text, at| {
            let name = values::interface(text)?;
            let taken = taken.insert(name.clone(), at);
            taken.map_err(|line| format!("line {line} already has this interface"))?;
            Ok(name)
        });
        let mut names = names.into_iter();
        (names.next().unwrap_or_default(), names.collect())
    }

    /// What servers send that are reached by address translation gets to clients by the routes of
    /// the main interface.
    pub(super) fn translated_vips_are_on_the_main_interface(
        &mut self,
        config: &Config,
        services: SourceSpan<'_>,
    ) {
        for (index, service) in config.services.iter().enumerate() {
            let group = config
                .groups
                .iter()
                .find(|group| group.vips.iter().any(|vip| vip.address == service.key.vip));
            if let Some(interface) = group.and_then(|group| group.interface.as_ref())
                && service.servers.iter().any(|server| server.masq)
            {
                let message = format!(
                    "VIP {} is on {interface}, and answers of servers of `forward: masq` leave by the first one of \
                     `interfaces`, {}: name {interface} first, or put the VIP there",
                    service.key.vip, config.interface
                );
                self.mistake(services.item(index).key("vip").at(), message);
            }
        }
    }
}
