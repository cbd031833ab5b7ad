//! Changes in the words of the file.

use std::net::Ipv4Addr;

use lb_model::overlay::{NewPersistence, NewServer, NewService, ServerSettings, Settings};
use lb_model::{Scheduler, Server, Service, Thresholds, TunnelKind};

use crate::edit::{Owner, To, set};
use crate::references::REFERENCE;

/// The text with these settings for the service with this index; what is so already stays as it
/// stands.
pub(super) fn edited(
    text: &str,
    index: usize,
    settings: &Settings,
    known: &Service,
) -> Result<String, String> {
    let Settings { scheduler, hash_port, hash_fallback, ops, persistence } = settings;
    let (mut text, index) = (text.to_owned(), Owner::Service(index));
    let scheduler = scheduler.as_deref().unwrap_or(Scheduler::Wlc.name());
    if scheduler != known.scheduler.name() {
        text = set(&text, index, "scheduler", To::Value(&scalar(scheduler)))?;
    }
    let [port, fallback] = [*hash_port, *hash_fallback].map(switch);
    if (*hash_port, *hash_fallback) != (known.hashing.port, known.hashing.fallback) {
        text = set(&text, index, "hash", To::Keys(&[("port", port), ("fallback", fallback)]))?;
    }
    if *ops != known.ops {
        text = set(&text, index, "ops", To::Value(switch(*ops)))?;
    }
    let Some(NewPersistence { timeout_s, prefix }) = persistence else {
        return set(&text, index, "persistence", To::Nothing);
    };
    let longest = if known.key.vip.is_ipv4() { 32 } else { 128 };
    let (timeout, prefix) = (format!("{timeout_s}s"), prefix.unwrap_or(longest));
    let (own, is_longest) = (known.persistence.as_ref(), prefix == longest);
    let prefix = prefix.to_string();
    let keys = [("timeout", timeout.as_str()), ("prefix", prefix.as_str())];
    match own {
        Some(own) if own.timeout.as_secs() == *timeout_s && own.prefix.to_string() == prefix => Ok(text),
        None if is_longest => set(&text, index, "persistence", To::Keys(&keys[..1])),
        _ => set(&text, index, "persistence", To::Keys(&keys)),
    }
}

/// The text with these settings for a server, which is `known` as it stands there.
pub(super) fn server_edited(
    text: &str,
    owner: Owner,
    settings: &ServerSettings,
    known: &Server,
) -> Result<String, String> {
    let ServerSettings { weight, forward, upper_threshold, lower_threshold, gue_port } = settings;
    let mut text = text.to_owned();
    let number = |number: u32| number.to_string();
    if let Some(weight) = weight.filter(|weight| *weight != known.weight) {
        text = set(&text, owner, "weight", To::Value(&number(weight.into())))?;
    }
    let gue = TunnelKind::Gue.name();
    let method = method_of(known);
    let new = forward.as_deref().map_or(method, in_our_words);
    if new != method {
        text = set(&text, owner, "forward", To::Value(&scalar(new)))?;
    }
    let known_port = known.tunnel.filter(|_| method == gue).map(|tunnel| tunnel.port);
    match gue_port {
        Some(port) if known_port != Some(*port) => {
            text = set(&text, owner, "gue_port", To::Value(&number((*port).into())))?;
        }
        None if new != gue => text = set(&text, owner, "gue_port", To::Nothing)?,
        Some(_) | None => {}
    }
    let before = known.thresholds;
    let upper = upper_threshold.unwrap_or(before.upper());
    let lower = lower_threshold.unwrap_or(if upper == 0 { 0 } else { before.lower() });
    // A lower one alone is refused for what it is.
    if Thresholds::new(upper, lower) == before && (upper > 0 || lower == 0) {
        return Ok(text);
    }
    let lower = lower_threshold.or(if upper == 0 { Some(0) } else { None });
    for (key, threshold) in [("upper_threshold", *upper_threshold), ("lower_threshold", lower)] {
        text = match threshold {
            None => text,
            Some(0) => set(&text, owner, key, To::Nothing)?,
            Some(given) => set(&text, owner, key, To::Value(&number(given)))?,
        };
    }
    Ok(text)
}

/// The word of `forward` for how the server is reached.
const fn method_of(server: &Server) -> &'static str {
    match (&server.tunnel, server.masq) {
        (Some(tunnel), _) => tunnel.kind.name(),
        (None, true) => "masq",
        (None, false) => "direct",
    }
}

/// Other programs have other words for two of them.
fn in_our_words(method: &str) -> &str {
    match method {
        "gate" => "direct",
        "nat" => "masq",
        method => method,
    }
}

const fn switch(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

pub(super) fn server_text(server: &NewServer) -> String {
    let NewServer { address, name, weight, forward, upper_threshold, lower_threshold, gue_port } = server;
    mapping([
        ("name", name.as_deref().map(scalar)),
        ("address", Some(scalar(address))),
        ("weight", weight.map(|weight| weight.to_string())),
        ("forward", forward.as_deref().map(scalar)),
        ("gue_port", gue_port.map(|port| port.to_string())),
        ("upper_threshold", upper_threshold.map(|threshold| threshold.to_string())),
        ("lower_threshold", lower_threshold.map(|threshold| threshold.to_string())),
    ])
}

pub(super) fn service_text(service: &NewService) -> String {
    let NewService { vip, name, protocol, settings, fallback, check, check_port, check_request, servers } =
        service;
    let Settings { scheduler, hash_port, hash_fallback, ops, persistence } = settings;
    let servers: Vec<String> = servers.iter().map(server_text).collect();
    let on = |is_on: bool| is_on.then(|| "on".to_owned());
    let hash = mapping([("port", on(*hash_port)), ("fallback", on(*hash_fallback))]);
    let persistence = persistence.map(|NewPersistence { timeout_s, prefix }| {
        let prefix = prefix.map(|prefix| prefix.to_string());
        mapping([("timeout", Some(format!("{timeout_s}s"))), ("prefix", prefix)])
    });
    // One without a type is refused as it would be in the file.
    let has_check = check.is_some() || check_port.is_some() || check_request.is_some();
    let check = mapping([
        ("type", check.as_deref().map(scalar)),
        ("port", check_port.map(|port| port.to_string())),
        ("request", check_request.as_deref().map(scalar)),
    ]);
    mapping([
        ("name", name.as_deref().map(scalar)),
        ("vip", Some(scalar(vip))),
        ("protocol", protocol.as_deref().map(scalar)),
        ("scheduler", scheduler.as_deref().map(scalar)),
        ("hash", (*hash_port || *hash_fallback).then_some(hash)),
        ("ops", on(*ops)),
        ("persistence", persistence),
        ("fallback", fallback.as_deref().map(scalar)),
        ("check", has_check.then_some(check)),
        ("servers", (!servers.is_empty()).then(|| format!("[{}]", servers.join(", ")))),
    ])
}

fn mapping<const N: usize>(entries: [(&str, Option<String>); N]) -> String {
    let entries = entries.into_iter().filter_map(|(key, value)| Some(format!("{key}: {}", value?)));
    format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
}

/// As plain as YAML lets it be.
fn scalar(text: &str) -> String {
    const RESERVED: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n", ".nan"];
    let is_plain = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
            && !RESERVED.contains(&text.to_lowercase().as_str())
    };
    match is_plain(text) || text.parse::<Ipv4Addr>().is_ok() {
        true => text.to_owned(),
        // Whoever may change something must not have files read by that.
        false => {
            let text = text.replace(REFERENCE, "$${").replace('\'', "''");
            format!("'{}'", text.replace(char::is_control, " "))
        }
    }
}
