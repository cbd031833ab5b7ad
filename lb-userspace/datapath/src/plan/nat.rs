//! Address translation between the configuration's words and the map's.

use std::net::IpAddr;

use lb_common::addr::V6;
use lb_common::forward::nat::Translation;
use lb_common::forward::nat::source::Pool;

/// What the map holds of a server that is reached by address translation. `port` is 0 where packets
/// keep theirs; `subnet` is the mask of the addresses that reach the server without the director.
/// The ring is the executor's.
pub fn translation(server: IpAddr, port: u16, subnet: V6) -> Translation {
    Translation { address: server.into(), subnet, port: port.to_be(), ..Translation::UNSET }
}

/// The addresses that stand in the place of clients; `None`: there are none.
pub fn pool(addresses: &[IpAddr]) -> Option<Pool> {
    let addresses: Vec<V6> = addresses.iter().map(|address| V6::from(*address)).collect();
    (!addresses.is_empty()).then(|| Pool::new(&addresses))
}

/// The same as a configuration names them.
pub fn addresses(pool: &Pool) -> Vec<IpAddr> {
    pool.addresses.iter().take(pool.count as usize).map(|address| IpAddr::from(*address)).collect()
}
