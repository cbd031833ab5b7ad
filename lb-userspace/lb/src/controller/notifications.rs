//! What operators learn of servers and services: events, findings, and hooks.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lb_api::events::{Events, Level, Record};
use lb_api::findings::Findings;
use lb_datapath::plan::{State, Target};
use lb_health::quorum::{Quorum, Transition};
use lb_health::server::{Machine, Output};
use lb_model::Health;
use lb_model::{Server, Service, ServiceKey};
use lb_system::command;
use lb_system::command::queue::{Job, Queues};

use super::runtime::{Notification, Runtime};

/// Hooks of servers and services that run at once.
const HOOKS_TOGETHER: usize = 64;

/// So many notifications look for their services one by one.
const FEW: usize = 16;

/// Tells operators what happens: by events, by findings, and by the hooks of services and servers.
pub(super) struct Notifier {
    events: Events,
    findings: Findings,
    hooks: Queues,
    /// Services that their fallback serves, and since when.
    fallbacks: HashMap<ServiceKey, Instant>,
    /// Servers with as many connections as they may have.
    full: HashSet<(ServiceKey, IpAddr)>,
}

impl Notifier {
    pub(super) fn new(events: Events, findings: Findings) -> Self {
        Self {
            events,
            findings,
            hooks: Queues::new(HOOKS_TOGETHER),
            fallbacks: HashMap::new(),
            full: HashSet::new(),
        }
    }

    pub(super) fn findings(&self) -> &Findings {
        &self.findings
    }

    pub(super) fn record(&mut self, record: Record) {
        self.events.record(record);
    }

    /// Findings and notes of other threads stand among the events from now on.
    pub(super) fn collect_findings(&mut self) {
        self.findings.take_noted().into_iter().for_each(|record| self.events.keep(record));
        self.findings.take_records().into_iter().for_each(|record| self.events.record(record));
    }

    /// The last events, oldest first, see [`Events::recent`]. Whoever has seen a finding in the
    /// status finds it here.
    pub(super) fn recent(&mut self, after: Option<u64>) -> Vec<Record> {
        self.collect_findings();
        self.events.recent(after)
    }

    /// Waits for hooks, at most for `patience`; returns the events for the next life.
    pub(super) async fn finish(self, patience: Duration) -> Events {
        self.hooks.finish(patience).await;
        self.events
    }

    /// Records events and runs hooks for what became of servers and of quorums.
    pub(super) fn publish(
        &mut self,
        notifications: Vec<Notification>,
        services: &[Service],
        runtime: &Runtime,
    ) {
        // When a director starts there is one for each server.
        let many = notifications.len() > FEW;
        let by_key: Option<HashMap<ServiceKey, &Service>> =
            many.then(|| services.iter().map(|service| (service.key, service)).collect());
        let find = |key: ServiceKey| match &by_key {
            Some(by_key) => by_key.get(&key).copied(),
            None => services.iter().find(|service| service.key == key),
        };
        for notification in notifications {
            let (Notification::Server(key, ..) | Notification::Quorum(key, _)) = notification;
            let Some(service) = find(key) else { continue };
            let record = match notification {
                Notification::Server(_, address, output) => {
                    let server = service.servers.iter().find(|server| server.address == address);
                    let Some(server) = server else { continue };
                    let machine = runtime.server(&key, address);
                    let reason = machine.and_then(Machine::reason).unwrap_or_default();
                    if let Some((subject, job)) = server_hook(service, server, &output, &reason) {
                        self.hooks.run(&subject, job);
                    }
                    server_record(service, server, &output)
                }
                Notification::Quorum(_, turn) => {
                    let sum = runtime.quorum(&key).map_or(0, Quorum::sum);
                    let cause = quorum_cause(service, sum);
                    self.hooks.run(&service.name, quorum_hook(service, turn, &cause));
                    quorum_record(service, turn, cause)
                }
            };
            if let Some(record) = record {
                self.events.record(record);
            }
        }
    }

    /// Records which fallbacks have begun and ceased to serve. `applied` is what the maps hold.
    /// Tells which servers have become full since the last call, or have room again.
    pub(super) fn publish_full(
        &mut self,
        services: &[Service],
        is_full: impl Fn(&ServiceKey, IpAddr) -> bool,
    ) {
        let mut full = HashSet::new();
        for service in services {
            for server in &service.servers {
                let subject = (service.key, server.address);
                let was = self.full.contains(&subject);
                let is = !server.thresholds.is_none() && is_full(&service.key, server.address);
                if is {
                    full.insert(subject);
                }
                if was != is {
                    self.events.record(full_record(service, server, is));
                }
            }
        }
        self.full = full;
    }

    pub(super) fn publish_fallbacks(&mut self, services: &[Service], applied: &State) {
        for service in services {
            let serves = fallback_serves(service, applied);
            let since = self.fallbacks.get(&service.key).copied();
            if serves == since.is_some() {
                continue;
            }
            self.events.record(fallback_record(service, since.map(|since| since.elapsed())));
            match serves {
                true => self.fallbacks.insert(service.key, Instant::now()),
                false => self.fallbacks.remove(&service.key),
            };
        }
        if !self.fallbacks.is_empty() {
            let there: HashSet<ServiceKey> = services.iter().map(|service| service.key).collect();
            self.fallbacks.retain(|key, _| there.contains(key));
        }
    }
}

fn full_record(service: &Service, server: &Server, full: bool) -> Record {
    let (name, of, thresholds) = (&server.name, &service.name, server.thresholds);
    let record = match full {
        true => Record::new(
            Level::Warning,
            "server_full",
            format!("{name} of {of} is full: it has {} connections or more", thresholds.upper()),
        ),
        false => {
            let why = match thresholds.is_none() {
                true => "it has no thresholds any more".to_owned(),
                false => format!("it has fewer than {} connections", thresholds.lower()),
            };
            Record::new(Level::Info, "server_has_room", format!("{name} of {of} has room again: {why}"))
        }
    };
    record.service(of).server(&server.address.to_string())
}

/// Whether new connections go to the fallback.
fn fallback_serves(service: &Service, applied: &State) -> bool {
    let fallback = fallback(service);
    let applied = applied.services.get(&service.key);
    applied.is_some_and(|applied| applied.members().any(|server| server.target == fallback))
}

/// Where connections go when the fallback serves, if there is one.
pub(super) fn fallback(service: &Service) -> Target {
    service.fallback_server().map_or(Target::Local, |server| Target::Real(server.address))
}

/// The hook of a server that went down or came back, and whose it is.
fn server_hook(service: &Service, server: &Server, output: &Output, reason: &str) -> Option<(String, Job)> {
    let (event, command) = match output {
        Output::Changed { .. } => return None,
        Output::WentDown => ("server_down", &service.hooks.server_down),
        Output::CameBack => ("server_up", &service.hooks.server_up),
    };
    let mut environment = service_environment(service, reason);
    let address = server.address.to_string();
    environment.extend(command::environment([("SERVER", &server.name), ("SERVER_ADDRESS", &address)]));
    let subject = format!("{} of {}", server.name, service.name);
    Some((subject, Job { event, command: command.clone(), environment }))
}

fn quorum_hook(service: &Service, turn: Transition, cause: &str) -> Job {
    let (event, command) = match turn.won {
        true => ("quorum_up", &service.hooks.quorum_up),
        false => ("quorum_down", &service.hooks.quorum_down),
    };
    Job { event, command: command.clone(), environment: service_environment(service, cause) }
}

fn service_environment(service: &Service, reason: &str) -> Vec<(String, String)> {
    let ServiceKey { vip, port, protocol } = service.key;
    command::environment([
        ("SERVICE", &service.name),
        ("VIP", &vip.to_string()),
        ("PORT", &port.to_string()),
        ("PROTOCOL", protocol.name()),
        ("REASON", reason),
    ])
}

/// Nothing where a server is simply found to be well.
fn server_record(service: &Service, server: &Server, output: &Output) -> Option<Record> {
    let Output::Changed { from, to, lasted, reason } = output else { return None };
    let (level, event, is) = match (from, to) {
        (_, Health::Down) => (Level::Warning, "server_down", "is down"),
        (_, Health::Maintenance) => (Level::Info, "server_maintenance", "is in maintenance"),
        (Health::Down | Health::Maintenance, Health::Up | Health::Unchecked) => {
            (Level::Info, "server_up", "is up")
        }
        _ => return None,
    };
    let mut text = format!("{}: {} {is}", service.name, server.name);
    if let Some(reason) = reason.as_ref().filter(|_| *to != Health::Up) {
        text += &format!(": {reason}");
    }
    if *from != Health::Unknown {
        text += &format!("; before it was {} for {}", from.word(), words(*lasted));
    }
    let record = Record::new(level, event, text).service(&service.name).server(&server.name);
    let record = record.from_to(from.word(), to.word()).took(*lasted);
    Some(match reason {
        Some(reason) => record.cause(reason.clone()),
        None => record,
    })
}

fn quorum_cause(service: &Service, sum: u64) -> String {
    format!("usable servers weigh {sum}, the quorum is {}", service.quorum.weight)
}

/// Nothing where a service simply has its quorum from the start.
fn quorum_record(service: &Service, Transition { won, lasted }: Transition, cause: String) -> Option<Record> {
    let name = &service.name;
    let (level, event, text) = match (won, lasted) {
        (true, None) => return None,
        (true, Some(lasted)) => {
            let text = format!("{name} has its quorum: {cause}; it lacked it for {}", words(lasted));
            (Level::Info, "quorum_won", text)
        }
        (false, Some(lasted)) => {
            let text = format!("{name} has lost its quorum: {cause}; it had it for {}", words(lasted));
            (Level::Error, "quorum_lost", text)
        }
        (false, None) => {
            (Level::Error, "quorum_lost", format!("{name} lacks its quorum from the start: {cause}"))
        }
    };
    let record = Record::new(level, event, text).service(name).cause(cause);
    Some(match lasted {
        Some(lasted) => record.took(lasted),
        None => record,
    })
}

/// `served`: it has ended, and had served for so long.
fn fallback_record(service: &Service, served: Option<Duration>) -> Record {
    let (name, fallback) = (&service.name, &service.fallback);
    match served {
        None => {
            let text = format!("{name}: the fallback ({fallback}) serves");
            Record::new(Level::Warning, "fallback_started", text).service(name)
        }
        Some(served) => {
            let text = format!("{name}: the fallback ({fallback}) serves no more, after {}", words(served));
            Record::new(Level::Info, "fallback_ended", text).service(name).took(served)
        }
    }
}

/// `3m 2s`: nobody wants to know of the milliseconds in it.
fn words(time: Duration) -> String {
    let exact = match time {
        time if time < Duration::from_secs(1) => Duration::from_millis(time.subsec_millis().into()),
        time => Duration::from_secs(time.as_secs()),
    };
    humantime::format_duration(exact).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_model::{Fallback, Protocol};

    fn web() -> Service {
        let key = ServiceKey { vip: [192, 0, 2, 10].into(), port: 80, protocol: Protocol::Tcp };
        let server = Server { name: "www1".to_owned(), ..Server::new([192, 0, 2, 21].into(), 80) };
        Service {
            servers: vec![server],
            fallback: Fallback::Sorry(None),
            ..Service::new("web".to_owned(), key)
        }
    }

    fn told(from: Health, to: Health, reason: Option<&str>) -> Option<Record> {
        let (lasted, reason) = (Duration::from_millis(182_345), reason.map(str::to_owned));
        let web = web();
        server_record(&web, &web.servers[0], &Output::Changed { from, to, lasted, reason })
    }

    #[test]
    fn servers_are_told_with_what_was_before() {
        let down = told(Health::Up, Health::Down, Some("connection refused")).expect("an event");
        assert_eq!(down.text, "web: www1 is down: connection refused; before it was up for 3m 2s");
        let fields = [&down.service, &down.server, &down.from, &down.to, &down.cause].map(Option::as_deref);
        let wanted = ["web", "www1", "up", "down", "connection refused"].map(Some);
        assert_eq!((fields, down.took_ms), (wanted, Some(182_345.0)));

        let up = told(Health::Down, Health::Up, None).expect("an event");
        assert_eq!((&*up.event, &*up.text), ("server_up", "web: www1 is up; before it was down for 3m 2s"));
        let out = told(Health::Up, Health::Maintenance, Some("new disk")).expect("an event");
        assert_eq!(out.text, "web: www1 is in maintenance: new disk; before it was up for 3m 2s");
        let first = told(Health::Unknown, Health::Down, Some("connection refused")).expect("an event");
        assert_eq!(first.text, "web: www1 is down: connection refused");
    }

    #[test]
    fn a_server_that_is_found_well_is_no_event() {
        for (from, to) in [
            (Health::Unknown, Health::Up),
            (Health::Unknown, Health::Unchecked),
            (Health::Unchecked, Health::Up),
            (Health::Maintenance, Health::Unknown),
        ] {
            assert_eq!(told(from, to, None), None, "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn hooks_are_told_who_and_why() {
        let hook = |word: &str| {
            let words = vec![word.to_owned()];
            Some(lb_model::Command { words, timeout: Duration::from_secs(1) })
        };
        let mut service = web();
        service.hooks.server_down = hook("/bin/down");
        service.hooks.quorum_up = hook("/bin/won");
        let down = server_hook(&service, &service.servers[0], &Output::WentDown, "connection refused");
        let (subject, down) = down.expect("a hook");
        assert_eq!((&*subject, down.command), ("www1 of web", hook("/bin/down")));
        let variables: Vec<_> =
            down.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let wanted = "LB_SERVICE=web LB_VIP=192.0.2.10 LB_PORT=80 LB_PROTOCOL=tcp LB_REASON=connection refused \
                      LB_SERVER=www1 LB_SERVER_ADDRESS=192.0.2.21";
        assert_eq!(variables.join(" "), wanted);
        let (_, up) = server_hook(&service, &service.servers[0], &Output::CameBack, "").expect("a job");
        assert_eq!((up.event, up.command), ("server_up", None), "it overtakes what waits");
        let won = quorum_hook(&service, Transition { won: true, lasted: None }, "");
        assert_eq!((won.event, won.command), ("quorum_up", hook("/bin/won")));
    }

    #[test]
    fn quorums_and_fallbacks_are_told_with_what_was_before() {
        let told = |won, lasted, sum| {
            let record = quorum_record(&web(), Transition { won, lasted }, quorum_cause(&web(), sum));
            record.map(|record| record.text)
        };
        let lasted = Some(Duration::from_millis(40));
        let lost = "web has lost its quorum: usable servers weigh 0, the quorum is 1; it had it for 40ms";
        assert_eq!(told(false, lasted, 0).as_deref(), Some(lost));
        let won = "web has its quorum: usable servers weigh 3, the quorum is 1; it lacked it for 40ms";
        assert_eq!(told(true, lasted, 3).as_deref(), Some(won));
        assert_eq!(told(true, None, 3), None);
        let never = "web lacks its quorum from the start: usable servers weigh 0, the quorum is 1";
        assert_eq!(told(false, None, 0).as_deref(), Some(never));
        assert_eq!(fallback_record(&web(), None).text, "web: the fallback (sorry) serves");
        let ended = fallback_record(&web(), Some(Duration::from_secs(61)));
        assert_eq!(ended.text, "web: the fallback (sorry) serves no more, after 1m 1s");
        assert_eq!((&*ended.event, ended.took_ms), ("fallback_ended", Some(61_000.0)));
    }
}
