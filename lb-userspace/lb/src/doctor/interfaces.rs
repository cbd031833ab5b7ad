//! The interfaces that packets come in by.

use std::fs;
use std::path::Path;
use std::process::Command;

use lb_datapath::attach::{self, pins::Pins};
use lb_model::Config;
use lb_net::links::{Link, Links};
use serde_json::Value;

use super::Line;
use crate::device;

pub(super) fn look(config: &Config, links: &Links) -> Vec<Line> {
    let mut lines: Vec<Line> = config.ingresses().into_iter().flat_map(|name| one(name, links)).collect();
    lines.extend(device::findings(config, links, device::offloads).into_iter().map(Line::of_finding));
    lines
}

fn one(name: &str, links: &Links) -> Vec<Line> {
    let Some(link) = links.named(name) else {
        return vec![Line::wrong(
            format!("interface {name}: there is none"),
            "`ip link` shows those that there are; set `interface` to one of them",
        )];
    };
    vec![state(link), queues(name), program(link)]
}

fn state(link: &Link) -> Line {
    let Link { name, mtu, up, carrier, .. } = link;
    let driver = fs::read_link(class(name).join("device/driver"));
    let driver = driver.ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let driver =
        driver.map_or_else(|| "no driver of its own".to_owned(), |driver| format!("driver {driver}"));
    match (up, carrier) {
        (true, true) => Line::ok(format!("interface {name}: up, {driver}, MTU {mtu}")),
        (false, _) => Line::wrong(format!("interface {name}: down"), format!("ip link set {name} up")),
        (true, false) => Line::wrong(format!("interface {name}: no link"), "check the cable and the switch"),
    }
}

fn class(name: &str) -> std::path::PathBuf {
    Path::new("/sys/class/net").join(name)
}

fn queues(name: &str) -> Line {
    let queues = fs::read_dir(class(name).join("queues")).into_iter().flatten().flatten();
    let received = queues.filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-")).count();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let text = format!("interface {name}: receive queues {received}, processors {processors}");
    if received >= processors || processors == 1 {
        return Line::ok(text);
    }
    let mend = format!("ethtool -L {name} combined {processors}, if the card has as many");
    Line::warning(format!("{text}: packets of one queue share one processor"), mend)
}

/// Which XDP program is attached, and whose it is.
fn program(link: &Link) -> Line {
    let name = &link.name;
    let attached = match attached(name) {
        Ok(attached) => attached,
        Err(error) => return Line::warning(format!("interface {name}: {error}"), ""),
    };
    let ours = Pins::of(name).ok().and_then(|pins| attach::left_behind(&pins, link.index));
    match attached {
        None => Line::ok(format!("interface {name}: no XDP program")),
        Some((id, mode)) if ours == Some(id) => {
            Line::ok(format!("interface {name}: lb's XDP program, {mode} mode"))
        }
        Some((id, mode)) => Line::wrong(
            format!("interface {name}: an XDP program of somebody else, number {id}, {mode} mode"),
            format!("`bpftool prog show id {id}` says what it is; ip link set dev {name} xdp off"),
        ),
    }
}

fn attached(name: &str) -> Result<Option<(u32, &'static str)>, String> {
    let output = Command::new("ip").args(["-json", "link", "show", "dev", name]).output();
    let output = output.map_err(|error| format!("cannot start ip: {error}"))?;
    let links: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("the listing of `ip -json link` makes no sense: {error}"))?;
    Ok(parse(&links))
}

/// Number and mode of the program in the listing of `ip -json link`.
fn parse(links: &Value) -> Option<(u32, &'static str)> {
    let xdp = links.get(0)?.get("xdp")?;
    let id = xdp.get("prog")?.get("id")?.as_u64()?;
    // IFLA_XDP_MODE: 1 the driver's, 2 the kernel's for all drivers, 3 the card's.
    let mode = match xdp.get("mode").and_then(Value::as_u64) {
        Some(1) => "native",
        Some(2) => "generic",
        Some(3) => "offloaded",
        _ => "an unknown",
    };
    Some((u32::try_from(id).ok()?, mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_read_from_the_listing_of_ip() {
        let with = r#"[{"ifname":"eth0","xdp":{"mode":1,"prog":{"id":77,"name":"lb","jited":1}}}]"#;
        assert_eq!(parse(&serde_json::from_str(with).expect("JSON")), Some((77, "native")));
        assert_eq!(parse(&serde_json::from_str(r#"[{"ifname":"eth0"}]"#).expect("JSON")), None);
    }
}
