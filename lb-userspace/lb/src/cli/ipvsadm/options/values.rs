//! Values of options.

use std::net::{IpAddr, Ipv4Addr};

use lb_model::Protocol;

use super::{Address, Refusal, refuse};

/// `host[:port]`. There are no services of firewall marks and of SCTP.
pub(super) fn service(option: &str, text: &str) -> Result<Address, Refusal> {
    let (protocol, kind) = match option {
        "tcp-service" => (Protocol::Tcp, libc::SOCK_STREAM),
        "udp-service" => (Protocol::Udp, libc::SOCK_DGRAM),
        "fwmark-service" => {
            if text.parse::<u32>().is_ok_and(|mark| mark > 0) {
                return refuse(
                    "lb has no firewall marks, because XDP comes before the firewall: a service may have several \
                     ports, `lb add service VIP:PORT,PORT SERVER`"
                        .to_owned(),
                );
            }
            return refuse(format!("invalid fwmark value `{text}' specified"));
        }
        _ => return refuse(format!("lb balances TCP and UDP to VIPs, and has no {option}")),
    };
    let Some((address, port)) = socket(text, kind) else {
        return refuse("illegal virtual server address[:port] specified".to_owned());
    };
    Ok(Address { protocol, address, port: port.unwrap_or_default() })
}

/// Names are looked up.
pub(super) fn socket(text: &str, kind: i32) -> Option<(IpAddr, Option<u16>)> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once("]:").map(|(host, port)| (host, Some(port)))?,
        None if text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) => (text, None),
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let hints = dns_lookup::AddrInfoHints { socktype: kind, ..dns_lookup::AddrInfoHints::default() };
    let mut found =
        dns_lookup::getaddrinfo(Some(host), Some(port.unwrap_or("0")), Some(hints)).ok()?.flatten();
    let socket = found.next()?.sockaddr;
    Some((socket.ip(), port.map(|_| socket.port())))
}

/// Seconds that clients stay bound.
pub(super) fn timeout(text: &str) -> Result<u64, Refusal> {
    const DEFAULT: u64 = 300;
    const LONGEST: u64 = 31 * 24 * 60 * 60;
    match text.parse() {
        Ok(seconds @ 1..=LONGEST) => Ok(seconds),
        _ if text.is_empty() => Ok(DEFAULT),
        _ => refuse(format!("invalid timeout value `{text}' specified")),
    }
}

/// Bits of a mask of IPv4, or as many as are told of IPv6.
pub(super) fn prefix(text: &str, service: Option<&Address>) -> Result<u8, Refusal> {
    if service.is_some_and(|service| service.address.is_ipv6()) {
        let bits = text.parse().ok().filter(|bits| (1..=128).contains(bits));
        return bits.map_or_else(|| refuse("illegal ipv6 netmask specified".to_owned()), Ok);
    }
    let Ok(mask) = text.parse::<Ipv4Addr>() else {
        return refuse("illegal virtual server persistent mask specified".to_owned());
    };
    let bits = mask.to_bits();
    match u8::try_from(bits.leading_ones()) {
        Ok(prefix @ 1..) if bits.count_ones() == u32::from(prefix) => Ok(prefix),
        _ => refuse(format!(
            "lb binds clients by a prefix of their addresses, and {mask} is none: such as 255.255.255.0"
        )),
    }
}

/// Whether the scheduler hashes the port, and whether it takes another server than one of weight 0.
pub(super) fn hashing(scheduler: &str, flags: &str) -> Result<[bool; 2], Refusal> {
    let [mut port, mut fallback] = [false; 2];
    for flag in flags.split(',').filter(|flag| !flag.is_empty()) {
        let (of, is_port) = match flag {
            "sh-port" => ("sh", true),
            "mh-port" => ("mh", true),
            "sh-fallback" => ("sh", false),
            "mh-fallback" => ("mh", false),
            "flag-1" | "flag-2" if ["sh", "mh"].contains(&scheduler) => (scheduler, flag == "flag-2"),
            "flag-1" | "flag-2" | "flag-3" => {
                return refuse(format!(
                    "{flag} means nothing to {scheduler}: there are sh-port, sh-fallback, mh-port and mh-fallback"
                ));
            }
            _ => return refuse(format!("invalid scheduler flag `{flag}'")),
        };
        if of != scheduler {
            return refuse(format!("incompatible scheduler flag `{flag}'"));
        }
        *(if is_port { &mut port } else { &mut fallback }) = true;
    }
    Ok([port, fallback])
}
