//! The status of a call, from gRPC's trailers.

use hyper::header::HeaderMap;

use super::message::whose;
use crate::probe::Failure;
use crate::probe::excerpt::quote;

const OK: u32 = 0;
const NOT_FOUND: u32 = 5;
const PERMISSION_DENIED: u32 = 7;
const UNIMPLEMENTED: u32 = 12;
const UNAUTHENTICATED: u32 = 16;

/// Names by status code.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub(super) struct Status {
    code: u32,
    message: Option<Vec<u8>>,
}

impl Status {
    pub(super) fn of(trailers: &HeaderMap) -> Option<Self> {
        let code = trailers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
        Some(Self { code, message: trailers.get("grpc-message").map(|message| message.as_bytes().to_vec()) })
    }

    pub(super) fn judge(&self, service: &str) -> Result<(), Failure> {
        let words = match self.code {
            OK => return Ok(()),
            NOT_FOUND => format!("{} is not known to the health service (NOT_FOUND)", whose(service)),
            // Without the health service nothing shows that the server serves: grpc_health_probe,
            // Kubernetes and Envoy fail, too.
            UNIMPLEMENTED => "the server has no service grpc.health.v1.Health (UNIMPLEMENTED): add it there, or use `type: \
                              tcp`"
                .into(),
            PERMISSION_DENIED | UNAUTHENTICATED => format!(
                "the health service refuses requests without credentials ({}): let it answer lb, or use \
                 `type: tcp`",
                NAMES[self.code as usize]
            ),
            code => {
                let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
                let message = self.message.as_ref().map(|text| format!(": {}", quote(text)));
                let name = name.map_or_else(|| code.to_string(), |name| (*name).to_owned());
                format!("the call ended with {name}{}", message.unwrap_or_default())
            }
        };
        Err(Failure::Wrong(words))
    }
}
