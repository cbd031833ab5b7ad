//! PostgreSQL: the server answers a start-up message by an authentication request, or by an error
//! that only a working server sends: it refuses the user or the database.
//!
//! See "Message Formats" in PostgreSQL's documentation.

use super::excerpt::{clean, quote};
use super::line_client::{LineClient, of_tls};
use super::{Answer, Attempt, Failure};

const ANSWER: &str = "answer to the start-up message";

/// Version 3.0 of the protocol.
const VERSION: u32 = 3 << 16;
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// Maximum number of messages up to the answer. After a successful login a server sends a dozen
/// settings first.
const MESSAGES: usize = 100;

/// SQLSTATEs, or classes of them, that count as up: invalid authorization (28), invalid catalog
/// name (3D), no right to connect.
const GOOD_REFUSALS: [&[u8]; 3] = [b"28", b"3D", b"42501"];

/// Errors that refuse the user, the database or a connection without TLS, by the beginning of their
/// text: pgbouncer and others use one SQLSTATE for all errors. The user or database may also have
/// used up its connections.
const GOOD_MESSAGES: [(&[u8], &[u8]); 9] = [
    (b"08P01", b"no such database"),
    (b"08P01", b"no such user"),
    (b"08P01", b"SSL required"),
    (b"08P01", b"password authentication failed"),
    (b"08P01", b"server requires encryption"),
    (b"08P01", b"node is running secure mode"),
    (b"53300", b"too many connections for role"),
    (b"53300", b"too many connections for database"),
    (b"55000", b"database \""),
];

pub(super) async fn probe(attempt: &Attempt<'_>, user: &str, database: &str) -> Result<Answer, Failure> {
    let mut server = LineClient::open(attempt).await?;
    server.send(&start_up(user, database), ANSWER).await?;
    let mut is_in = false;
    for _ in 0..MESSAGES {
        match message(&mut server).await? {
            // No password needed: whether the server has a free connection shows later.
            (b'R', method) if method == [0; 4] => is_in = true,
            // The server accepts the end of the connection here, but no other message than the
            // password.
            (b'R', _) => {
                attempt.step("asked for a password");
                return Ok(Answer::default());
            }
            (b'Z', _) if is_in => {
                attempt.step("accepted the user");
                server.quit(&TERMINATE).await;
                return Ok(Answer::default());
            }
            (b'E', fields) => {
                judge(&fields)?;
                attempt.step("refused the user or the database, which counts as up");
                return Ok(Answer::default());
            }
            // A notice, the negotiated protocol version, a setting, the key for cancelling queries.
            (b'N' | b'v' | b'S' | b'K', _) => {}
            (kind, rest) => return Err(not_postgresql(&[&[kind], &rest[..]].concat())),
        }
    }
    Err(Failure::Wrong(format!("no {ANSWER} in {MESSAGES} messages")))
}

fn start_up(user: &str, database: &str) -> Vec<u8> {
    let text = format!("user\0{user}\0database\0{database}\0\0");
    let length = u32::try_from(8 + text.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &VERSION.to_be_bytes(), text.as_bytes()].concat()
}

/// Type and content of the next message. Its length counts itself.
async fn message(server: &mut LineClient<'_>) -> Result<(u8, Vec<u8>), Failure> {
    let head: [u8; 5] = server.bytes(ANSWER).await?;
    if let Some(failure) = of_tls(&head) {
        return Err(failure);
    }
    let [kind, length @ ..] = head;
    if kind == b'E' && length.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        // Version 2 of the protocol has no lengths, only text up to a line end. Servers fall back
        // to it for errors at an early stage, and so does pgpool.
        let (rest, _) = server.line_or_rest(ANSWER).await?;
        let message = [&length, &rest[..]].concat();
        return Err(Failure::Wrong(format!("the server says {}", quote(&message))));
    }
    let content = u32::from_be_bytes(length).checked_sub(4).ok_or_else(|| not_postgresql(&head))?;
    Ok((kind, server.message(content as usize, ANSWER).await?))
}

fn not_postgresql(bytes: &[u8]) -> Failure {
    Failure::Wrong(format!("the {ANSWER} is not PostgreSQL's: {}", quote(bytes)))
}

/// Fields of an error.
fn judge(fields: &[u8]) -> Result<(), Failure> {
    let (state, message) = (field(fields, b'C'), field(fields, b'M'));
    let by_message = GOOD_MESSAGES.iter().any(|(of, begin)| state == *of && message.starts_with(begin));
    if by_message || GOOD_REFUSALS.iter().any(|good| state.starts_with(good)) {
        return Ok(());
    }
    Err(Failure::Wrong(format!("the server says {} (SQLSTATE {})", quote(message), clean(state))))
}

/// The field of this type; empty if it is missing. Each field is a type and a NUL-terminated text.
fn field(fields: &[u8], kind: u8) -> &[u8] {
    let mut each = fields.split(|byte| *byte == 0);
    each.find_map(|field| field.strip_prefix(&[kind])).unwrap_or_default()
}

#[cfg(test)]
mod tests;
