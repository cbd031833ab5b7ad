//! Debian's ldirectord builds a table of IPVS from a file; the imported configuration must be the
//! same.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use lb_lab::lab::originals;
use lb_model::{Config, Fallback, Protocol, Service};

use super::{Imported, cases, import};

/// Runs ldirectord on each file: `ipvsadm` is a stub that records, and ldirectord ends where it
/// would begin to check the servers for ever.
const SCRIPT: &str = r#"
set +e
sed -e 's#/var/log/ldirectord.log#/tmp/log#' -e 's#/var/run/#/tmp/#' -e 's#/sbin/ipvsadm#/tmp/ipvsadm#' \
    -e 's/^sub ld_main$/sub ld_main { exit 0 } sub for_ever/' \
    -e 's/^sub _ld_main_check_all$/sub _ld_main_check_all { } sub all_checks/' /usr/sbin/ldirectord > /tmp/ldirectord
printf '#!/bin/sh\ncase "$*" in *-L*) ;; *) echo "$*" >> "$RECORD" ;; esac\n' > /tmp/ipvsadm
chmod +x /tmp/ipvsadm
for file in *.cf; do
    export RECORD="/srv/$file.record"
    : > "$RECORD"
    perl /tmp/ldirectord -d "/srv/$file" start > "$file.said" 2>&1
    echo $? > "$file.exit"
done
"#;

/// A service as ipvsadm has it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Row {
    scheduler: String,
    /// Seconds, and the length of the prefix.
    persistence: Option<(u64, u32)>,
    ops: bool,
    flags: Vec<String>,
    /// By address: method, weight, upper and lower threshold, and the port of masq.
    servers: BTreeMap<IpAddr, (char, u64, u64, u64, Option<u16>)>,
}

type Table = BTreeMap<String, Row>;

/// What the stub has recorded.
fn recorded(text: &str) -> Table {
    let mut table = Table::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let value = |option: &str| {
            let place = words.iter().position(|word| *word == option)?;
            words.get(place + 1).copied()
        };
        let number = |option: &str| value(option).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        let kind = ["-t", "-u", "-f"].into_iter().find(|kind| words.contains(kind));
        let Some((kind, place)) = kind.and_then(|kind| Some((kind, value(kind)?))) else { continue };
        let key = format!("{kind} {place}");
        match words.first() {
            Some(&"-A") => {
                let mask = value("-M").map(|mask| match mask.parse::<Ipv4Addr>() {
                    Ok(mask) => mask.to_bits().leading_ones(),
                    Err(_) => mask.parse().unwrap_or(0),
                });
                let all = if place.starts_with('[') { 128 } else { 32 };
                let row = Row {
                    scheduler: value("-s").unwrap_or_default().to_owned(),
                    persistence: value("-p").map(|_| (number("-p"), mask.unwrap_or(all))),
                    ops: words.contains(&"-o"),
                    flags: value("-b")
                        .map_or_else(Vec::new, |flags| flags.split(',').map(str::to_owned).collect()),
                    servers: BTreeMap::new(),
                };
                table.entry(key).or_insert(row);
            }
            Some(&"-a") => {
                let (Some(row), Some((address, port))) =
                    (table.get_mut(&key), value("-r").and_then(endpoint))
                else {
                    continue;
                };
                let method = if words.contains(&"-m") {
                    'm'
                } else if words.contains(&"-i") {
                    'i'
                } else {
                    'g'
                };
                let port = (method == 'm' && port != 0).then_some(port);
                let server = (method, number("-w"), number("-x"), number("-y"), port);
                row.servers.entry(address).or_insert(server);
            }
            _ => {}
        }
    }
    table
}

fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    Some((host.trim_matches(['[', ']']).parse().ok()?, port.parse().ok()?))
}

/// The table that a configuration of `lb` is, and the addresses of its fallbacks.
fn imported(config: &Config) -> (Table, Vec<IpAddr>) {
    let mut fallbacks = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let mut table = Table::new();
    for service in &config.services {
        if let Fallback::Server(address) = &service.fallback {
            fallbacks.push(*address);
        }
        let kind = if service.key.protocol == Protocol::Udp { "-u" } else { "-t" };
        let place = match service.key.vip {
            IpAddr::V4(vip) => format!("{vip}:{}", service.key.port),
            IpAddr::V6(vip) => format!("[{vip}]:{}", service.key.port),
        };
        table.insert(format!("{kind} {place}"), row(service));
    }
    (table, fallbacks)
}

fn row(service: &Service) -> Row {
    let hashing = service.hashing;
    let flag = |on: bool, name: &str| on.then(|| format!("{}-{name}", service.scheduler.name()));
    let servers = service.servers.iter().map(|server| {
        let method = if server.masq {
            'm'
        } else if server.tunnel.is_some() {
            'i'
        } else {
            'g'
        };
        // `lb` fills in a lower threshold, which IPVS does itself.
        let given = (server.thresholds.upper().into(), server.thresholds.lower().into());
        let port = server.masq.then_some(server.port);
        (server.address, (method, u64::from(server.weight), given.0, given.1, port))
    });
    Row {
        scheduler: service.scheduler.name().to_owned(),
        persistence: service
            .persistence
            .as_ref()
            .map(|persistence| (persistence.timeout.as_secs(), u32::from(persistence.prefix))),
        ops: service.ops,
        flags: [flag(hashing.port, "port"), flag(hashing.fallback, "fallback")]
            .into_iter()
            .flatten()
            .collect(),
        servers: servers.collect(),
    }
}

/// What differs, a line each.
fn differences(original: &Table, ours: &Table, fallbacks: &[IpAddr]) -> Vec<String> {
    let mut found = Vec::new();
    for (key, row) in original {
        let Some(own) = ours.get(key) else {
            found.push(format!("{key}: not imported"));
            continue;
        };
        let mut check = |what: &str, same: bool| {
            if !same {
                found.push(format!("{key}: {what}: {row:?}, imported {own:?}"));
            }
        };
        check("scheduler", row.scheduler == own.scheduler);
        check("persistence", row.persistence == own.persistence);
        check("ops", row.ops == own.ops);
        check("flags", row.flags == own.flags);
        for (address, server) in &row.servers {
            match own.servers.get(address) {
                None if fallbacks.contains(address) => {}
                None => check(&format!("server {address}"), false),
                Some(known) => {
                    // 0 is the default of both, and ldirectord always gives a threshold.
                    let same = (server.0, server.1, server.2) == (known.0, known.1, known.2)
                        && (server.3 == known.3 || server.3 == 0)
                        && (server.4.is_none() || server.4 == known.4);
                    check(&format!("server {address}"), same);
                }
            }
        }
        for address in own.servers.keys().filter(|address| !row.servers.contains_key(*address)) {
            check(&format!("surplus server {address}"), false);
        }
    }
    found.extend(ours.keys().filter(|key| !original.contains_key(*key)).map(|key| format!("{key}: surplus")));
    found
}

/// Each section of the sample that is commented out, as a file.
fn sections(sample: &str) -> Vec<String> {
    let mut sections = Vec::new();
    let mut open: Option<String> = None;
    for line in sample.lines() {
        let bare = line.strip_prefix('#').unwrap_or("");
        if bare.starts_with("virtual") {
            sections.extend(open.take());
            open = Some(format!("checktimeout=3\n{bare}\n"));
        } else if bare.starts_with(['\t', ' ']) {
            open.iter_mut().for_each(|section| section.push_str(&format!("{bare}\n")));
        } else {
            sections.extend(open.take());
        }
    }
    sections.extend(open);
    // A slip of the sample, by which ldirectord takes the port for the host.
    sections.iter().map(|section| section.replace("::5060", ":5060")).collect()
}

#[test]
fn the_table_is_the_one_that_ldirectord_builds() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let srv = folder.path();
    let mut names = Vec::new();
    for case in cases("ldirectord")?.iter().filter(|case| !case.has("--hosts") && !case.has("--mark")) {
        fs::copy(case.folder.join("ldirectord.cf"), srv.join(format!("{}.cf", case.name)))?;
        names.push(case.name.clone());
    }
    let sample =
        fs::read_to_string(originals::path().join("usr/share/doc/ldirectord/examples/ldirectord.cf"))
            .context("the originals are not there: run `cargo xtask setup`")?;
    for (index, text) in sections(&sample).into_iter().chain([sample.clone()]).enumerate() {
        let name = format!("sample-{index}");
        fs::write(srv.join(format!("{name}.cf")), text)?;
        names.push(name);
    }
    ensure!(names.len() > 30, "only {} files", names.len());
    let output = originals::run(srv, SCRIPT)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let (mut compared, mut refused, mut wrong) = (0, 0, Vec::new());
    for name in &names {
        match compare(srv, name)? {
            Outcome::Same => compared += 1,
            Outcome::Refused => refused += 1,
            Outcome::Differs(why) => wrong.push(format!("{name}: {why}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{compared} tables are the same, {refused} files ldirectord refuses");
    assert!(compared >= 20, "ldirectord took only {compared} files, and refused {refused}");
    Ok(())
}

enum Outcome {
    Same,
    /// ldirectord refuses the file, and the report tells of something, too.
    Refused,
    Differs(String),
}

fn compare(srv: &Path, name: &str) -> Result<Outcome> {
    let read = |ending: &str| {
        let path = srv.join(format!("{name}.cf{ending}"));
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let result: Imported = import(&["ldirectord", &format!("{name}.cf")], srv)?;
    let lost = result.count("lost");
    if read(".exit")?.trim() != "0" {
        let told = lost + result.count("changed");
        return Ok(match told {
            0 => Outcome::Differs(format!(
                "ldirectord refuses it, and the report tells of nothing:\n{}",
                read(".said")?
            )),
            _ => Outcome::Refused,
        });
    }
    // Where nothing is left, such as of a firewall mark alone, there is no table.
    let nothing = result.said.contains("`services` is missing or empty");
    let (ours, fallbacks) = match result.succeeded {
        true => imported(&lb_config::parse(&result.yaml, name)?),
        false if nothing => (Table::new(), Vec::new()),
        false => return Ok(Outcome::Differs(result.said)),
    };
    let differences = differences(&recorded(&read(".record")?), &ours, &fallbacks);
    // What is lost explains a difference; without it there must be none.
    Ok(match differences.len() <= lost {
        true => Outcome::Same,
        false => Outcome::Differs(format!("{lost} lines are lost, but\n{}", differences.join("\n"))),
    })
}
