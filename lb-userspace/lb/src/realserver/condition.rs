//! One thing that must be so on a real server.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// A setting of the kernel, which the larger one of all interfaces' and an interface's decides.
    AtLeast {
        setting: &'static str,
        value: u32,
    },
    Exactly {
        setting: &'static str,
        value: u32,
    },
    /// Clients' packets come by this device and answers leave by another one: the reverse path
    /// filter must not be strict. 2, loose, holds whatever `all` says.
    Loose {
        device: &'static str,
    },
    /// The VIP is on the loopback interface, as a single address.
    Address(IpAddr),
    /// The device of a module is there, and up.
    Device {
        module: &'static str,
        device: &'static str,
    },
    /// What comes by UDP to the port is taken out of GUE.
    Gue {
        port: u16,
    },
}

/// How it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Met(String),
    /// How it is instead.
    Unmet(String),
}

impl State {
    pub(crate) const fn is_met(&self) -> bool {
        matches!(self, Self::Met(_))
    }

    fn of(met: bool, text: String) -> Self {
        if met { Self::Met(text) } else { Self::Unmet(text) }
    }
}

/// Takes a step back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Undo {
    Setting { setting: String, before: u32, set: u32 },
    Address { address: IpAddr },
    Down { device: String },
    Gue { port: u16 },
}

impl Condition {
    pub(super) const fn at_least(setting: &'static str, value: u32) -> Self {
        Self::AtLeast { setting, value }
    }

    pub(super) const fn exactly(setting: &'static str, value: u32) -> Self {
        Self::Exactly { setting, value }
    }

    pub(crate) fn state(&self) -> Result<State> {
        Ok(match self {
            Self::AtLeast { setting, value } => {
                let now = read(setting)?;
                State::of(now >= *value, format!("{setting} is {now}"))
            }
            Self::Exactly { setting, value } => {
                let now = read(setting)?;
                State::of(now == *value, format!("{setting} is {now}"))
            }
            Self::Loose { device } => {
                let (of_all, setting) = (read("net.ipv4.conf.all.rp_filter")?, loose(device));
                match read(&setting) {
                    Ok(now) => State::of(
                        of_all.max(now) != 1,
                        format!("{setting} is {now}, and {of_all} for all interfaces"),
                    ),
                    Err(_) => State::Unmet(format!("there is no {device}")),
                }
            }
            Self::Address(vip) => {
                let there = addresses_of_loopback()?.contains(vip);
                State::of(there, format!("lo has {}{vip}", if there { "" } else { "no " }))
            }
            Self::Device { device, .. } => match flags(device) {
                Some(flags) => {
                    let up = flags & 1 != 0;
                    State::of(up, format!("{device} is {}", if up { "up" } else { "down" }))
                }
                None => State::Unmet(format!("there is no {device}")),
            },
            Self::Gue { port } => {
                let ports = ip(&["fou", "show"]).unwrap_or_default();
                let there = is_gue(&ports, *port);
                State::of(there, format!("UDP port {port} is {}", if there { "GUE's" } else { "not GUE's" }))
            }
        })
    }

    /// The commands that make it so.
    pub(crate) fn mend(&self) -> String {
        match self {
            Self::AtLeast { setting, value } | Self::Exactly { setting, value } => {
                format!("sysctl -w {setting}={value}")
            }
            Self::Loose { device } => format!("sysctl -w {}=2", loose(device)),
            Self::Address(vip) => lb_net::vips::on_loopback(*vip),
            Self::Device { module, device } => format!("modprobe {module}; ip link set {device} up"),
            Self::Gue { port } => format!("modprobe fou; ip fou add port {port} gue"),
        }
    }

    /// What takes back [`Self::make`], as long as it has not been done.
    pub(super) fn undo(&self) -> Result<Option<Undo>> {
        let setting = |setting: &str, set| -> Result<_> {
            Ok(Some(Undo::Setting { setting: setting.to_owned(), before: read(setting)?, set }))
        };
        match self {
            Self::AtLeast { setting: name, value } | Self::Exactly { setting: name, value } => {
                setting(name, *value)
            }
            Self::Loose { device } => setting(&loose(device), 2),
            Self::Address(address) => Ok(Some(Undo::Address { address: *address })),
            Self::Device { device, .. } => Ok(Some(Undo::Down { device: (*device).to_owned() })),
            Self::Gue { port } => Ok(Some(Undo::Gue { port: *port })),
        }
    }

    pub(crate) fn make(&self) -> Result<()> {
        match self {
            Self::AtLeast { setting, value } | Self::Exactly { setting, value } => write(setting, *value),
            Self::Loose { device } => write(&loose(device), 2),
            Self::Address(vip) => {
                let prefix = if vip.is_ipv4() { 32 } else { 128 };
                ip(&["address", "add", &format!("{vip}/{prefix}"), "dev", "lo"]).map(drop)
            }
            Self::Device { module, device } => {
                if flags(device).is_none() {
                    load(module)?;
                }
                ip(&["link", "set", device, "up"]).map(drop)
            }
            Self::Gue { port } => {
                load("fou")?;
                ip(&["fou", "add", "port", &port.to_string(), "gue"]).map(drop)
            }
        }
    }
}

impl Undo {
    /// Says what was done; `None`: somebody has changed it since, and it is left alone.
    pub(super) fn undo(&self) -> Result<Option<String>> {
        let (words, there) = match self {
            Self::Setting { setting, before, set } => {
                // With its device a setting is gone.
                if read(setting).ok() != Some(*set) {
                    return Ok(None);
                }
                write(setting, *before)?;
                return Ok(Some(format!("sysctl -w {setting}={before}")));
            }
            Self::Address { address } => {
                let prefix = if address.is_ipv4() { 32 } else { 128 };
                let words = format!("address del {address}/{prefix} dev lo");
                (words, addresses_of_loopback()?.contains(address))
            }
            Self::Down { device } => (format!("link set {device} down"), flags(device).is_some()),
            Self::Gue { port } => {
                (format!("fou del port {port} gue"), is_gue(&ip(&["fou", "show"]).unwrap_or_default(), *port))
            }
        };
        if !there {
            return Ok(None);
        }
        ip(&words.split(' ').collect::<Vec<_>>())?;
        Ok(Some(format!("ip {words}")))
    }
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { setting, before, set } => write!(f, "{setting} was {before} and became {set}"),
            Self::Address { address } => write!(f, "{address} on lo"),
            Self::Down { device } => write!(f, "{device} is up"),
            Self::Gue { port } => write!(f, "GUE on UDP port {port}"),
        }
    }
}

fn loose(device: &str) -> String {
    format!("net.ipv4.conf.{device}.rp_filter")
}

fn file_of(setting: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(setting.replace('.', "/"))
}

fn read(setting: &str) -> Result<u32> {
    let file = file_of(setting);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    text.trim().parse().with_context(|| format!("{} holds no number: {text}", file.display()))
}

fn write(setting: &str, value: u32) -> Result<()> {
    let file = file_of(setting);
    fs::write(&file, value.to_string()).with_context(|| format!("cannot write {}", file.display()))
}

/// The flags of a network device (IFF_…), if there is one.
fn flags(device: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/sys/class/net/{device}/flags")).ok()?;
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

pub(super) fn is_up(device: &str) -> bool {
    flags(device).is_some_and(|flags| flags & 1 != 0)
}

fn load(module: &str) -> Result<()> {
    run("modprobe", &[module]).map(drop).with_context(|| format!("the kernel has no module {module}"))
}

fn ip(arguments: &[&str]) -> Result<String> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot start {program}: is it installed?"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(super) fn addresses_of_loopback() -> Result<Vec<IpAddr>> {
    let listing = ip(&["-json", "address", "show", "dev", "lo"])?;
    addresses(&listing).context("the listing of `ip -json address` makes no sense")
}

fn addresses(listing: &str) -> Option<Vec<IpAddr>> {
    let links: Value = serde_json::from_str(listing).ok()?;
    let of = |link: &Value| link.get("addr_info").and_then(Value::as_array).cloned().unwrap_or_default();
    let infos = links.as_array()?.iter().flat_map(of);
    infos.map(|info| info.get("local")?.as_str()?.parse().ok()).collect()
}

/// The first UDP port that GUE is taken out at, if there is one.
pub(super) fn port_of_gue() -> Option<u16> {
    first_gue(&ip(&["fou", "show"]).unwrap_or_default())
}

fn first_gue(listing: &str) -> Option<u16> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
    let mut of_gue = listing.lines().map(words).filter(|words| words.iter().any(|word| word == "gue"));
    let words = of_gue.next()?;
    let port = words.windows(2).find(|pair| pair[0] == "port")?;
    port[1].parse().ok()
}

/// Whether `ip fou show` has the port.
fn is_gue(listing: &str, port: u16) -> bool {
    let is_its = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.windows(2).any(|pair| pair[0] == "port" && pair[1] == port.to_string())
            && words.contains(&"gue")
    };
    listing.lines().any(is_its)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_of_ip_are_understood() {
        let listing = r#"[{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8},
            {"family":"inet6","local":"::1","prefixlen":128}]}]"#;
        let expected: [IpAddr; 2] = [[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
        assert_eq!(addresses(listing), Some(expected.to_vec()));
        assert_eq!(addresses("[{}]"), Some(vec![]));
        assert_eq!(addresses("lo: <LOOPBACK>"), None);
        assert!(is_gue("port 6080 gue -6\nport 7 ipproto 4\n", 6080));
        assert!(!is_gue("port 6080 ipproto 4\nport 60801 gue\n", 6080));
        assert_eq!(first_gue("port 6079 ipproto 4\nport 6080 gue -6\nport 7 gue\n"), Some(6080));
        assert_eq!(first_gue("port 6079 ipproto 4\n"), None);
    }
}
