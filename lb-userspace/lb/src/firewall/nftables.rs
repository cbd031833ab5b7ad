//! `nft --json list ruleset` (libnftables-json(5)): rules that a packet for a service could match,
//! that name its VIP, and that would do something with it.
//!
//! Only what decides that is understood: destination address, protocol and destination port, in all
//! the ways in which a rule can hold a value against them. Whatever else a rule asks for is taken
//! to be so.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use lb_common::service::Protocol;
use serde_json::Value;

use super::{Rule, Service, is_beside};

/// Rules about any of these services, in the listing's order.
pub(super) fn about(listing: &[u8], services: &[Service]) -> serde_json::Result<Vec<Rule>> {
    let listing: Value = serde_json::from_slice(listing)?;
    let items = listing["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ruleset = Ruleset::new(items);
    let mut found = Vec::new();
    for rule in items.iter().filter_map(|item| item.get("rule")) {
        for service in services {
            if ruleset.concerns(rule, service) {
                let place = format!(
                    "nft, table {} {}, chain {}, handle {}",
                    text(&rule["family"]),
                    text(&rule["table"]),
                    text(&rule["chain"]),
                    rule["handle"]
                );
                found.push(Rule { vip: service.vip, place });
            }
        }
    }
    Ok(found)
}

/// Family, table and name of a chain or set.
type Name<'a> = [&'a str; 3];

/// What rules refer to.
struct Ruleset<'a> {
    /// Elements of sets and maps.
    sets: HashMap<Name<'a>, &'a [Value]>,
    /// Chains that packets for the host do not come through.
    others: HashSet<Name<'a>>,
}

/// What a rule can ask of a packet and is understood here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Destination,
    Protocol,
    Port,
}

impl<'a> Ruleset<'a> {
    fn new(items: &'a [Value]) -> Self {
        let (mut sets, mut others) = (HashMap::new(), HashSet::new());
        for item in items {
            if let Some(set) = item.get("set").or_else(|| item.get("map")) {
                sets.insert(name(set, "name"), set["elem"].as_array().map(Vec::as_slice).unwrap_or_default());
            }
            let hook = item.get("chain").map(|chain| (chain, text(&chain["hook"])));
            if let Some((chain, "output" | "postrouting")) = hook {
                others.insert(name(chain, "name"));
            }
        }
        Self { sets, others }
    }

    fn concerns(&self, rule: &'a Value, service: &Service) -> bool {
        let parts = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
        if self.others.contains(&name(rule, "chain")) || !acts(parts) {
            return false;
        }
        let mut names_vip = false;
        for part in parts {
            match self.holds(rule, part, service) {
                Held::No => return false,
                Held::Yes { by_vip } => names_vip |= by_vip,
            }
        }
        names_vip
    }

    /// Whether the packet passes this part of a rule.
    fn holds(&self, rule: &'a Value, part: &Value, service: &Service) -> Held {
        if let Some(asked) = part.get("match") {
            let (fields, excluded) = (fields(&asked["left"], service), text(&asked["op"]) == "!=");
            return match fields {
                None => Held::No,
                Some(fields) if fields.iter().all(Option::is_none) => Held::Yes { by_vip: false },
                Some(fields) => {
                    let holds = self.contains(rule, &asked["right"], &fields, service);
                    // One that excludes the VIP is not about it.
                    let by_vip = !excluded && fields.contains(&Some(Field::Destination));
                    if holds == excluded { Held::No } else { Held::Yes { by_vip } }
                }
            };
        }
        // A map of verdicts: what is not in it goes on to the next rule.
        let Some(map) = part.get("vmap") else { return Held::Yes { by_vip: false } };
        match fields(&map["key"], service) {
            Some(fields) if fields.iter().any(Option::is_some) => {
                let by_vip = fields.contains(&Some(Field::Destination));
                match self.contains(rule, &map["data"], &fields, service) {
                    true => Held::Yes { by_vip },
                    false => Held::No,
                }
            }
            Some(_) => Held::Yes { by_vip: false },
            None => Held::No,
        }
    }

    /// Whether `value` holds the packet's values of these fields; of a field that is not
    /// understood, any value is right.
    fn contains(&self, rule: &Value, value: &Value, fields: &[Option<Field>], service: &Service) -> bool {
        let each = |values: &[Value]| values.iter().any(|value| self.contains(rule, value, fields, service));
        if let Some(set) = value.as_str().and_then(|text| text.strip_prefix('@')) {
            let [family, table, _] = name(rule, "chain");
            return self.sets.get(&[family, table, set]).is_some_and(|elements| each(elements));
        }
        match value {
            // An element of a map: its key and what that stands for.
            Value::Array(pair) => pair.first().is_some_and(|key| self.contains(rule, key, fields, service)),
            Value::Object(object) => match (object.get("set"), object.get("elem"), object.get("concat")) {
                (Some(Value::Array(set)), ..) => each(set),
                (Some(one), ..) => self.contains(rule, one, fields, service),
                (_, Some(element), _) => self.contains(rule, &element["val"], fields, service),
                (_, _, Some(Value::Array(values))) => values
                    .iter()
                    .zip(fields)
                    .all(|(value, field)| field.is_none_or(|field| is_in(value, field, service))),
                _ => fields.first().copied().flatten().is_some_and(|field| is_in(value, field, service)),
            },
            _ => fields.first().copied().flatten().is_some_and(|field| is_in(value, field, service)),
        }
    }
}

/// Whether a packet passes a part of a rule.
enum Held {
    No,
    /// `by_vip`: because it is for the VIP.
    Yes {
        by_vip: bool,
    },
}

/// Whether a rule does anything with a packet that matters to whoever wrote it.
fn acts(parts: &[Value]) -> bool {
    const ACTIONS: [&str; 12] = [
        "drop", "reject", "jump", "goto", "queue", "dnat", "redirect", "tproxy", "vmap", "mangle",
        "synproxy", "meter",
    ];
    let has = |key: &str| parts.iter().any(|part| part.get(key).is_some());
    if ACTIONS.iter().any(|action| has(action)) {
        return true;
    }
    if has("accept") {
        // One that lets everybody in does what happens anyway; one that lets some in does not.
        let of_senders = ["\"saddr\"", "\"limit\"", "\"iif", "\"mark\"", "\"ct count\""];
        return parts
            .iter()
            .map(Value::to_string)
            .any(|part| of_senders.iter().any(|word| part.contains(word)));
    }
    // A target of iptables that has no name here.
    parts.iter().any(|part| part.get("xt").is_some_and(|xt| xt["type"] != "match"))
}

/// The fields that `left` looks at, one or several joined together. `None`: a packet for a service
/// has no such field.
fn fields(left: &Value, service: &Service) -> Option<Vec<Option<Field>>> {
    match left["concat"].as_array() {
        Some(joined) => joined.iter().map(|one| field(one, service)).collect(),
        None => field(left, service).map(|field| vec![field]),
    }
}

/// `Some(None)`: one that is not understood.
#[expect(clippy::option_option, reason = "no such field, one that is not understood, one that is")]
fn field(left: &Value, service: &Service) -> Option<Option<Field>> {
    let payload = &left["payload"];
    let (own, ip) = (service.protocol.name(), if service.vip.is_ipv4() { "ip" } else { "ip6" });
    match (text(&payload["protocol"]), text(&payload["field"])) {
        (family, "daddr") if family == ip => Some(Some(Field::Destination)),
        (family, "protocol" | "nexthdr") if family == ip => Some(Some(Field::Protocol)),
        (family, _) if family == ip => Some(None),
        ("ether" | "vlan" | "", _) if !payload.is_null() => Some(None),
        ("th", "dport") => Some(Some(Field::Port)),
        (protocol, "dport") if protocol == own => Some(Some(Field::Port)),
        (protocol, _) if protocol == own || protocol == "th" => Some(None),
        (_, _) if !payload.is_null() => None,
        _ => match (text(&left["meta"]["key"]), text(&left["ct"]["key"])) {
            ("l4proto", _) => Some(Some(Field::Protocol)),
            (_, key) if key.ends_with("daddr") => Some(Some(Field::Destination)),
            _ => Some(None),
        },
    }
}

/// Whether a single value, a prefix or a range holds the packet's.
fn is_in(value: &Value, field: Field, service: &Service) -> bool {
    let (vip, bits) = super::number(service.vip);
    let own = match field {
        Field::Destination => vip,
        Field::Protocol => service.protocol.number().into(),
        Field::Port => service.port.into(),
    };
    if let Some(prefix) = value.get("prefix") {
        let length = prefix["len"].as_u64().and_then(|length| u32::try_from(length).ok()).unwrap_or(bits);
        let address = text(&prefix["addr"]).parse::<IpAddr>();
        return field == Field::Destination
            && address.is_ok_and(|address| is_beside(address, length, service.vip));
    }
    if let Some([first, last]) = value["range"].as_array().map(Vec::as_slice) {
        let bounds = number(first, field, bits).zip(number(last, field, bits));
        return bounds.is_some_and(|(first, last)| (first..=last).contains(&own));
    }
    number(value, field, bits) == Some(own)
}

/// Addresses of the family of so many bits alone.
fn number(value: &Value, field: Field, bits: u32) -> Option<u128> {
    let plain = value.as_u64().map(u128::from);
    match (field, value.as_str()) {
        (Field::Destination, Some(text)) => {
            let address = text.parse().ok().map(super::number);
            address.filter(|(_, of)| *of == bits).map(|(address, _)| address)
        }
        (Field::Protocol, Some(text)) => {
            let known = [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| protocol.name() == text);
            known.map(|protocol| protocol.number().into())
        }
        (Field::Port, Some(text)) => text.parse().ok(),
        (_, None) => plain,
    }
}

fn name<'a>(item: &'a Value, key: &str) -> Name<'a> {
    [text(&item["family"]), text(&item["table"]), text(&item[key])]
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const WEB: Service = Service {
        vip: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10)),
        protocol: Protocol::Tcp,
        port: 80,
    };

    fn rule(chain: &str, parts: &Value) -> Value {
        json!({ "rule": { "family": "inet", "table": "filter", "chain": chain, "handle": 7, "expr": parts } })
    }

    fn asks(protocol: &str, field: &str, right: &Value) -> Value {
        json!({ "match": { "op": "==", "left": { "payload": { "protocol": protocol, "field": field } }, "right": right } })
    }

    /// Whether a rule of these parts is one about the service.
    fn concerns(parts: &Value) -> bool {
        let chain = |name: &str, hook: &str| json!({ "chain": { "family": "inet", "table": "filter", "name": name, "hook": hook } });
        let listing = json!({ "nftables": [
            chain("input", "input"),
            chain("output", "output"),
            { "set": { "family": "inet", "table": "filter", "name": "ours", "elem": [
                "192.0.2.1", { "elem": { "val": { "prefix": { "addr": "192.0.2.8", "len": 29 } }, "timeout": 5 } } ] } },
            { "map": { "family": "inet", "table": "filter", "name": "verdicts", "elem": [
                ["192.0.2.10", { "drop": null }] ] } },
            rule("input", parts),
            rule("output", parts),
        ] });
        let found = about(listing.to_string().as_bytes(), &[WEB]).expect("a listing");
        assert!(found.len() < 2, "what goes out is of no interest: {found:?}");
        found.iter().for_each(|rule| assert_eq!(rule.place, "nft, table inet filter, chain input, handle 7"));
        !found.is_empty()
    }

    #[test]
    fn rules_that_name_the_vip_are_found_however_they_do() {
        let drop = json!({ "drop": null });
        for right in [
            json!("192.0.2.10"),
            json!("@ours"),
            json!({ "prefix": { "addr": "192.0.2.0", "len": 24 } }),
            json!({ "range": ["192.0.2.5", "192.0.2.20"] }),
            json!({ "set": ["192.0.2.9", "192.0.2.10"] }),
            json!({ "set": "192.0.2.10" }),
        ] {
            assert!(concerns(&json!([asks("ip", "daddr", &right), drop])), "{right}");
        }
        let joined = |value: &Value| {
            json!({ "match": { "op": "==", "right": { "set": [{ "concat": value }] }, "left": { "concat": [
                { "payload": { "protocol": "ip", "field": "daddr" } },
                { "payload": { "protocol": "tcp", "field": "dport" } } ] } } })
        };
        assert!(concerns(&json!([joined(&json!(["192.0.2.10", 80])), drop])));
        assert!(!concerns(&json!([joined(&json!(["192.0.2.10", 22])), drop])));
        let key = json!({ "payload": { "protocol": "ip", "field": "daddr" } });
        assert!(concerns(&json!([{ "vmap": { "key": key, "data": "@verdicts" } }])));
        assert!(concerns(
            &json!([{ "vmap": { "key": key, "data": { "set": [["192.0.2.10", { "drop": null }]] } } }])
        ));
        assert!(!concerns(
            &json!([{ "vmap": { "key": key, "data": { "set": [["192.0.2.9", { "drop": null }]] } } }])
        ));
    }

    #[test]
    fn rules_about_others_and_about_nobody_are_not() {
        let drop = json!({ "drop": null });
        assert!(!concerns(&json!([asks("ip", "daddr", &json!("192.0.2.11")), drop])));
        assert!(!concerns(&json!([asks("ip", "daddr", &json!("@theirs")), drop])));
        assert!(!concerns(&json!([asks("ip", "saddr", &json!("192.0.2.10")), drop])), "from it");
        assert!(!concerns(&json!([asks("tcp", "dport", &json!(80)), drop])), "it names no VIP");
        assert!(!concerns(&json!([drop])));
        let except = json!({ "match": { "op": "!=", "right": "192.0.2.11",
            "left": { "payload": { "protocol": "ip", "field": "daddr" } } } });
        assert!(!concerns(&json!([except, drop])), "it names another");
    }

    /// These do what they say: what is for none of the services goes to the host.
    #[test]
    fn rules_about_the_vips_other_ports_and_protocols_are_met() {
        let (vip, drop) = (asks("ip", "daddr", &json!("192.0.2.10")), json!({ "drop": null }));
        for (asked, met) in [
            (asks("tcp", "dport", &json!(80)), true),
            (asks("tcp", "dport", &json!({ "range": [1, 1023] })), true),
            (asks("th", "dport", &json!({ "set": [80, 443] })), true),
            (asks("tcp", "flags", &json!("syn")), true),
            (asks("tcp", "dport", &json!(22)), false),
            (asks("udp", "dport", &json!(80)), false),
            (asks("icmp", "type", &json!("echo-request")), false),
            (asks("ip", "protocol", &json!("udp")), false),
            (asks("ip", "protocol", &json!(6)), true),
            (
                json!({ "match": { "op": "==", "left": { "meta": { "key": "l4proto" } }, "right": "tcp" } }),
                true,
            ),
            (
                json!({ "match": { "op": "==", "left": { "meta": { "key": "l4proto" } }, "right": "icmp" } }),
                false,
            ),
            (
                json!({ "match": { "op": "==", "left": { "meta": { "key": "iifname" } }, "right": "eth0" } }),
                true,
            ),
            (json!({ "counter": { "packets": 0, "bytes": 0 } }), true),
        ] {
            assert_eq!(concerns(&json!([vip, asked, drop])), met, "{asked}");
        }
    }

    #[test]
    fn rules_of_ipv6_are_told_like_those_of_ipv4() {
        let web = Service { vip: "2001:db8::10".parse().expect("an address"), ..WEB };
        let drop = json!({ "drop": null });
        for (parts, told) in [
            (json!([asks("ip6", "daddr", &json!("2001:db8::10")), drop]), true),
            (
                json!([
                    asks("ip6", "daddr", &json!({ "prefix": { "addr": "2001:db8::", "len": 64 } })),
                    drop
                ]),
                true,
            ),
            (json!([asks("ip6", "daddr", &json!({ "range": ["2001:db8::1", "2001:db8::20"] })), drop]), true),
            (json!([asks("ip6", "daddr", &json!("2001:db8::11")), drop]), false),
            (
                json!([
                    asks("ip6", "daddr", &json!("2001:db8::10")),
                    asks("ip6", "nexthdr", &json!("udp")),
                    drop
                ]),
                false,
            ),
            (
                json!([asks("ip6", "daddr", &json!("2001:db8::10")), asks("tcp", "dport", &json!(22)), drop]),
                false,
            ),
            (
                json!([asks("ip6", "daddr", &json!("2001:db8::10")), asks("ip", "ttl", &json!(7)), drop]),
                false,
            ),
            (json!([asks("ip", "daddr", &json!("192.0.2.10")), drop]), false),
        ] {
            let listing = json!({ "nftables": [rule("input", &parts)] });
            let found = about(listing.to_string().as_bytes(), &[web, WEB]).expect("a listing");
            assert_eq!(found.iter().any(|found| found.vip == web.vip), told, "{parts}");
        }
    }

    #[test]
    fn only_rules_that_would_do_something_are_told_of() {
        let vip = asks("ip", "daddr", &json!("192.0.2.10"));
        let from = asks("ip", "saddr", &json!("198.51.100.1"));
        for (part, told) in [
            (json!({ "reject": null }), true),
            (json!({ "jump": { "target": "web" } }), true),
            (json!({ "dnat": { "addr": "10.0.0.1" } }), true),
            (json!({ "accept": null }), false),
            (json!({ "counter": null }), false),
            (json!({ "log": null }), false),
            (json!({ "xt": null }), true),
            (json!({ "xt": { "type": "match", "name": "comment" } }), false),
        ] {
            assert_eq!(concerns(&json!([vip, part])), told, "{part}");
        }
        assert!(concerns(&json!([vip, from, { "accept": null }])), "others are not let in");
    }

    proptest! {
        #[test]
        fn any_listing_is_read_to_its_end(text in "\\PC{0,200}", part in "[a-z{}\\[\\]\":,0-9.@]{0,80}") {
            let _ = about(text.as_bytes(), &[WEB]);
            let listing = format!(r#"{{"nftables": [{{"rule": {{"expr": [{{"match": {part}}}, {{"drop": null}}]}}}}]}}"#);
            let _ = about(listing.as_bytes(), &[WEB]);
        }
    }
}
