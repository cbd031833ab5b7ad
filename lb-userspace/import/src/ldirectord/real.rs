//! `real = HOST[->HOST][:PORT] gate|masq|ipip [WEIGHT] ["request", "receive"] [l:N] [u:N]`

use std::net::{IpAddr, Ipv4Addr};

use crate::hosts::{Hosts, port};

/// Hosts of a range, at most: more are no range but a slip.
const MOST: u32 = 1024;

/// A line `real`, which may stand for several servers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Real {
    pub addresses: Vec<IpAddr>,
    /// 0: none given.
    pub port: u16,
    pub method: &'static str,
    pub weight: Option<u64>,
    pub request: Option<(String, String)>,
    pub lower: Option<u64>,
    pub upper: Option<u64>,
    /// The name, if one was given in place of an address.
    pub name: Option<String>,
    /// Two colons before the port, as in Debian's sample: ldirectord takes the port for the host.
    pub two_colons: bool,
    /// What follows that ldirectord refuses.
    pub surplus: String,
}

/// Whether the character is one of a host's name: a range follows its first host by `->`.
fn in_name(text: &str, index: usize, char: char) -> bool {
    match char {
        '-' => !text[index..].starts_with("->"),
        char => char.is_ascii_alphanumeric() || "._".contains(char),
    }
}

/// A host and the rest behind it.
fn host(text: &str) -> (&str, &str) {
    let end = match text.starts_with('[') {
        true => text.find(']').map_or(text.len(), |end| end + 1),
        false => text
            .char_indices()
            .find(|(index, char)| !in_name(text, *index, *char))
            .map_or(text.len(), |at| at.0),
    };
    text.split_at(end)
}

pub(super) fn parse(text: &str, hosts: &Hosts) -> Result<Real, String> {
    let (first, rest) = host(text.trim());
    let (last, rest) = match rest.strip_prefix("->") {
        Some(rest) => {
            let (last, rest) = host(rest);
            (Some(last), rest)
        }
        None => (None, rest),
    };
    let (place, flags) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let port = match place.trim_start_matches(':') {
        "" => 0,
        name => port(name).ok_or_else(|| format!("port {name:?} is not known"))?,
    };
    let known = |name: &str| {
        hosts.address(name).ok_or_else(|| format!("{name:?} has no address: give `--hosts FILE` with it"))
    };
    let begin = known(first)?;
    let addresses = match last {
        Some(last) => range(begin, known(last)?)?,
        None => vec![begin],
    };
    let name = (last.is_none() && first.parse::<IpAddr>().is_err() && !first.starts_with('['))
        .then(|| first.to_owned());
    let mut real = Real {
        addresses,
        port,
        method: "direct",
        weight: None,
        request: None,
        lower: None,
        upper: None,
        name,
        two_colons: place.starts_with("::"),
        surplus: String::new(),
    };
    read_flags(flags, &mut real)?;
    Ok(real)
}

fn range(first: IpAddr, last: IpAddr) -> Result<Vec<IpAddr>, String> {
    let (IpAddr::V4(first), IpAddr::V4(last)) = (first, last) else {
        return Err("ranges are of IPv4 only, in ldirectord too".to_owned());
    };
    let (first, last) = (first.to_bits(), last.to_bits());
    if last < first || last - first >= MOST {
        return Err(format!("expected a range of at most {MOST} addresses, the lowest one first"));
    }
    Ok((first..=last).map(|bits| Ipv4Addr::from_bits(bits).into()).collect())
}

fn read_flags(flags: &str, real: &mut Real) -> Result<(), String> {
    let (method, mut rest) = flags.trim().split_once(char::is_whitespace).unwrap_or((flags.trim(), ""));
    real.method = match method {
        "gate" => "direct",
        "masq" => "masq",
        "ipip" => "ipip",
        // Old versions took none for gate.
        "" => "direct",
        other => return Err(format!("method {other:?} is none of gate, masq and ipip")),
    };
    if let Some((weight, after)) = number(rest) {
        real.weight = Some(weight);
        rest = after;
    }
    if let Some((request, receive, after)) = pair(rest) {
        real.request = Some((request, receive));
        rest = after;
    }
    for _ in 0..2 {
        let trimmed = rest.trim_start();
        for (sign, into) in [("l:", &mut real.lower), ("u:", &mut real.upper)] {
            if let Some((value, after)) = trimmed.strip_prefix(sign).and_then(number) {
                *into = Some(value);
                rest = after;
            }
        }
    }
    real.surplus = rest.trim().to_owned();
    Ok(())
}

fn number(text: &str) -> Option<(u64, &str)> {
    let text = text.trim_start();
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// `"request", "receive"`
fn pair(text: &str) -> Option<(String, String, &str)> {
    let text = text.trim_start().strip_prefix('"')?;
    let (request, rest) = text.split_once('"')?;
    let rest = rest.trim_start_matches([',', ' ']).strip_prefix('"')?;
    let (receive, rest) = rest.split_once('"')?;
    Some((request.to_owned(), receive.to_owned(), rest))
}
