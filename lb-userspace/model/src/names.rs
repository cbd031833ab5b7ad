//! What operators call servers and services: by name, or by address.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::{Server, Service};

/// An address in the one spelling that it has here, with or without a port; without one
/// `[fd00::25]` is the address, too. Any other text stays.
pub fn canonical(text: &str) -> Cow<'_, str> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().map(IpAddr::from),
        None => text.parse::<IpAddr>(),
    };
    match (address, text.parse::<SocketAddr>()) {
        (Ok(address), _) => Cow::Owned(address.to_string()),
        (_, Ok(address)) => Cow::Owned(address.to_string()),
        _ => Cow::Borrowed(text),
    }
}

impl Server {
    /// What the server can be called; addresses are [`canonical`].
    pub fn names(&self) -> [String; 4] {
        let Self { name, address, port, .. } = self;
        let (address, whole) = (address.to_string(), SocketAddr::new(*address, *port).to_string());
        // fd00::25:80 is another address.
        let with_port = if *name == address { whole.clone() } else { format!("{name}:{port}") };
        [name.clone(), address, with_port, whole]
    }

    pub fn is_called(&self, text: &str) -> bool {
        let text = canonical(text);
        self.names().iter().any(|name| *name == text)
    }
}

impl Service {
    /// By its name, or by `VIP:PORTS`; by its first port, too.
    pub fn is_called(&self, text: &str) -> bool {
        let address = self.key.address().to_string();
        self.name == text || self.ports.after(self.key.vip) == text || address == canonical(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_spelling() {
        for (text, expected) in [
            ("2001:DB8:0:0::25", "2001:db8::25"),
            ("[2001:db8::0:25]", "2001:db8::25"),
            ("[2001:DB8::25]:80", "[2001:db8::25]:80"),
            ("192.0.2.21:80", "192.0.2.21:80"),
            ("[192.0.2.21]", "[192.0.2.21]"),
            ("www1", "www1"),
            ("www1:80", "www1:80"),
            ("", ""),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn a_server_goes_by_its_name_or_address_with_or_without_the_port() {
        let six = Server::new("fd00::25".parse().expect("an address"), 80);
        for name in ["fd00::25", "FD00:0::25", "[fd00::25]", "[fd00::25]:80"] {
            assert!(six.is_called(name), "{name}");
        }
        for name in ["fd00::25:80", "[fd00::25]:81", "fd00::2", ""] {
            assert!(!six.is_called(name), "{name}");
        }
        let named = Server { name: "www1".to_owned(), ..six };
        for name in ["www1", "www1:80", "fd00::25", "[fd00::25]:80"] {
            assert!(named.is_called(name), "{name}");
        }
        let four = Server::new([192, 0, 2, 21].into(), 80);
        assert!(four.is_called("192.0.2.21:80") && !four.is_called("192.0.2.21:8"));
    }
}
