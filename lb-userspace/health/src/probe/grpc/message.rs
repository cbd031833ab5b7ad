//! The two messages of `grpc.health.v1`, each with gRPC's prefix: a byte for compression, and the
//! length in four bytes.

use prost::{Enumeration, Message};

use crate::probe::{Answer, Failure, excerpt};

#[derive(Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Message)]
pub(super) struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    pub status: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

pub(super) fn request(service: &str) -> Vec<u8> {
    prefixed(&HealthCheckRequest { service: service.into() })
}

pub(super) fn prefixed(message: &impl Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&[0], &length.to_be_bytes()[..], &bytes].concat()
}

/// The health of `service` in the answer.
pub(super) fn judge(answer: &[u8], service: &str) -> Result<Answer, Failure> {
    let response = decoded(answer).ok_or_else(|| {
        Failure::Wrong(format!("the answer is not a health service's: {}", excerpt(answer)))
    })?;
    let status = match ServingStatus::try_from(response.status) {
        Ok(ServingStatus::Serving) => return Ok(Answer::default()),
        Ok(ServingStatus::NotServing) => "NOT_SERVING".into(),
        Ok(ServingStatus::ServiceUnknown) => "SERVICE_UNKNOWN".into(),
        Ok(ServingStatus::Unknown) => "UNKNOWN".into(),
        Err(_) => format!("status {}", response.status),
    };
    Err(Failure::Wrong(format!("{} is {status}, expected SERVING", whose(service))))
}

fn decoded(answer: &[u8]) -> Option<HealthCheckResponse> {
    let (&[compressed, a, b, c, d], message) = answer.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    let is_plain = compressed == 0 && length == message.len();
    HealthCheckResponse::decode(message).ok().filter(|_| is_plain)
}

pub(super) fn whose(service: &str) -> String {
    if service.is_empty() { "the server".into() } else { format!("the service '{service}'") }
}
