//! The list of a source's changes: one that undoes another takes it back, so that a script that
//! adds and removes the same things again and again leaves nothing behind.

use lb_model::Service;
use lb_model::overlay::{Change, NewService};

/// Adds a change to those of its source, which say whether they are new. Where nothing is left of
/// both, the earlier one is taken back; a service that goes takes along what was changed in it.
/// `services` are those of the running configuration.
pub(super) fn add(all: &mut Vec<(Change, bool)>, change: Change, services: &[Service]) {
    let change = by_name(change, services);
    match &change {
        Change::RemoveServer { service, server } => {
            let subject = Subject::of(service, services);
            let added = all.iter().position(|(earlier, _)| subject.gets(server, earlier));
            if let Some(earlier) = added {
                all.remove(earlier);
                return;
            }
        }
        Change::RemoveService { service } => {
            let subject = Subject::of(service, services);
            let added = all.iter().rposition(|(earlier, _)| subject.is_added_by(earlier));
            let mut index = 0;
            all.retain(|(earlier, _)| {
                index += 1;
                Some(index - 1) != added && !subject.is_changed_by(earlier)
            });
            if added.is_some() {
                return;
            }
        }
        Change::EditService { service, settings: new } => {
            let subject = Subject::of(service, services);
            let known = all.iter_mut().rev().find(|(earlier, _)| match earlier {
                Change::EditService { service: of, .. } => subject.is_called(of),
                earlier => subject.is_added_by(earlier),
            });
            if let Some((
                Change::EditService { settings, .. }
                | Change::AddService { service: NewService { settings, .. } },
                is_new,
            )) = known
            {
                settings.clone_from(new);
                *is_new = true;
                return;
            }
        }
        Change::AddServer { .. } | Change::AddService { .. } => {}
    }
    all.push((change, true));
}

/// The change with its service's own name: a VIP and port may mean two, of TCP and of UDP.
fn by_name(mut change: Change, services: &[Service]) -> Change {
    match &mut change {
        Change::AddServer { service, .. }
        | Change::RemoveServer { service, .. }
        | Change::EditService { service, .. }
        | Change::RemoveService { service } => {
            if let Some(known) = known(service, services) {
                service.clone_from(&known.name);
            }
        }
        Change::AddService { .. } => {}
    }
    change
}

/// The service that the name means, as [`lb_config::Files::changed`] understands it.
fn known<'a>(name: &str, services: &'a [Service]) -> Option<&'a Service> {
    // Names are compared at once, addresses are written first.
    let by_name = services.iter().find(|service| service.name == name);
    by_name.or_else(|| services.iter().find(|service| service.is_called(name)))
}

/// The service that a change is about.
struct Subject<'a> {
    name: &'a str,
    services: &'a [Service],
    /// `None`: the running configuration has none of that name. It may come by an earlier change.
    known: Option<&'a Service>,
}

impl<'a> Subject<'a> {
    fn of(name: &'a str, services: &'a [Service]) -> Self {
        Self { name, services, known: known(name, services) }
    }

    fn is_called(&self, name: &str) -> bool {
        let means = |it: &Service| known(name, self.services).is_some_and(|known| known.key == it.key);
        self.name == name || self.known.is_some_and(|it| it.is_called(name) && means(it))
    }

    fn is_added_by(&self, earlier: &Change) -> bool {
        let Change::AddService { service: new } = earlier else { return false };
        let Some(known) = self.known else {
            return self.name == new.vip || self.name == new.called();
        };
        let protocol = new.protocol.as_deref().unwrap_or("tcp");
        let same = known.key.protocol.name() == protocol && known.is_called(&new.vip);
        same || new.name.as_ref() == Some(&known.name)
    }

    /// Whether it changes something in the service.
    fn is_changed_by(&self, earlier: &Change) -> bool {
        match earlier {
            Change::AddServer { service, .. }
            | Change::RemoveServer { service, .. }
            | Change::EditService { service, .. } => self.is_called(service),
            Change::AddService { .. } | Change::RemoveService { .. } => false,
        }
    }

    /// Whether that brings the server.
    fn gets(&self, server: &str, earlier: &Change) -> bool {
        let Change::AddServer { service, server: new } = earlier else { return false };
        let servers = self.known.into_iter().flat_map(|known| &known.servers);
        let mut known = servers.filter(|known| known.is_called(server));
        self.is_called(service)
            && (*server == new.address
                || new.name.as_deref() == Some(server)
                || known.any(|known| known.is_called(&new.address)))
    }
}

#[cfg(test)]
mod tests;
