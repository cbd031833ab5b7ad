//! Who is told by mail, as ldirectord and keepalived have it: receivers of `alerts`.

use crate::ledger::Ledger;
use crate::report::At;
use crate::tree::{Item, Map, Value};

/// Recipients of a receiver at most, as `lb check` has it.
const MOST: usize = 16;

/// A value, and the lines of the source that it comes from.
pub(crate) type Given<T> = (T, Vec<At>);

/// How and of what somebody is told. The sources speak neither TLS nor log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub host: Given<String>,
    pub port: Option<Given<u16>>,
    /// `None`: the source makes it of its user and of the host's name.
    pub sender: Option<Given<String>>,
    pub events: Given<Vec<&'static str>>,
    pub repeat: Given<String>,
}

#[derive(Debug)]
struct Receiver {
    terms: Terms,
    to: Vec<(String, At)>,
}

#[derive(Debug, Default)]
pub(crate) struct Receivers(Vec<Receiver>);

impl Receivers {
    /// Whether the address is told already: of all services, as receivers choose none.
    pub(crate) fn has(&self, address: &str) -> bool {
        self.0.iter().flat_map(|receiver| &receiver.to).any(|(known, _)| known == address)
    }

    /// Tells these addresses, too; none of them twice.
    pub(crate) fn add(&mut self, terms: Terms, to: Vec<(String, At)>) {
        for (address, at) in to {
            if self.has(&address) {
                continue;
            }
            match self.0.iter_mut().find(|known| known.terms == terms && known.to.len() < MOST) {
                Some(known) => known.to.push((address, at)),
                None => self.0.push(Receiver { terms: terms.clone(), to: vec![(address, at)] }),
            }
        }
    }

    /// `alerts` with the lines that it comes from, if anybody is told. `host`: this host's name.
    pub(crate) fn finish(self, host: &str, ledger: &mut Ledger) -> Option<(Map, Vec<At>)> {
        let host = if host.is_empty() { "localhost" } else { host };
        let (mut items, mut from) = (Vec::new(), Vec::new());
        for (index, receiver) in self.0.into_iter().enumerate() {
            let name = if index == 0 { "mail".to_owned() } else { format!("mail-{}", index + 1) };
            let item = receiver.item(&name, host, ledger);
            from.extend(item.all_from());
            items.push(item);
        }
        let mut alerts = Map::default();
        let is_any = !items.is_empty();
        alerts.set("receivers", Value::List(items), &[]);
        is_any.then_some((alerts, from))
    }
}

impl Receiver {
    fn item(self, name: &str, host: &str, ledger: &mut Ledger) -> Item {
        let Self { terms: Terms { host: server, port, sender, events, repeat }, to } = self;
        let mut email = Map::default();
        email.set("host", server.0, &server.1);
        if let Some((port, from)) = port {
            email.set("port", port.to_string(), &from);
        }
        email.set("tls", "off", &server.1);
        let (sender, from) = sender.unwrap_or_else(|| {
            let sender = format!("root@{host}");
            ledger.assume(format!(
                "`from: {sender}` of the mails: their sender was made of the user and this host's name"
            ));
            (sender, Vec::new())
        });
        email.set("from", sender, &from);
        let lines: Vec<At> = to.iter().map(|(_, at)| *at).collect();
        email.set("to", Value::texts(to), &[]);
        let mut map = Map::default();
        map.set("name", name, &[]);
        map.set("severity", "none", &[]);
        map.set(
            "events",
            Value::Words(events.0.iter().map(|event| (*event).to_owned()).collect()),
            &events.1,
        );
        map.set("repeat", repeat.0, &repeat.1);
        map.set("email", email, &[]);
        Item::new(map, &lines)
    }
}
