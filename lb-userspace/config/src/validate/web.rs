//! The section `web`: the page and the HTTP API.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use lb_model::{Web, WebTls};
use rustls_pki_types::DnsName;

use super::super::source_map::SourceSpan;
use super::super::{values, yaml};
use super::{Validator, Value};

/// Default of `web: { listen: … }`.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9106);

/// Maximum number of `hosts`.
const MOST_HOSTS: usize = 64;

impl Validator {
    pub(super) fn web(
        &mut self,
        web: Option<&yaml::SwitchOr<yaml::Web>>,
        span: SourceSpan<'_>,
    ) -> Option<Web> {
        let yaml::Web { listen, certificate, key, tokens, hosts } = match web? {
            yaml::SwitchOr::On(on) => on,
            yaml::SwitchOr::Switch(switch) => {
                let is_on = self.is_on(switch, "web", "on, off or a mapping with `listen`", span);
                return is_on.then(|| Web { listen: LISTEN, tls: None, tokens: None, hosts: Vec::new() });
            }
        };
        let listen = Value::of(listen, "listen", span);
        let listen = self.optional(listen, |text| values::listen(text, LISTEN)).unwrap_or(LISTEN);
        let mut file = |scalar, name, example| {
            self.optional(Value::of(scalar, name, span), |text| values::file_path(text, example))
        };
        let files =
            (file(certificate, "certificate", "/etc/lb/web.crt"), file(key, "key", "/etc/lb/web.key"));
        let tokens_file = file(tokens, "tokens", "/etc/lb/tokens");
        let tls = match files {
            (Some(certificate), Some(key)) => Some(WebTls { certificate, key }),
            _ => None,
        };
        for (given, missing, name) in [(certificate, key, "key"), (key, certificate, "certificate")] {
            if given.is_given() && !missing.is_given() {
                let message = format!("`{name}` is missing: TLS needs `certificate` and `key`");
                self.mistake(span.key_at(), message);
            }
        }
        let is_plain = !certificate.is_given() && !key.is_given();
        if tokens_file.is_some() && is_plain && !listen.ip().is_loopback() {
            self.wrong(
                Value::of(tokens, "tokens", span),
                &format!(
                    "tokens would cross the network in clear text to {listen}: give `certificate` and `key`, or listen \
                     on 127.0.0.1"
                ),
            );
        }
        let given = hosts.as_deref().unwrap_or_default();
        let list = span.key("hosts");
        self.at_most(MOST_HOSTS, given.len(), "hosts", list);
        let hosts = self.items(given, "hosts", list, |text, _| host(text));
        Some(Web { listen, tls, tokens: tokens_file, hosts })
    }
}

/// A name by which browsers ask for the page.
fn host(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    match DnsName::try_from(name.as_str()) {
        Ok(_) => Ok(name),
        Err(_) => Err("expected a host's name without a port, such as lb1.example.net".to_owned()),
    }
}
