//! MySQL and MariaDB: the server greets, and answers a login.
//!
//! The greeting would be enough for the check, but a server blocks a host after a hundred
//! connections that end without an answer to it (`max_connect_errors`). Refused logins do not
//! count: with a limit of 10, MariaDB 10.11 accepted 400 of them, and blocked a host after 11
//! connections without a login. See "Connection Phase" in MySQL's documentation of its protocol.

use super::excerpt::{clean, quote};
use super::line_client::LineClient;
use super::{Answer, Attempt, Failure};

const GREETING: &str = "greeting";
const ANSWER: &str = "answer to the login";

/// First bytes of packets.
const PROTOCOL: u8 = 10;
const OK: u8 = 0x00;
const SWITCH: u8 = 0xfe;
/// AuthMoreData.
const MORE: u8 = 0x01;
/// Protocol version before MySQL 3.21.
const OLD_PROTOCOL: u8 = 9;
const ERROR: u8 = 0xff;

/// CLIENT_PROTOCOL_41, CLIENT_SECURE_CONNECTION, CLIENT_PLUGIN_AUTH.
const CAPABILITIES: u32 = 0x200 | 0x8000 | 0x8_0000;
const UTF8: u8 = 33;
const PLUGIN: &str = "mysql_native_password";
const QUIT: [u8; 5] = [1, 0, 0, 0, 1];

/// A server's requests for another authentication method.
const SWITCHES: usize = 3;

/// Errors that refuse the user and count as up, in addition to those of SQLSTATE 28, which servers
/// before 4.1 omit: another authentication method, TLS required (3159), a locked account, an old
/// password, too many connections of the account. 1043 is an old server's error for a login that it
/// cannot parse.
const GOOD_REFUSALS: [u16; 14] =
    [1043, 1044, 1045, 1203, 1226, 1251, 1275, 1524, 1698, 1820, 1862, 3118, 3159, 4151];
pub(super) async fn probe(attempt: &Attempt<'_>, user: &str) -> Result<Answer, Failure> {
    let mut server = LineClient::open(attempt).await?;
    let (mut number, greeting) = packet(&mut server, GREETING).await?;
    let version = match greeting.split_first() {
        Some((&PROTOCOL, rest)) => rest.split(|byte| *byte == 0).next().unwrap_or_default(),
        Some((&ERROR, rest)) => return Err(Refusal::read(rest).failure()),
        Some((&OLD_PROTOCOL, _)) => {
            let message = "the server speaks MySQL's protocol 9, which lb does not: use `type: tcp`";
            return Err(Failure::Wrong(message.into()));
        }
        _ => return Err(not_mysql(GREETING, &greeting)),
    };
    // MariaDB's prefix for old replicas, which accept no version but 5.
    let version = version.strip_prefix(b"5.5.5-").unwrap_or(version);
    attempt.step(format!("greeted by version {}", clean(version)));
    let mut response = login(user);
    for _ in 0..=SWITCHES {
        number = number.wrapping_add(1);
        server.send(&framed(number, &response), ANSWER).await?;
        let answer;
        (number, answer) = packet(&mut server, ANSWER).await?;
        match answer.split_first() {
            Some((&OK, _)) => {
                attempt.step("accepted the login");
                server.quit(&QUIT).await;
                return Ok(Answer::default());
            }
            Some((&ERROR, rest)) => {
                Refusal::read(rest).judge()?;
                attempt.step("refused the user, which counts as up");
                return Ok(Answer::default());
            }
            // Whatever the method, the answer is an empty password.
            Some((&(SWITCH | MORE), _)) => response.clear(),
            _ => return Err(not_mysql(ANSWER, &answer)),
        }
    }
    Err(Failure::Wrong(format!("asked for a password in more than {SWITCHES} ways")))
}

/// Reads the next packet: its sequence number and content.
async fn packet(server: &mut LineClient<'_>, expected: &'static str) -> Result<(u8, Vec<u8>), Failure> {
    let [a, b, c, number] = server.bytes(expected).await?;
    let length = u32::from_le_bytes([a, b, c, 0]);
    Ok((number, server.message(length as usize, expected).await?))
}

fn framed(number: u8, content: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&[a, b, c, number], content].concat()
}

/// A handshake response of the protocol's version 4.1, with an empty password.
fn login(user: &str) -> Vec<u8> {
    let largest_packet = 0xff_ffff_u32;
    let mut login = Vec::new();
    login.extend(CAPABILITIES.to_le_bytes());
    login.extend(largest_packet.to_le_bytes());
    login.push(UTF8);
    login.extend([0; 23]);
    login.extend(user.bytes());
    // End of the name, length of the password.
    login.extend([0, 0]);
    login.extend(PLUGIN.bytes());
    login.push(0);
    login
}

fn not_mysql(what: &str, bytes: &[u8]) -> Failure {
    Failure::Wrong(format!("the {what} is not MySQL's: {}", quote(bytes)))
}

/// An error packet.
struct Refusal<'a> {
    code: u16,
    /// SQLSTATE. There is none in an error before the greeting.
    state: &'a [u8],
    message: &'a [u8],
}

impl<'a> Refusal<'a> {
    /// Missing fields are 0 or empty.
    fn read(packet: &'a [u8]) -> Self {
        let (code, rest) = packet.split_first_chunk().unwrap_or((&[0; 2], packet));
        let code = u16::from_le_bytes(*code);
        match rest.split_at_checked(6) {
            Some((state, message)) if state[0] == b'#' => Self { code, state: &state[1..], message },
            _ => Self { code, state: &[], message: rest },
        }
    }

    fn judge(&self) -> Result<(), Failure> {
        let good = self.state.starts_with(b"28") || GOOD_REFUSALS.contains(&self.code);
        if good { Ok(()) } else { Err(self.failure()) }
    }

    fn failure(&self) -> Failure {
        let mend = match self.code {
            1129 => "; `mysqladmin flush-hosts` on the server unblocks this host",
            1130 => "; the check's `user` needs an account from this host",
            _ => "",
        };
        Failure::Wrong(format!("the server says {} (error {}){mend}", quote(self.message), self.code))
    }
}

#[cfg(test)]
mod tests;
