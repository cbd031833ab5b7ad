//! Lists of clients: prefixes in the file itself and in files beside it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use lb_model::{ClientLists, ClientPrefix, Config, Listed};

use crate::beside::Beside;
use crate::error::Found;
use crate::source_map::SourceSpan;
use crate::values;

/// Prefixes of all lists of all services together.
const MOST_PREFIXES: usize = 1 << 17;

/// An address or a network of the family of `vip` (of either, where that is not known).
pub(crate) fn prefix(text: &str, vip: IpAddr) -> Result<ClientPrefix, String> {
    let example = if vip.is_ipv4() { "198.51.100.0/24" } else { "2001:db8::/32" };
    let expected = || format!("expected an address or a network, such as {example}");
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| expected())?;
    let longest = values::address_bits(address);
    let length = match length {
        Some(length) => values::whole(length, 0..=longest.into()).map_err(|_| expected())?,
        None => longest,
    };
    if !vip.is_unspecified() && address.is_ipv4() != vip.is_ipv4() {
        let family = if vip.is_ipv4() { "IPv4" } else { "IPv6" };
        return Err(format!("expected an {family} address or network, because the VIP {vip} is of {family}"));
    }
    let network = values::network(address, length);
    if network != address {
        return Err(format!("expected the network's own address, {network}/{length}, or {address} alone"));
    }
    Ok(ClientPrefix { address, length })
}

/// Reads the files that the configuration names, and adds what they have to the lists. `root` tells
/// where they are named.
pub(crate) fn read(config: &mut Config, root: SourceSpan<'_>, beside: &mut Beside) -> Result<(), Vec<Found>> {
    let mut mistakes = Vec::new();
    let everybody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let mut count = read_one(&mut config.denied, root.key("clients"), everybody, beside, &mut mistakes);
    for (index, service) in config.services.iter_mut().enumerate() {
        let vip = service.key.vip;
        if let Some(clients) = &mut service.clients {
            let span = root.key("services").item(index).key("clients");
            count += read_one(&mut clients.listed, span, vip, beside, &mut mistakes);
        }
    }
    if count > MOST_PREFIXES {
        let message =
            format!("{count} prefixes in all lists of clients together, expected at most {MOST_PREFIXES}");
        mistakes.push((root.key("services").key_at(), message));
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

/// Returns how many prefixes there are. `vip` as of [`prefix`].
fn read_one(
    listed: &mut Listed,
    span: SourceSpan<'_>,
    vip: IpAddr,
    beside: &mut Beside,
    mistakes: &mut Vec<Found>,
) -> usize {
    let mut lists = ClientLists::clone(&listed.given);
    for (file, key, list) in [
        (&listed.allow_file, "allow_file", &mut lists.allow),
        (&listed.deny_file, "deny_file", &mut lists.deny),
    ] {
        let Some(file) = file else { continue };
        match beside.list(file).and_then(|text| prefixes(&text, file, vip)) {
            Ok(more) => list.extend(more),
            Err(message) => mistakes.push((span.key(key).at(), message)),
        }
        list.sort_unstable();
        list.dedup();
    }
    let ClientLists { allow, deny } = &lists;
    if let Some(both) = allow.iter().find(|prefix| deny.binary_search(prefix).is_ok()) {
        let message = format!("{both} is in the lists of those who are allowed and of those who are denied");
        mistakes.push((span.key_at(), message));
    }
    let count = lists.len();
    if lists != *listed.given {
        listed.lists = Arc::new(lists);
    }
    count
}

/// One prefix a line; empty lines are left out, and so is what follows a `#`.
fn prefixes(text: &str, file: &Path, vip: IpAddr) -> Result<Vec<ClientPrefix>, String> {
    let lines = text.lines().enumerate().map(|(number, line)| {
        let entry = line.split('#').next().unwrap_or_default().trim();
        (number + 1, entry)
    });
    lines
        .filter(|(_, entry)| !entry.is_empty())
        .map(|(number, entry)| {
            prefix(entry, vip).map_err(|wrong| {
                let shown_entry: String = entry.chars().take(60).collect();
                format!("{}, line {number}: {shown_entry:?}: {wrong}", file.display())
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));

    #[test]
    fn prefixes_have_no_other_bits_and_the_family_of_the_vip() {
        let shown =
            |text: &str, vip: &str| prefix(text, vip.parse().unwrap()).map(|prefix| prefix.to_string());
        for (text, wanted) in [
            ("198.51.100.7", "198.51.100.7/32"),
            ("198.51.100.0/24", "198.51.100.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(shown(text, "192.0.2.10"), Ok(wanted.to_owned()));
        }
        assert_eq!(shown("2001:db8::/32", "fd00::6"), Ok("2001:db8::/32".to_owned()));
        assert_eq!(shown("::/0", "fd00::6"), Ok("::/0".to_owned()));
        for (text, said) in [
            ("198.51.100.7/24", "198.51.100.0/24"),
            ("198.51.100.0/33", "such as"),
            ("example.org", "such as"),
            ("198.51.100.0/-1", "such as"),
            ("198.51.100.0/024", "such as"),
            ("2001:db8::/32", "IPv4"),
        ] {
            let wrong = shown(text, "192.0.2.10").unwrap_err();
            assert!(wrong.contains(said), "{text}: {wrong}");
        }
    }

    #[test]
    fn a_file_has_a_prefix_a_line_and_a_mistake_says_which() {
        let read = |text| prefixes(text, Path::new("deny"), V4);
        let listed = read("# whom we know\n198.51.100.0/24 # a network\n\n203.0.113.9\n");
        assert_eq!(listed.map(|listed| listed.len()), Ok(2));
        let wrong = read("198.51.100.0/24\n198.51.100.1/24\n").unwrap_err();
        assert!(wrong.starts_with("deny, line 2: ") && wrong.contains("198.51.100.0/24"), "{wrong}");
    }
}
