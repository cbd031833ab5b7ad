//! LDAP (RFC 4511): the server answers an anonymous bind, or refuses it with a code that only a
//! working server sends. This file parses the few elements of BER that it needs.

use super::excerpt::quote;
use super::line_client::{LineClient, of_tls};
use super::{Answer, Attempt, Failure};

const ANSWER: &str = "answer to the bind";

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const BIND_RESPONSE: u8 = 0x61;
/// ExtendedResponse; with message id 0 a notice of disconnection, section 4.4.1.
const EXTENDED_RESPONSE: u8 = 0x78;

/// UnbindRequest, as message 3.
const UNBIND: [u8; 7] = [SEQUENCE, 5, INTEGER, 1, 3, 0x42, 0];

const PROTOCOL_ERROR: u8 = 2;
/// Codes that refuse an anonymous bind and count as up: the server requires another authentication
/// method, TLS, another server, or a name.
const GOOD_REFUSALS: [u8; 8] = [7, 8, 10, 13, 48, 49, 50, 53];

pub(super) async fn probe(attempt: &Attempt<'_>) -> Result<Answer, Failure> {
    let mut server = LineClient::open(attempt).await?;
    let (mut code, mut message) = ask(&mut server, 1, 3).await?;
    if code == PROTOCOL_ERROR {
        // An LDAPv2 server refuses version 3.
        attempt.step("refused version 3");
        (code, message) = ask(&mut server, 2, 2).await?;
    }
    attempt.step(match code {
        0 => "answered the bind",
        code if GOOD_REFUSALS.contains(&code) => "refused an anonymous bind, which counts as up",
        code => return Err(refused(code, &message)),
    });
    server.quit(&UNBIND).await;
    Ok(Answer::default())
}

/// Sends a bind request; returns result code and diagnostic message of the answer.
async fn ask(server: &mut LineClient<'_>, id: u8, version: u8) -> Result<(u8, Vec<u8>), Failure> {
    server.send(&bind(id, version), ANSWER).await?;
    let message = message(server).await?;
    match result(&message, id) {
        Some((code, message)) => Ok((code, message.to_vec())),
        None => Err(not_ldap(&message)),
    }
}

/// A bind request with an empty name and simple authentication with an empty password.
const fn bind(id: u8, version: u8) -> [u8; 14] {
    [SEQUENCE, 12, INTEGER, 1, id, 0x60, 7, INTEGER, 1, version, OCTETS, 0, 0x80, 0]
}

/// The content of the next message's sequence.
async fn message(server: &mut LineClient<'_>) -> Result<Vec<u8>, Failure> {
    let head: [u8; 2] = server.bytes(ANSWER).await?;
    let [SEQUENCE, first] = head else { return Err(of_tls(&head).unwrap_or_else(|| not_ldap(&head))) };
    let mut more = [0; 4];
    let length = match length_of_length(first) {
        Some(count) if count <= more.len() => {
            more[..count].copy_from_slice(&server.message(count, ANSWER).await?);
            length(first, &more[..count])
        }
        _ => return Err(not_ldap(&head)),
    };
    server.message(length, ANSWER).await
}

fn not_ldap(bytes: &[u8]) -> Failure {
    Failure::Wrong(format!("the {ANSWER} is not LDAP: {}", quote(bytes)))
}

/// Result code and diagnostic message of an answer to message `id`, or of a notice of
/// disconnection.
fn result(message: &[u8], id: u8) -> Option<(u8, &[u8])> {
    let (answered, rest) = element(message, INTEGER)?;
    let response = match small(answered)? {
        0 => element(rest, EXTENDED_RESPONSE)?.0,
        answered if answered == id => element(rest, BIND_RESPONSE)?.0,
        _ => return None,
    };
    let (code, rest) = element(response, ENUMERATED)?;
    let (_matched, rest) = element(rest, OCTETS)?;
    let (message, _) = element(rest, OCTETS)?;
    Some((small(code)?, message))
}

/// An integer below 256, encoded in any number of bytes.
fn small(bytes: &[u8]) -> Option<u8> {
    let (last, zeros) = bytes.split_last()?;
    zeros.iter().all(|byte| *byte == 0).then_some(*last)
}

/// Splits `bytes` into the content of the first element, which must have this tag, and the rest.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk()?;
    let (more, rest) = rest.split_at_checked(length_of_length(first)?)?;
    let content = rest.split_at_checked(length(first, more))?;
    (found == tag).then_some(content)
}

/// The number of bytes of a length after its first byte. Some servers always send four. `None` for
/// the indefinite form, which LDAP forbids (section 5.1).
fn length_of_length(first: u8) -> Option<usize> {
    match first {
        0x80 => None,
        0..0x80 => Some(0),
        _ => Some(usize::from(first & 0x7f)).filter(|count| *count <= 4),
    }
}

fn length(first: u8, more: &[u8]) -> usize {
    if more.is_empty() {
        return usize::from(first);
    }
    more.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
}

/// A result code with its name of appendix A.
fn refused(code: u8, message: &[u8]) -> Failure {
    let name = match code {
        1 => "operationsError",
        2 => "protocolError",
        7 => "authMethodNotSupported",
        8 => "strongerAuthRequired",
        10 => "referral",
        13 => "confidentialityRequired",
        34 => "invalidDNSyntax",
        48 => "inappropriateAuthentication",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        80 => "other",
        _ => "an error",
    };
    let message = if message.is_empty() { String::new() } else { format!(": {}", quote(message)) };
    Failure::Wrong(format!("the {ANSWER} is {name} (result code {code}){message}"))
}

#[cfg(test)]
mod tests;
