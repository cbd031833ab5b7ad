//! Validation: from the parsed file to the model. One pass reports all wrong values of a file.

mod alerts;
mod clients;
mod cluster;
mod command;
mod group;
mod health;
mod interfaces;
mod path;
mod persistence;
mod ports;
mod probe;
mod quic;
mod scheduling;
mod server;
mod service;
mod source_nat;
mod tunnel;
mod web;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use lb_model::{ANNOUNCE_RATE, Config, Control, Group, Metrics, Service, Timeouts, XdpMode};

use self::service::Defaults;
use super::error::{Found, SHOWN};
use super::source_map::{Position, SourceMap, SourceSpan};
use super::values;
use super::yaml::{self, Scalar};

/// Builds the model of `file` for the host name `host`, or returns all mistakes. `root` is the
/// source span of the whole file, `at_run_time` that of [`Files`](super::Files).
pub(crate) fn validate(
    file: &yaml::File,
    root: SourceSpan<'_>,
    host: &str,
    at_run_time: bool,
) -> Result<Config, Vec<Found>> {
    let mut validator = Validator { found: Vec::new(), at_run_time };
    let cluster = file.cluster.as_ref().map(|cluster| (cluster, root.key("cluster")));
    let names = cluster.map(|(cluster, span)| validator.node_names(cluster, span));
    let timeouts = validator.timeouts(file.timeouts.as_ref(), root.key("timeouts"), Timeouts::default());
    let (interface, other_interfaces) = validator.interfaces(file, root);
    let groups = validator.groups(file, root.key("groups"), &interface, &other_interfaces, names.as_deref());
    if let Some((_, span)) = cluster.filter(|_| groups.is_empty()) {
        let message = "a cluster without `groups` has nothing to take over, expected at least one group";
        validator.mistake(span.key_at(), message);
    }
    let (denied, clients) = validator.every_client(file.clients.as_ref(), root.key("clients"));
    let defaults = Defaults { timeouts, clients };
    let services = validator.services(file.services.as_deref(), root.key("services"), defaults);
    let config = Config {
        interface,
        other_interfaces,
        xdp_mode: validator.one_of(Value::of(&file.xdp_mode, "xdp_mode", root), &XDP_MODES, XdpMode::Auto),
        connections: validator
            .optional(Value::of(&file.connections, "connections", root), |text| {
                values::whole(text, 1..=64_000_000)
            })
            .unwrap_or(1_000_000),
        bindings: validator
            .optional(Value::of(&file.bindings, "bindings", root), |text| {
                values::whole(text, 1024..=16_000_000)
            })
            .unwrap_or(BINDINGS),
        control: validator.control(file.control.as_ref(), root.key("control")),
        metrics: validator.metrics(file.metrics.as_ref(), root.key("metrics")),
        web: validator.web(file.web.as_ref(), root.key("web")),
        alerts: validator.alerts(file.alerts.as_ref(), root.key("alerts")),
        timeouts,
        maintenance: validator
            .optional(Value::of(&file.maintenance_dir, "maintenance_dir", root), |text| {
                values::folder(text, MAINTENANCE)
            })
            .unwrap_or_else(|| PathBuf::from(MAINTENANCE)),
        zero_copy: validator.one_of(Value::of(&file.zero_copy, "zero_copy", root), &values::SWITCH, false),
        announce_rate: validator
            .optional(Value::of(&file.announce_rate, "announce_rate", root), |text| {
                values::whole(text, 10..=1_000_000)
            })
            .unwrap_or(ANNOUNCE_RATE),
        cluster: cluster.map(|(cluster, span)| {
            let vips = vips(&groups, &services);
            let around = Surroundings { names: names.unwrap_or_default(), vips, host };
            validator.cluster(cluster, span, &around)
        }),
        groups,
        denied,
        services,
        kept_elsewhere: BTreeSet::new(),
    };
    validator.sources_are_held(file.services.as_deref().unwrap_or_default(), &config, root.key("services"));
    validator.ingresses_are_few(&config, root.key("services"));
    if let Some(cluster) = &config.cluster {
        validator.tunnels_lead_to_no_director(cluster, &config.services, root.key("services"));
    }
    if config.cluster.as_ref().is_some_and(|cluster| cluster.maintenance_file() == config.maintenance) {
        let value = Value::of(&file.maintenance_dir, "maintenance_dir", root);
        validator.wrong(value, "expected another folder: `lb maintenance on` creates a file of this name");
    }
    if validator.found.is_empty() { Ok(config) } else { Err(validator.found) }
}

/// Whether services that are valid each by itself are so together, as far as that can be told
/// without their text: it cannot of `source_nat` and of groups of `persistence`.
pub(crate) fn go_together(services: &[Service]) -> bool {
    let (nowhere, nothing) = (SourceMap::default(), yaml::Service::default());
    let mut validator = Validator { found: Vec::new(), at_run_time: true };
    validator.services_together(std::iter::repeat_n(&nothing, services.len()), services, nowhere.root());
    validator.found.is_empty()
}

const XDP_MODES: [(&str, XdpMode); 3] =
    [("native", XdpMode::Native), ("generic", XdpMode::Generic), ("auto", XdpMode::Auto)];

/// Default of `bindings`: clients of a large site, and 30 MB.
const BINDINGS: u32 = 1 << 18;

/// Default of `metrics: { listen: … }`.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9105);

const MAINTENANCE: &str = "/var/lib/lb/disabled";

/// What the values of a cluster are validated against.
struct Surroundings<'a> {
    /// Of the nodes, in the order of the file.
    names: Vec<String>,
    vips: HashSet<IpAddr>,
    /// This host's name.
    host: &'a str,
}

fn vips(groups: &[Group], services: &[Service]) -> HashSet<IpAddr> {
    let held = groups.iter().flat_map(|group| &group.vips).map(|vip| vip.address);
    let served = services.iter().map(|service| service.key.vip);
    // The unspecified address is the placeholder of a missing or wrong one.
    held.chain(served).filter(|vip| !vip.is_unspecified()).collect()
}

/// Collects mistakes. A wrong value leaves a placeholder in the model; a model with mistakes is
/// never returned.
struct Validator {
    found: Vec<Found>,
    at_run_time: bool,
}

/// A scalar of the file: its text, its key and the source span of the mapping around it.
#[derive(Clone, Copy)]
struct Value<'a> {
    text: Option<&'a str>,
    /// As it stands in the file: what a reference stands for may be a secret.
    raw: Option<&'a str>,
    key: &'static str,
    map: SourceSpan<'a>,
}

impl<'a> Value<'a> {
    /// The value of `key` in the mapping at `map`.
    fn of(scalar: &'a Scalar, key: &'static str, map: SourceSpan<'a>) -> Self {
        Self { text: scalar.text(|| map.key(key)), raw: scalar.raw(), key, map }
    }

    fn span(self) -> SourceSpan<'a> {
        self.map.key(self.key)
    }
}

impl Validator {
    fn mistake(&mut self, at: Position, message: impl Into<String>) {
        self.found.push((at, message.into()));
    }

    /// Reports that the given `value` is wrong; `wrong` says why.
    fn wrong(&mut self, value: Value<'_>, wrong: &str) {
        self.wrong_at(value.span().at(), value.key, value.raw.unwrap_or_default(), wrong);
    }

    /// Like [`Self::wrong`] for the value at `at` that stands there as `text`; `key` is its own key
    /// or that of its list.
    fn wrong_at(&mut self, at: Position, key: &str, text: &str, wrong: &str) {
        let message = match text {
            "" => format!("{key}: found nothing, {wrong}"),
            text => format!("{key} {}: {wrong}", quoted(text)),
        };
        self.mistake(at, message);
    }

    /// `None` if the key is not given or its value is wrong.
    fn optional<T>(&mut self, value: Value<'_>, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match read(value.text?) {
            Ok(read) => Some(read),
            Err(wrong) => {
                self.wrong(value, &wrong);
                None
            }
        }
    }

    /// Like [`Self::optional`], but the key must be given.
    fn needed<T>(
        &mut self,
        value: Value<'_>,
        expected: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if value.text.is_none() {
            self.mistake(value.map.key_at(), format!("`{}` is missing, expected {expected}", value.key));
        }
        self.optional(value, read)
    }

    /// Like [`Self::optional`] for a value that is one of `choices`.
    fn one_of<T: Copy>(&mut self, value: Value<'_>, choices: &[(&str, T)], default: T) -> T {
        self.optional(value, |text| values::choice(text, choices)).unwrap_or(default)
    }

    /// Returns the valid items of a list of scalars and reports the others.
    fn items<'m, T>(
        &mut self,
        given: &[Scalar],
        key: &str,
        list: SourceSpan<'m>,
        mut read: impl FnMut(&str, SourceSpan<'m>) -> Result<T, String>,
    ) -> Vec<T> {
        let each = given.iter().enumerate();
        let items = each.filter_map(|(index, item)| {
            let span = list.item(index);
            let text = item.text(|| span).unwrap_or_default();
            let wrong = read(text, span).map_err(|wrong| {
                self.wrong_at(span.at(), key, item.raw().unwrap_or_default(), &wrong);
            });
            wrong.ok()
        });
        items.collect()
    }

    /// Reports a list that is too long, at its first surplus item.
    fn at_most(&mut self, most: usize, given: usize, what: &str, list: SourceSpan<'_>) {
        if given > most {
            let message = format!("found {given} {what}, expected at most {most}");
            self.mistake(list.item(most).at(), message);
        }
    }

    fn control(&mut self, control: Option<&yaml::Control>, span: SourceSpan<'_>) -> Control {
        let default = Control::at(PathBuf::from(Control::SOCKET));
        let Some(control) = control else { return default };
        let socket = self.optional(Value::of(&control.socket, "socket", span), values::socket_path);
        let owner = self.optional(Value::of(&control.owner, "owner", span), values::name);
        let group = self.optional(Value::of(&control.group, "group", span), values::name);
        let mode = self.optional(Value::of(&control.mode, "mode", span), values::socket_mode);
        Control { socket: socket.unwrap_or(default.socket), owner, group, mode: mode.unwrap_or(default.mode) }
    }

    fn metrics(
        &mut self,
        metrics: Option<&yaml::SwitchOr<yaml::Metrics>>,
        span: SourceSpan<'_>,
    ) -> Option<Metrics> {
        let default = Metrics { listen: METRICS, ipvs_names: false };
        match metrics {
            None => Some(default),
            Some(yaml::SwitchOr::On(yaml::Metrics { listen, ipvs_names })) => {
                let listen =
                    self.optional(Value::of(listen, "listen", span), |text| values::listen(text, METRICS));
                let ipvs_names = Value::of(ipvs_names, "ipvs_names", span);
                let ipvs_names = self.one_of(ipvs_names, &values::SWITCH, default.ipvs_names);
                Some(Metrics { listen: listen.unwrap_or(default.listen), ipvs_names })
            }
            Some(yaml::SwitchOr::Switch(switch)) => {
                self.is_on(switch, "metrics", "off or a mapping with `listen`", span).then_some(default)
            }
        }
    }

    /// What the switch of a section says; what is neither on nor off is reported.
    fn is_on(&mut self, switch: &str, key: &str, expected: &str, span: SourceSpan<'_>) -> bool {
        match span.expanded().unwrap_or(switch) {
            "off" | "false" | "no" => return false,
            "on" | "true" | "yes" => {}
            _ => self.mistake(span.at(), format!("{key} {}: expected {expected}", quoted(switch))),
        }
        true
    }

    /// The times given in `timeouts`; missing ones are taken from `base`.
    fn timeouts(
        &mut self,
        timeouts: Option<&yaml::Timeouts>,
        span: SourceSpan<'_>,
        base: Timeouts,
    ) -> Timeouts {
        let Some(yaml::Timeouts { established, unproven, fin_wait, syn_recv, closed, udp }) = timeouts else {
            return base;
        };
        let mut time = |scalar, key, base| {
            let value = Value::of(scalar, key, span);
            self.optional(value, |text| values::time(text, SECOND..=7 * DAY)).unwrap_or(base)
        };
        Timeouts {
            syn_recv: time(syn_recv, "syn_recv", base.syn_recv),
            unproven: time(unproven, "unproven", base.unproven),
            established: time(established, "established", base.established),
            fin_wait: time(fin_wait, "fin_wait", base.fin_wait),
            closed: time(closed, "closed", base.closed),
            udp: time(udp, "udp", base.udp),
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Text of the file in quotes, escaped, and truncated if it is long.
fn quoted(text: &str) -> String {
    let mut chars = text.chars();
    let shown: String = chars.by_ref().take(SHOWN).collect();
    if chars.next().is_some() { format!("{shown:?}…") } else { format!("{shown:?}") }
}

/// Values that must be unique, each with its first source span.
struct Unique<'a, K>(HashMap<K, SourceSpan<'a>>);

impl<K> Default for Unique<'_, K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<'a, K: Eq + Hash> Unique<'a, K> {
    /// Stores `key`, or returns the line of its first occurrence, with the file if that is another
    /// one.
    fn insert(&mut self, key: K, span: SourceSpan<'a>) -> Result<(), String> {
        match self.0.entry(key) {
            Entry::Occupied(first) => Err(first.get().line_seen_from(span)),
            Entry::Vacant(vacant) => {
                vacant.insert(span);
                Ok(())
            }
        }
    }

    /// Returns `key` if it occurs for the first time; `what` is the noun for it in the message.
    fn only(&mut self, key: K, what: &str, span: SourceSpan<'a>) -> Result<K, String>
    where
        K: Copy,
    {
        match self.insert(key, span) {
            Ok(()) => Ok(key),
            Err(line) => Err(format!("line {line} already has this {what}")),
        }
    }
}
