//! Values as the maps hold them.

use std::collections::HashSet;
use std::time::Duration;

use lb_common::lease::GroupIndex;
use lb_common::service::binding::{Persistence, mask};
use lb_common::service::{ServiceAddress, ServiceInfo};
use lb_common::table::connection::{State, TICK_SHIFT, Timeouts, slack, ticks_from_ms};
use lb_model::ids::GroupNumber;
use lb_model::{PortKey, Ports, Protocol, ServiceKey, Stray};

use super::ServiceRecord;

/// What the table of services holds: each service under each port that it has by itself, in blocks
/// of ports, or as the one of all ports. A port of a range that another service has by itself is
/// that one's.
pub(super) fn places(services: impl Iterator<Item = (ServiceInfo, Ports)>) -> Vec<ServiceInfo> {
    let services: Vec<(ServiceInfo, Ports)> = services.collect();
    let at = |info: &ServiceInfo, port: u16| {
        let protocol = info.port_and_protocol & !0xffff;
        ServiceInfo { port_and_protocol: protocol | u32::from(port.to_be()), ..*info }
    };
    let with = |info: &ServiceInfo, key: ServiceAddress| ServiceInfo {
        port_and_protocol: key.port_and_protocol,
        ..*info
    };
    if services.iter().all(|(_, ports)| ports.is_one()) {
        return services.into_iter().map(|(info, _)| info).collect();
    }
    let mut single = HashSet::new();
    let mut places = Vec::new();
    for (info, ports) in &services {
        for range in ports.ranges().iter().filter(|range| range.is_one()) {
            let place = at(info, range.first);
            single.insert((place.address.0, place.port_and_protocol));
            places.push(place);
        }
    }
    for (info, ports) in &services {
        let wide = ports.ranges().iter().filter(|range| !range.is_one());
        let wide = wide.flat_map(|range| range.keys()).chain(ports.is_all().then_some(PortKey::All));
        places.extend(wide.filter_map(|key| match key {
            PortKey::One(port) => {
                let place = at(info, port);
                (!single.contains(&(place.address.0, place.port_and_protocol))).then_some(place)
            }
            PortKey::Block(first) => Some(with(info, at(info, first).key().of_block())),
            PortKey::All => Some(with(info, info.key().of_all())),
        }));
    }
    places
}

impl ServiceRecord {
    pub(super) fn ports(&self, key: &ServiceKey) -> Ports {
        self.settings.ports.unwrap_or(Ports::of_key(key.port))
    }

    /// Whether packets must not go the program's fast way.
    pub(super) fn needs_slow_way(&self) -> bool {
        let Self { serving, settings, clients, .. } = self;
        let each = settings.each_datagram || settings.quic || clients.admission.is_for_every_packet();
        serving.host || each
    }
}

pub(super) fn service_info(key: &ServiceKey, record: &ServiceRecord) -> ServiceInfo {
    let address = ServiceAddress::new(key.vip.into(), key.port.to_be(), key.protocol);
    ServiceInfo {
        address: address.address,
        port_and_protocol: address.port_and_protocol,
        id: record.id,
        flags: flags(record),
        group: record
            .settings
            .group
            .map_or(GroupIndex::UNGROUPED, GroupNumber::lease)
            .guarded(!record.clients.is_empty()),
        timeouts: timeouts(key.protocol, &record.settings.timeouts),
    }
}

/// How the service binds clients, and for how long a first packet does.
pub(super) fn persistence(key: &ServiceKey, record: &ServiceRecord) -> Persistence {
    let settings = &record.settings;
    let Some(config) = settings.persistence else { return Persistence::default() };
    let lb_model::Timeouts { syn_recv, unproven, established, udp, .. } = settings.timeouts;
    let (first, steady) = match key.protocol {
        Protocol::Tcp => (syn_recv.max(unproven).min(config.timeout), established),
        Protocol::Udp => (config.timeout, udp),
    };
    // Entries are written anew after this time at the latest, which is what prolongs a binding.
    let slack = u64::from(slack(ticks_from_ms(steady.as_millis() as u64)) + 1) << TICK_SHIFT;
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2);
    Persistence {
        mask: mask(key.vip.is_ipv4(), config.prefix),
        group: config.group,
        timeout_ns: ns(config.timeout) + slack,
        tentative_ns: ns(first),
        at_once: u64::from(key.protocol == Protocol::Udp),
    }
}

pub(super) fn flags(record: &ServiceRecord) -> u8 {
    let ServiceRecord { settings, serving, .. } = record;
    [
        (settings.stray == Stray::Hash, ServiceInfo::STRAY_BY_HASH),
        (settings.refuses, ServiceInfo::REFUSES),
        (settings.each_datagram, ServiceInfo::EACH_DATAGRAM),
        (settings.quic, ServiceInfo::QUIC),
        (serving.host, ServiceInfo::HOST_SERVES),
        (serving.any, ServiceInfo::DIRECTOR_SERVES),
        (settings.ports.is_some(), ServiceInfo::MANY_PORTS),
        (settings.persistence.is_some(), ServiceInfo::PERSISTENT),
    ]
    .into_iter()
    .fold(0, |flags, (set, flag)| if set { flags | flag } else { flags })
}

pub(super) fn timeouts(protocol: Protocol, config: &lb_model::Timeouts) -> Timeouts {
    let lb_model::Timeouts { syn_recv, unproven, established, fin_wait, closed, udp } = *config;
    let mut ticks = [0; 8];
    // One place for both, see `State`.
    let unproven_or_udp = match protocol {
        Protocol::Tcp => (State::Unproven, unproven.min(established)),
        Protocol::Udp => (State::Udp, udp),
    };
    for (state, timeout) in [
        (State::SynRecv, syn_recv),
        (State::Established, established),
        (State::FinWait, fin_wait),
        (State::CloseWait, fin_wait),
        (State::TimeWait, fin_wait),
        (State::Closed, closed),
        (State::UdpNew, udp),
        unproven_or_udp,
    ] {
        ticks[state.timeout_index()] = ticks_from_ms(timeout.as_millis() as u64);
    }
    ticks
}
