//! DNS queries and matching answers.

use std::fmt::Display;
use std::io;
use std::net::IpAddr;

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, ParsedName, Rtype};
use domain::rdata::AllRecordData;
use lb_model::{DnsProbe, RecordType};

use crate::probe::{Failure, excerpt};

pub(super) struct Question {
    message: Message<Vec<u8>>,
    record: Rtype,
}

/// An answer to a query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub code: Rcode,
    /// The answer did not fit into a datagram.
    pub truncated: bool,
    /// The records of the queried type.
    pub records: Vec<Record>,
}

/// A record in zone file notation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub text: String,
    /// The concatenated strings of a text record.
    joined: Option<String>,
}

impl Question {
    /// A query with a random identifier.
    pub(super) fn new(check: &DnsProbe) -> Result<Self, Failure> {
        let wrong = |why: &dyn Display| Failure::Wrong(format!("cannot ask for '{}': {why}", check.name));
        let name: Name<Vec<u8>> = check.name.parse().map_err(|error| wrong(&error))?;
        let id = getrandom::u32().map_err(|error| Failure::Local(io::Error::other(error)))?;
        let record = rtype(check.record);
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(id as u16);
        // RD: without it resolvers answer only from their cache; authoritative servers ignore it.
        builder.header_mut().set_rd(true);
        let mut question = builder.question();
        question.push((name, record)).map_err(|error| wrong(&error))?;
        Ok(Self { message: question.into_message(), record })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.message.as_slice()
    }

    /// Parses an answer; `None` if `message` answers another query.
    pub(super) fn reply(&self, message: &[u8]) -> Result<Option<Reply>, Failure> {
        let not_dns = |why: String| Failure::Wrong(format!("the answer is not DNS: {why}"));
        let parsed = Message::from_slice(message).map_err(|_| not_dns(excerpt(message)))?;
        if !self.is_answered_by(parsed) {
            return Ok(None);
        }
        Ok(Some(Reply {
            code: parsed.header().rcode(),
            truncated: parsed.header().tc(),
            records: records(parsed, self.record),
        }))
    }

    fn is_answered_by(&self, message: &Message<[u8]>) -> bool {
        let header = message.header();
        // A server that could not parse the query need not repeat it, and some servers never do.
        let without_question = header.qr()
            && header.id() == self.message.header().id()
            && message.header_counts().qdcount() == 0;
        without_question || message.is_answer(&self.message)
    }
}

fn rtype(record: RecordType) -> Rtype {
    match record {
        RecordType::A => Rtype::A,
        RecordType::Aaaa => Rtype::AAAA,
        RecordType::Ns => Rtype::NS,
        RecordType::Mx => Rtype::MX,
        RecordType::Txt => Rtype::TXT,
        RecordType::Soa => Rtype::SOA,
    }
}

/// The records up to the first malformed one.
fn records(message: &Message<[u8]>, expected: Rtype) -> Vec<Record> {
    let Ok(answer) = message.answer() else { return Vec::new() };
    let readable = answer.map_while(Result::ok).filter(|record| record.rtype() == expected);
    let typed =
        readable.filter_map(|record| record.into_any_record::<AllRecordData<_, ParsedName<_>>>().ok());
    typed
        .map(|record| {
            let joined = match record.data() {
                AllRecordData::Txt(strings) => {
                    Some(String::from_utf8_lossy(&strings.text::<Vec<u8>>()).into_owned())
                }
                _ => None,
            };
            Record { text: record.data().to_string(), joined }
        })
        .collect()
}

impl Record {
    /// Whether the configured `text` matches this record. Case matters only in text records; the
    /// final dot is optional.
    pub(super) fn is(&self, text: &str) -> bool {
        match &self.joined {
            Some(joined) => joined == text || self.text == text,
            None => plain(&self.text) == plain(text),
        }
    }
}

fn plain(text: &str) -> String {
    let word = |word: &str| match word.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => word.trim_end_matches('.').to_ascii_lowercase(),
    };
    text.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}
