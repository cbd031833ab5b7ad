//! Address translation between the configuration's words and the map's.

use std::net::IpAddr;

use lb_common::addr::V6;
use lb_common::nat::Translation;

/// What the map holds of a server that is reached by address translation. `subnet` is the mask of
/// the addresses that reach the server without the director. The ring is the executor's.
pub fn translation(server: IpAddr, port: u16, subnet: V6) -> Translation {
    Translation { address: server.into(), subnet, port: port.to_be(), ..Translation::UNSET }
}
