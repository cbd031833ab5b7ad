//! What a check sends and expects, and which keys belong to which type of check.

use lb_model::{DnsProbe, Exchange, Expectation, ExternalProbe, HttpProbe, Method, Probe, RecordType};

use super::{Validator, Value};
use crate::source_map::SourceSpan;
use crate::{values, yaml};

/// The `type` of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Http,
    Https,
    Dns,
    Udp,
    Smtp,
    Imap,
    Pop3,
    Ftp,
    Ldap,
    Mysql,
    Postgresql,
    Redis,
    Ping,
    Grpc,
    Agent,
    External,
    File,
    None,
    Off,
}

use Kind::{
    Agent, Dns, External, File, Ftp, Grpc, Http, Https, Imap, Ldap, Mysql, Ping, Pop3, Postgresql, Redis,
    Smtp, Tcp, Udp,
};

const KINDS: [(&str, Kind); 20] = [
    ("tcp", Tcp),
    ("http", Http),
    ("https", Https),
    ("dns", Dns),
    ("udp", Udp),
    ("smtp", Smtp),
    ("imap", Imap),
    ("pop3", Pop3),
    ("ftp", Ftp),
    ("ldap", Ldap),
    ("mysql", Mysql),
    ("postgresql", Postgresql),
    ("redis", Redis),
    ("ping", Ping),
    ("grpc", Grpc),
    ("agent", Agent),
    ("external", External),
    ("file", File),
    ("none", Kind::None),
    ("off", Kind::Off),
];

const HTTP: &[Kind] = &[Http, Https];
const TEXT: &[Kind] = &[Http, Https, Tcp, Udp];
const STREAMS: &[Kind] =
    &[Tcp, Http, Https, Smtp, Imap, Pop3, Ftp, Ldap, Mysql, Postgresql, Redis, Grpc, Agent];
const NETWORK: &[Kind] =
    &[Tcp, Http, Https, Dns, Udp, Smtp, Imap, Pop3, Ftp, Ldap, Mysql, Postgresql, Redis, Ping, Grpc, Agent];
const WITH_PORT: &[Kind] = &[
    Tcp, Http, Https, Dns, Udp, Smtp, Imap, Pop3, Ftp, Ldap, Mysql, Postgresql, Redis, Grpc, Agent, External,
];

/// Each key that only some types have: whether the file gives it, and which types have it.
fn keys(check: &yaml::Check) -> [(&'static str, bool, &'static [Kind]); 25] {
    let given = yaml::Scalar::is_given;
    [
        ("port", given(&check.port), WITH_PORT),
        ("source", given(&check.source), NETWORK),
        ("interface", given(&check.interface), NETWORK),
        ("tls", given(&check.tls), STREAMS),
        ("tls_name", given(&check.tls_name), STREAMS),
        ("verify", given(&check.verify), STREAMS),
        ("expiry_warning", given(&check.expiry_warning), STREAMS),
        ("send", given(&check.send), &[Tcp, Udp, Agent]),
        ("send_hex", given(&check.send_hex), &[Tcp, Udp]),
        ("receive", given(&check.receive), TEXT),
        ("matches", given(&check.matches), TEXT),
        ("method", given(&check.method), HTTP),
        ("request", given(&check.request), HTTP),
        ("host", given(&check.host), HTTP),
        ("status", given(&check.status), HTTP),
        ("digest", given(&check.digest), HTTP),
        ("query", given(&check.query), &[Dns]),
        ("record", given(&check.record), &[Dns]),
        ("answer", given(&check.answer), &[Dns]),
        ("helo", given(&check.helo), &[Smtp]),
        ("user", given(&check.user), &[Mysql, Postgresql]),
        ("database", given(&check.database), &[Postgresql]),
        ("grpc_service", given(&check.grpc_service), &[Grpc]),
        ("command", check.command.is_some(), &[External]),
        ("path", given(&check.path), &[File]),
    ]
}

impl Kind {
    pub(super) const ALL_NAMES: &'static str = "a type of check, such as tcp, http or dns";

    pub(super) fn read(text: &str) -> Result<Self, String> {
        values::choice(text, &KINDS)
    }

    pub(super) fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether it needs a port of the server's.
    pub(super) fn connects(self) -> bool {
        NETWORK.contains(&self) && self != Ping
    }

    pub(super) fn goes_by_vip(self) -> bool {
        matches!(self, Tcp | Http | Https | Dns | Udp)
    }
}

impl Validator {
    pub(super) fn keys_of_other_kinds(&mut self, kind: Kind, check: &yaml::Check, span: SourceSpan<'_>) {
        let dynamic = ("dynamic", check.dynamic.is_given(), &[External][..]);
        for (key, given, kinds) in keys(check).into_iter().chain([dynamic]) {
            if given && !kinds.contains(&kind) {
                let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
                let message = format!(
                    "`{key}` belongs to a check of type {}, this one is of type {}",
                    names.join(", "),
                    kind.name()
                );
                self.mistake(span.key(key).key_at(), message);
            }
        }
    }

    /// `None` for the type `none`: such a check sends no probes.
    pub(super) fn probe(
        &mut self,
        kind: Option<Kind>,
        check: &yaml::Check,
        span: SourceSpan<'_>,
    ) -> Option<Probe> {
        let value = |scalar, key| Value::of(scalar, key, span);
        let probe = match kind? {
            Tcp => Probe::Tcp(self.exchange(check, span)),
            Udp => Probe::Udp(self.udp_exchange(check, span)),
            Http | Https => Probe::Http(self.http(check, span)),
            Dns => Probe::Dns(self.dns(check, span)),
            Smtp => {
                let helo = self.optional(value(&check.helo, "helo"), values::word);
                Probe::Smtp { helo: helo.unwrap_or_else(|| "localhost".into()) }
            }
            Imap => Probe::Imap,
            Pop3 => Probe::Pop3,
            Ftp => Probe::Ftp,
            Ldap => Probe::Ldap,
            Mysql => Probe::Mysql { user: self.user(check, span) },
            Postgresql => {
                let user = self.user(check, span);
                let database = self.optional(value(&check.database, "database"), values::word);
                Probe::Postgresql { database: database.unwrap_or_else(|| user.clone()), user }
            }
            Redis => Probe::Redis,
            Ping => Probe::Ping,
            Grpc => {
                let service = value(&check.grpc_service, "grpc_service").text.unwrap_or_default();
                Probe::Grpc { service: service.to_owned() }
            }
            Agent => Probe::Agent { send: value(&check.send, "send").text.map(str::to_owned) },
            External => Probe::External(self.external(check, span)?),
            File => {
                let read = |text: &str| values::file_path(text, "/run/www1.weight");
                let path = self.needed(value(&check.path, "path"), "the file that holds the weight", read);
                Probe::File(path?)
            }
            Kind::None => return None,
            Kind::Off => Probe::Off,
        };
        Some(probe)
    }

    fn user(&mut self, check: &yaml::Check, span: SourceSpan<'_>) -> String {
        let user = self.optional(Value::of(&check.user, "user", span), values::word);
        user.unwrap_or_else(|| "lb".into())
    }

    fn exchange(&mut self, check: &yaml::Check, span: SourceSpan<'_>) -> Exchange {
        let hex = Value::of(&check.send_hex, "send_hex", span);
        let text = Value::of(&check.send, "send", span).text;
        if text.is_some() && hex.text.is_some() {
            self.mistake(hex.span().key_at(), "found both `send` and `send_hex`, expected one of them");
        }
        let bytes = self.optional(hex, values::hex_bytes);
        let text = text.map(|text| text.as_bytes().to_owned());
        Exchange { send: bytes.or(text).unwrap_or_default(), expected: self.expected(check, span) }
    }

    /// A UDP check must send something: without an answer nothing shows that the server is there.
    fn udp_exchange(&mut self, check: &yaml::Check, span: SourceSpan<'_>) -> Exchange {
        if !check.send.is_given() && !check.send_hex.is_given() {
            let message = "`send` is missing, expected the datagram that the server answers, or `send_hex`";
            self.mistake(span.key_at(), message);
        }
        self.exchange(check, span)
    }

    fn expected(&mut self, check: &yaml::Check, span: SourceSpan<'_>) -> Expectation {
        Expectation {
            text: self.optional(Value::of(&check.receive, "receive", span), values::search_text),
            pattern: self.optional(Value::of(&check.matches, "matches", span), values::pattern),
        }
    }

    fn http(&mut self, check: &yaml::Check, span: SourceSpan<'_>) -> HttpProbe {
        let value = |scalar, key| Value::of(scalar, key, span);
        let methods = Method::ALL.map(|method| (method.name(), method));
        let probe = HttpProbe {
            method: self.one_of(value(&check.method, "method"), &methods, Method::Get),
            request: self
                .optional(value(&check.request, "request"), values::request_path)
                .unwrap_or_else(|| "/".into()),
            host: self.optional(value(&check.host, "host"), values::host),
            status: self.optional(value(&check.status, "status"), values::statuses),
            expected: self.expected(check, span),
            digest: self.optional(value(&check.digest, "digest"), values::sha256),
        };
        if probe.method == Method::Head && probe.expects_a_page() {
            let message = "a response to HEAD has no body: expected another method, or neither `receive`, `matches` nor \
                           `digest`";
            self.mistake(span.key("method").at(), message);
        }
        probe
    }

    fn dns(&mut self, check: &yaml::Check, span: SourceSpan<'_>) -> DnsProbe {
        let value = |scalar, key| Value::of(scalar, key, span);
        let records = RecordType::ALL.map(|record| (record.name(), record));
        DnsProbe {
            name: self.optional(value(&check.query, "query"), values::dns_name).unwrap_or_else(|| ".".into()),
            record: if !check.record.is_given() && !check.query.is_given() {
                RecordType::Ns
            } else {
                self.one_of(value(&check.record, "record"), &records, RecordType::A)
            },
            answer: self.optional(value(&check.answer, "answer"), values::search_text),
        }
    }

    fn external(&mut self, check: &yaml::Check, span: SourceSpan<'_>) -> Option<ExternalProbe> {
        if check.command.is_none() {
            let message = "`command` is missing, expected a program and its arguments";
            self.mistake(span.key_at(), message);
        }
        let command = self.command(check.command.as_ref(), span.key("command"))?;
        let dynamic = Value::of(&check.dynamic, "dynamic", span);
        Some(ExternalProbe { command, dynamic: self.one_of(dynamic, &values::SWITCH, false) })
    }
}
