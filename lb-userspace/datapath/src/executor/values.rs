//! Values as the maps hold them.

use lb_common::connection::{State, Timeouts, ticks_from_ms};
use lb_common::lease::GroupIndex;
use lb_common::service::{ServiceAddress, ServiceInfo};
use lb_model::{ServiceKey, Stray};

use super::ServiceRecord;

pub(super) fn service_info(key: &ServiceKey, record: &ServiceRecord) -> ServiceInfo {
    let address = ServiceAddress::new(key.vip.into(), key.port.to_be(), key.protocol);
    ServiceInfo {
        address: address.address,
        port_and_protocol: address.port_and_protocol,
        id: record.id.0,
        flags: flags(record),
        group: record.settings.group.map_or(GroupIndex::UNGROUPED, GroupIndex::group),
        timeouts: timeouts(&record.settings.timeouts),
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
    ]
    .into_iter()
    .fold(0, |flags, (set, flag)| if set { flags | flag } else { flags })
}

pub(super) fn timeouts(config: &lb_model::Timeouts) -> Timeouts {
    let lb_model::Timeouts { syn_recv, established, fin_wait, closed, udp } = *config;
    let mut ticks = [0; 8];
    for (state, timeout) in [
        (State::SynRecv, syn_recv),
        (State::Established, established),
        (State::FinWait, fin_wait),
        (State::Closed, closed),
        (State::UdpNew, udp),
        (State::Udp, udp),
    ] {
        ticks[state as usize] = ticks_from_ms(timeout.as_millis() as u64);
    }
    ticks
}
