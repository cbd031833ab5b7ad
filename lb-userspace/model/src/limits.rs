//! How much a configuration may hold, whoever writes it.

use lb_common::schedule::MAX_MEMBERS;
use lb_common::server::ServerId;
use lb_common::service::ServiceId;

/// Maximum number of VIPs of all groups together.
pub const MAX_VIPS: usize = 4096;

/// Maximum number of servers of one service.
pub const MAX_SERVERS_OF_ONE: usize = MAX_MEMBERS as usize;

/// Maximum number of services: the maps number them, and those that have left stay for a while.
pub const MAX_SERVICES: usize = 65_000;

/// Maximum number of servers of all services together, for the same reason.
pub const MAX_SERVERS: usize = 65_000;

const _: () = assert!(MAX_SERVICES < ServiceId::LAST.0 as usize && MAX_SERVERS < ServerId::LAST.0 as usize);
