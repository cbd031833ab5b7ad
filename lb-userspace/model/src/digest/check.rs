//! The digest of checks. Nodes may differ in programs, files, and the interface and source address
//! of probes: they belong to one machine.

use sha2::Digest as _;

use super::Writer;
use crate::{Check, DnsProbe, Exchange, Expectation, ExternalProbe, HttpProbe, Probe, Statuses, Tls, Via};

impl Writer {
    pub(super) fn check(&mut self, check: &Check) {
        let Check {
            probe,
            via,
            tls,
            interval,
            fast_interval,
            timeout,
            rise,
            fall,
            port,
            source: _,
            interface: _,
        } = check;
        self.probe(probe);
        self.number(*via == Via::Vip);
        self.option(tls.as_ref(), |writer, Tls { name, verify, expiry_warning }| {
            writer.option(name.as_deref(), Self::text);
            writer.number(*verify);
            writer.time(*expiry_warning);
        });
        self.time(*interval);
        self.time(*fast_interval);
        self.time(*timeout);
        self.number(*rise);
        self.number(*fall);
        self.option(*port, Self::number);
    }

    fn probe(&mut self, probe: &Probe) {
        self.text(probe.name());
        match probe {
            Probe::Tcp(exchange) | Probe::Udp(exchange) => {
                let Exchange { send, expected } = exchange;
                self.bytes(send);
                self.expected(expected);
            }
            Probe::Http(http) => self.http(http),
            Probe::Dns(DnsProbe { name, record, answer }) => {
                self.text(name);
                self.text(record.name());
                self.option(answer.as_deref(), Self::text);
            }
            Probe::Smtp { helo } => self.text(helo),
            Probe::Mysql { user } => self.text(user),
            Probe::Postgresql { user, database } => {
                self.text(user);
                self.text(database);
            }
            Probe::Grpc { service } => self.text(service),
            Probe::Agent { send } => self.option(send.as_deref(), Self::text),
            Probe::External(ExternalProbe { command: _, dynamic }) => self.number(*dynamic),
            Probe::File(_)
            | Probe::Imap
            | Probe::Pop3
            | Probe::Ftp
            | Probe::Ldap
            | Probe::Redis
            | Probe::Ping
            | Probe::Off => {}
        }
    }

    fn http(&mut self, http: &HttpProbe) {
        let HttpProbe { method, request, host, status: _, expected, digest } = http;
        self.text(method.name());
        self.text(request);
        self.option(host.as_deref(), Self::text);
        // Of two nodes one may write the default.
        let Statuses(ranges) = http.statuses();
        self.list(&ranges, |writer, range| {
            writer.number(*range.start());
            writer.number(*range.end());
        });
        self.expected(expected);
        self.option(digest.as_ref(), |writer, digest| writer.bytes(digest));
    }

    fn expected(&mut self, Expectation { text, pattern }: &Expectation) {
        self.option(text.as_deref(), Self::text);
        self.option(pattern.as_ref(), |writer, pattern| writer.text(pattern.0.as_str()));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.update(bytes);
    }
}
