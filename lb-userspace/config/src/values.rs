//! Single values: what a text means, or what was expected instead.
//!
//! The error of each function completes the sentence `KEY "TEXT": …`.

mod prefixes;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use humantime::format_duration;
use lb_model::{Control, Fallback, GroupVip, Pattern, PortRange, Ports, Statuses, Vlan};
use regex::bytes::Regex;
use rustls_pki_types::ServerName;

pub(crate) use self::prefixes::{address_bits, network, source_prefix};

/// The value of the name `text` in `choices`.
pub(crate) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let chosen = choices.iter().find(|(name, _)| *name == text);
    chosen.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// The name that `text` is most likely a misspelling of; `None` if several are equally likely.
pub(crate) fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let mut near: Vec<_> = names
        .map(|name| (strsim::damerau_levenshtein(text, name), name))
        .filter(|(distance, name)| *distance <= name.len() / 3 + usize::from(name.len() < 6))
        .collect();
    near.sort_unstable();
    match near.as_slice() {
        [(least, _), (next, _), ..] if least == next => None,
        [(_, name), ..] => Some(*name),
        [] => None,
    }
}

/// A decimal whole number, such as `1_000_000`. Leading zeros are refused: `010` is octal in YAML
/// 1.1.
pub(crate) fn whole<T: TryFrom<u64>>(text: &str, range: RangeInclusive<u64>) -> Result<T, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
        && !text.starts_with('_')
        && !text.ends_with('_')
        && (text.len() == 1 || !text.starts_with('0'));
    let number = plain.then(|| text.replace('_', "").parse().ok()).flatten();
    number
        .filter(|number| range.contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
}

/// A time with a unit, or a whole number of seconds. Fractions of a millisecond are refused, not
/// rounded.
pub(crate) fn time(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let time = seconds.or_else(|| humantime::parse_duration(text).ok());
    time.filter(|time| range.contains(time) && time.subsec_nanos() % 1_000_000 == 0).ok_or_else(|| {
        let (least, most) = (format_duration(*range.start()), format_duration(*range.end()));
        format!("expected a time from {least} to {most} in whole milliseconds, such as 500ms, 3s or 15m")
    })
}

/// A name for listings and metric labels.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let fits = (1..=lb_model::LONGEST_NAME).contains(&text.chars().count());
    if fits && text.trim() == text && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 64 characters without control characters, and no blank at the beginning or end"
            .into())
    }
}

/// An interface's name, by the kernel's rule (`dev_valid_name`).
pub(crate) fn interface(text: &str) -> Result<String, String> {
    let forbidden = |char: char| char == '/' || char == ':' || char.is_whitespace() || char.is_control();
    if (1..=15).contains(&text.len()) && !matches!(text, "." | "..") && !text.contains(forbidden) {
        Ok(text.to_owned())
    } else {
        Err("expected the name of a network interface: 1 to 15 bytes without `/`, `:` or blanks".into())
    }
}

/// A VLAN's number, two of them of QinQ, or `none`.
pub(crate) fn vlan(text: &str) -> Result<Vlan, String> {
    let number = |text: &str| whole::<u16>(text, 1..=Vlan::MAX_NUMBER.into()).ok();
    let read = match text.split_once('.') {
        _ if text == "none" => Some(Vlan::UNTAGGED),
        None => number(text).map(Vlan::single),
        Some((outer, inner)) => {
            number(outer).zip(number(inner)).map(|(outer, inner)| Vlan::double(outer, inner))
        }
    };
    read.ok_or_else(|| {
        format!(
            "expected a VLAN from 1 to {}, two of QinQ, the outer one first, such as \"100.200\", or none",
            Vlan::MAX_NUMBER
        )
    })
}

/// `sun_path` of a Unix socket's address has 108 bytes, the last of them 0.
const LONGEST_SOCKET_PATH: usize = 107;

pub(crate) fn socket_path(text: &str) -> Result<PathBuf, String> {
    let path = file_path(text, Control::SOCKET)?;
    if text.len() > LONGEST_SOCKET_PATH {
        Err(format!("expected at most {LONGEST_SOCKET_PATH} bytes, a Unix socket's path cannot be longer"))
    } else {
        Ok(path)
    }
}

/// Whoever may connect to the control socket may stop the director.
pub(crate) fn socket_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o770 == 0);
    mode.ok_or_else(|| {
        "expected octal permissions of the owner and the group, such as 0660; others may have none, because whoever \
         connects may stop lb"
            .into()
    })
}

pub(crate) fn file_path(text: &str, example: &str) -> Result<PathBuf, String> {
    if text.ends_with('/') { Err(no_path(example)) } else { folder(text, example) }
}

pub(crate) fn folder(text: &str, example: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if path.is_absolute() && !text.contains('\0') { Ok(path.to_owned()) } else { Err(no_path(example)) }
}

fn no_path(example: &str) -> String {
    format!("expected an absolute path, such as {example}")
}

/// The local address and port, IPv4 or IPv6, that an HTTP server listens on.
pub(crate) fn listen(text: &str, example: SocketAddr) -> Result<SocketAddr, String> {
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    address.ok_or_else(|| format!("expected an address and port, such as {example}"))
}

/// A virtual IP address and the ports of a service.
pub(crate) fn vip(text: &str) -> Result<(IpAddr, Ports), String> {
    if !is_ipv6(text)
        && let Some((host, several)) = text.rsplit_once(':')
        && several.contains([',', '-', '*'])
    {
        return Ok((host_address(host, VIP)?, ports(several)?));
    }
    match endpoint(text, VIP)? {
        (address, Some(port)) => Ok((address, Ports::of_key(port))),
        (_, None) => Err(format!("the port is missing, expected {VIP}")),
    }
}

/// Ports, ranges of them, or all.
fn ports(text: &str) -> Result<Ports, String> {
    if text == "*" {
        return Ok(Ports::ALL);
    }
    let mut ranges: Vec<PortRange> = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let [first, last] = [first, last].map(|port| whole::<u16>(port.trim(), 1..=65535));
        let (Ok(first), Ok(last)) = (first, last) else { return Err(format!("expected {PORTS}")) };
        if first > last {
            return Err(format!("the range {first}-{last} ends before it begins"));
        }
        if let Some(other) = ranges.iter().find(|range| range.first <= last && first <= range.last) {
            return Err(format!("{other} and {} have ports in common", PortRange { first, last }));
        }
        ranges.push(PortRange { first, last });
    }
    let most = Ports::MOST;
    Ports::of(&ranges).ok_or_else(|| {
        format!(
            "found {} ports and ranges, expected at most {most}: split the service, or use a range",
            ranges.len()
        )
    })
}

/// A VIP as an address of an interface; the default prefix length is that of a single host.
pub(crate) fn group_vip(text: &str) -> Result<GroupVip, String> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(host, prefix)| (host, Some(prefix)));
    let address = group_address(address)?;
    let longest = address_bits(address);
    let prefix = prefix.map(|prefix| {
        whole(prefix, 1..=longest.into()).map_err(|wrong| format!("{wrong} for the prefix length"))
    });
    Ok(GroupVip { address, prefix: prefix.transpose()?.unwrap_or(longest) })
}

fn group_address(text: &str) -> Result<IpAddr, String> {
    if !is_ipv6(text) && !text.starts_with('[') {
        return host_address(text, GROUP_VIP);
    }
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    match address.parse() {
        Ok(address) if Ipv6Addr::is_unicast_link_local(&address) => {
            Err("found a link-local address, expected one that hosts behind a router can reach too".into())
        }
        Ok(address) if zone.is_none() => unicast(address.into()),
        _ => Err(format!("expected {GROUP_VIP}")),
    }
}

/// A director's own address on the VIPs' network.
pub(crate) fn node_address(text: &str) -> Result<IpAddr, String> {
    match text.parse::<Ipv6Addr>() {
        // One of the interface that the VIPs are on.
        Ok(address) if address.is_unicast_link_local() => Ok(address.into()),
        _ => host_address(text, NODE),
    }
}

/// An own address that packets come from.
pub(crate) fn source_address(text: &str) -> Result<IpAddr, String> {
    group_address(text).map_err(|wrong| match wrong.contains("prefix") {
        true => "expected an address without a prefix length, such as 192.0.2.20 or 2001:db8::20".to_owned(),
        false => wrong,
    })
}

/// Any host's address, IPv6 included.
pub(crate) fn any_host(text: &str) -> Result<IpAddr, String> {
    let Ok(address) = text.parse() else { return Err(no_address(text, text, ANY_HOST)) };
    match unfit(address) {
        Some(kind) => Err(format!("found {kind}, expected the address of a host that others can reach")),
        None => Ok(address),
    }
}

/// A multicast group and port, IPv4 or IPv6.
pub(crate) fn multicast(text: &str) -> Result<SocketAddr, String> {
    socket_address(text, MULTICAST, |address| address.is_multicast())
}

/// An IPv4 network's broadcast address and a port. Any unicast address may be one: the prefix
/// length is unknown here.
pub(crate) fn broadcast(text: &str) -> Result<SocketAddr, String> {
    let like_one = |address| matches!(unfit(address), None | Some(LIMITED_BROADCAST));
    socket_address(text, BROADCAST, |address| address.is_ipv4() && like_one(address))
}

fn socket_address(text: &str, expected: &str, fits: impl Fn(IpAddr) -> bool) -> Result<SocketAddr, String> {
    let address = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0 && fits(address.ip()));
    address.ok_or_else(|| format!("expected {expected}"))
}

/// The label of an address. The kernel limits it to 15 bytes; ifconfig(8) shows labels that begin
/// with the interface.
pub(crate) fn label(text: &str, interface: &str) -> Result<String, String> {
    let rest = text.strip_prefix(interface).and_then(|rest| rest.strip_prefix(':'));
    if rest.is_some_and(|rest| !rest.is_empty()) && text.len() <= 15 && !text.contains(char::is_whitespace) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected the interface's name, a colon and a number, such as {interface}:0, at most 15 bytes"
        ))
    }
}

/// A real server's address; the port may be left out.
pub(crate) fn server_address(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    endpoint(text, SERVER)
}

pub(crate) const VIP: &str = "an address and port, such as 211.58.250.6:80 or \"[2001:db8::6]:80\"";
const PORTS: &str = "ports from 1 to 65535, ranges of them, or * for all, such as 80,443 or 30000-30999";
const GROUP_VIP: &str = "an address with its prefix length, such as 211.58.250.6/25 or 2001:db8::6/64";
const FALLBACK: &str = "none, refuse, local, sorry or a server's address";
pub(crate) const SERVER: &str = "an address, such as 211.58.250.25 or 2001:db8::25";
pub(crate) const NODE: &str = "an IP address, such as 211.58.250.5 or fd00::5";
const ANY_HOST: &str = "an IPv4 or IPv6 address, such as 10.0.0.1 or fd00::1";
pub(crate) const MULTICAST: &str =
    "a multicast address and port, such as 239.192.76.66:694 or \"[ff02::4c42]:694\"";
pub(crate) const BROADCAST: &str = "an IPv4 network's broadcast address and a port, such as 10.0.0.255:694";

/// An address without a port.
fn host_address(text: &str, expected: &str) -> Result<IpAddr, String> {
    match endpoint(text, expected)? {
        (address, None) => Ok(address),
        (_, Some(_)) => Err(format!("found a port, expected {expected}")),
    }
}

fn endpoint(text: &str, expected: &str) -> Result<(IpAddr, Option<u16>), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') && !is_ipv6(text) => (host, Some(port)),
        _ => (text, None),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let read = match bare {
        Some(host) => host.parse::<Ipv6Addr>().map(IpAddr::from),
        // A port behind an address without brackets would be read as a part of it.
        None if port.is_some() => host.parse::<Ipv4Addr>().map(IpAddr::from),
        None => host.parse::<IpAddr>(),
    };
    let address = match read {
        Ok(IpAddr::V6(address)) if address.is_unicast_link_local() => {
            return Err("found a link-local address, expected one that is the same on every interface".into());
        }
        Ok(address) => unicast(address)?,
        Err(_) => return Err(no_address(text, bare.unwrap_or(host), expected)),
    };
    let port = port.map(|port| whole(port, 1..=65535).map_err(|wrong| format!("{wrong} for the port")));
    Ok((address, port.transpose()?))
}

fn unicast(address: IpAddr) -> Result<IpAddr, String> {
    match unfit(address) {
        Some(kind) => Err(format!("found {kind}, expected a unicast address that other hosts can reach")),
        None => Ok(address),
    }
}

fn is_ipv6(text: &str) -> bool {
    text.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

fn no_address(text: &str, host: &str, expected: &str) -> String {
    let like_a_name = |char: char| char.is_alphanumeric() || "-._".contains(char);
    if !text.contains('/') && host.contains(char::is_alphabetic) && host.chars().all(like_a_name) {
        format!("found a host name, expected {expected}: host names are not resolved")
    } else {
        format!("expected {expected}")
    }
}

const LIMITED_BROADCAST: &str = "the broadcast address";

/// What makes `address` unfit as the unicast address of another host, if anything.
fn unfit(address: IpAddr) -> Option<&'static str> {
    let of_this_network = matches!(address, IpAddr::V4(address) if address.octets()[0] == 0);
    match address {
        address if address.is_unspecified() || of_this_network => Some("the unspecified address"),
        address if address.is_loopback() => Some("a loopback address"),
        address if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some(LIMITED_BROADCAST),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => Some("an IPv4 address written as IPv6"),
        _ => None,
    }
}

/// Who serves when no real server does; `page` is the configured file of the sorry page.
pub(crate) fn fallback(text: &str, page: Option<PathBuf>) -> Result<Fallback, String> {
    match text {
        "none" => Ok(Fallback::None),
        "refuse" => Ok(Fallback::Refuse),
        "local" => Ok(Fallback::Local),
        "sorry" => Ok(Fallback::Sorry(page)),
        address if is_ipv6(address) || address.starts_with(|char: char| char.is_ascii_digit()) => {
            host_address(address, FALLBACK).map(Fallback::Server)
        }
        _ => Err(format!("expected {FALLBACK}")),
    }
}

/// The values of a switch.
pub(crate) const SWITCH: [(&str, bool); 6] =
    [("on", true), ("off", false), ("yes", true), ("no", false), ("true", true), ("false", false)];

/// HTTP statuses and ranges of them, such as `200-299, 304`.
pub(crate) fn statuses(text: &str) -> Result<Statuses, String> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let [first, last] = [first, last].map(|status| whole(status.trim(), 100..=599));
        let (first, last) = (first?, last?);
        if first <= last { Ok(first..=last) } else { Err(String::new()) }
    };
    let ranges: Result<Vec<_>, String> = text.split(',').map(range).collect();
    ranges
        .map(Statuses)
        .map_err(|_| "expected statuses from 100 to 599 or ranges of them, such as 200-299, 304".into())
}

/// Bytes as pairs of hexadecimal digits; blanks are ignored.
pub(crate) fn hex_bytes(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let bytes = hex::decode(digits).ok();
    bytes
        .filter(|bytes| !bytes.is_empty())
        .ok_or_else(|| "expected bytes in hexadecimal, such as 0d0a".into())
}

pub(crate) fn sha256(text: &str) -> Result<[u8; 32], String> {
    let digest = hex_bytes(text).ok().and_then(|bytes| bytes.try_into().ok());
    digest.ok_or_else(|| "expected a SHA-256 digest, 64 hexadecimal digits".into())
}

pub(crate) fn pattern(text: &str) -> Result<Pattern, String> {
    match Regex::new(text) {
        Ok(regex) => Ok(Pattern(regex)),
        Err(error) => {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(format!("expected a regular expression: {why}"))
        }
    }
}

/// A DNS name for a query.
pub(crate) fn dns_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let fits = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    if text == "." || (name.len() <= 253 && name.split('.').all(fits)) {
        Ok(text.to_owned())
    } else {
        Err("expected a domain name, such as www.example.org".into())
    }
}

/// A DNS name or IP address that a certificate can be issued for.
pub(crate) fn tls_name(text: &str) -> Result<String, String> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("expected a name that a certificate can be issued for, such as www.example.org".into()),
    }
}

/// A word that a probe sends unchanged in a message of its protocol.
pub(crate) fn word(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 255 ASCII characters without blanks".into())
    }
}

/// The path of an HTTP request; as in ldirectord's files, the leading slash may be omitted.
pub(crate) fn request_path(text: &str) -> Result<String, String> {
    if text.contains("://") {
        Err("expected a path, such as /index.html; the host's name goes into `host`".into())
    } else if text.is_empty() || text.contains('#') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err("expected a path, such as /index.html, with blanks, # and non-ASCII characters as %XX".into())
    } else if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Ok(format!("/{text}"))
    }
}

/// A Host header.
pub(crate) fn host(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
        Ok(text.to_owned())
    } else {
        Err("expected a host name, such as www.example.org".into())
    }
}

/// Text that a server's answer must contain.
pub(crate) fn search_text(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("expected text that the answer must contain".into())
    } else {
        Ok(text.to_owned())
    }
}
