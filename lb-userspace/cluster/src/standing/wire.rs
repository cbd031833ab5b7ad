//! A standing order as bytes, behind a heartbeat.
//!
//! ```text
//! bytes
//!     8  time of its version, milliseconds since 1970
//!     1  node where it was given
//!     1  wish: 0 drain, 1 serve, 2 weight, 3 configured weight
//!     2  the weight; not there with another wish
//!  1+ n  server, with its length before it
//!  1+ n  service; of length 0: all
//!  1+ n  by whom
//!  1+ n  reason
//! ```

use super::{BY, Order, REASON, SERVER, SERVICE, Subject, Version, Wish};

/// No order is longer.
pub(crate) const LONGEST: usize = 8 + 1 + 1 + 2 + 4 + SERVER + SERVICE + BY + REASON;

pub(crate) fn put(bytes: &mut Vec<u8>, order: &Order) {
    let Order { version: Version { time_ms, node }, subject: Subject { server, service }, wish, by, reason } =
        order;
    bytes.extend(time_ms.to_be_bytes());
    bytes.push(*node);
    match wish {
        Wish::Drain => bytes.push(0),
        Wish::Serve => bytes.push(1),
        Wish::Weight(weight) => {
            bytes.push(2);
            bytes.extend(weight.to_be_bytes());
        }
        Wish::ConfiguredWeight => bytes.push(3),
    }
    for text in [server, service.as_deref().unwrap_or_default(), by, reason] {
        // Books take no text that is longer.
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        bytes.push(length);
        bytes.extend(text.bytes().take(length.into()));
    }
}

/// Takes an order off the front; `None`: there is none that a book would take.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<Order> {
    let time_ms = u64::from_be_bytes(first(bytes)?);
    let [node, wish] = first(bytes)?;
    let wish = match wish {
        0 => Wish::Drain,
        1 => Wish::Serve,
        2 => Wish::Weight(u16::from_be_bytes(first(bytes)?)),
        3 => Wish::ConfiguredWeight,
        _ => return None,
    };
    let mut text = || {
        let [length] = first(bytes)?;
        let (text, rest) = bytes.split_at_checked(length.into())?;
        *bytes = rest;
        String::from_utf8(text.to_vec()).ok()
    };
    let [server, service, by, reason] = [text()?, text()?, text()?, text()?];
    let service = Some(service).filter(|service| !service.is_empty());
    let version = Version { time_ms, node };
    let order = Order { version, subject: Subject { server, service }, wish, by, reason };
    order.fault().is_none().then_some(order)
}

fn first<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}
