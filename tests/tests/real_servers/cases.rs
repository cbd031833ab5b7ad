//! Every kind of check there is a server for, and what must be found wrong with that server.

use lb_lab::lab::servers::catalog::{self, Program};

/// A service with one server; `name` is both their names.
pub(crate) struct Case {
    pub name: &'static str,
    /// `PORT/PROTOCOL`.
    pub port: &'static str,
    /// As in the configuration; `FOLDER` stands for the node's.
    pub checks: &'static [&'static str],
    pub by: &'static Program,
    /// What the reason contains while the server is stopped; `None`: it is not asked.
    pub stopped: Option<&'static str>,
    /// While it is frozen: the kernel takes connections in its name, and nobody answers.
    pub frozen: Option<&'static str>,
    /// What makes it ill, and what the reason contains then.
    pub illness: Illness,
    pub ill: &'static str,
}

#[derive(Clone, Copy)]
pub(crate) enum Illness {
    /// A file of the server, what it says, and how the server is told.
    File(&'static str, &'static str, Told),
    /// The node answers no ICMP echo.
    NoEcho,
    /// The node's file `weight` holds none.
    NoWeight,
}

/// In the order of how much it takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Told {
    /// It looks by itself.
    Nothing,
    /// By SIGHUP.
    Reload,
    /// It must be started again.
    Restart,
}

use Illness::{File, NoEcho, NoWeight};
use Told::{Nothing, Reload, Restart};

const REFUSED: Option<&str> = Some("connection refused");
const NO_GREETING: Option<&str> = Some("no greeting within");

/// IMAP and POP3 at each other's port.
const SWAPPED: &str = "service imap-login {\n inet_listener imap {\n port = 110\n }\n}\n\
                       service pop3-login {\n inet_listener pop3 {\n port = 143\n }\n}\n";
/// With another text, and another address of www.
const OTHER_ZONE: &str = "\
$ORIGIN lab.example.
$TTL 60
@     SOA   ns hostmaster 2 3600 600 86400 60
      NS    ns
      MX    10 mail
      TXT   \"Another lab\"
ns    A     192.0.2.53
mail  A     192.0.2.25
www   A     192.0.2.81
      AAAA  2001:db8::80
";

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "http",
        port: "80/tcp",
        checks: &["type: http, request: index.html, host: www.lab.example, receive: It works"],
        by: &catalog::NGINX,
        stopped: REFUSED,
        frozen: Some("no answer within"),
        illness: File("page", "Maintenance\n", Nothing),
        ill: "no 'It works' in the answer's 12 bytes: got 'Maintenance",
    },
    Case {
        name: "https",
        port: "443/tcp",
        checks: &["type: https, request: index.html, host: www.lab.example, verify: on"],
        by: &catalog::NGINX,
        stopped: REFUSED,
        frozen: Some("no end of the TLS handshake within"),
        illness: File("names", "subjectAltName=DNS:www.other.example\n", Restart),
        ill: "certificate is for www.other.example, not for www.lab.example",
    },
    Case {
        name: "external",
        port: "81/tcp",
        checks: &["type: external, command: { timeout: 2s, command: [/bin/sh, -c, \
                'curl -q -sS --noproxy \"*\" http://$3/index.html | tee /dev/stderr | grep -q works', check] }"],
        by: &catalog::NGINX,
        stopped: Some("curl: (7)"),
        frozen: Some("not done within 2s"),
        illness: File("page", "Maintenance\n", Nothing),
        ill: "Maintenance",
    },
    Case {
        name: "dns",
        port: "53/tcp",
        checks: &[
            "type: dns, query: www.lab.example, record: A, answer: 192.0.2.80",
            "type: dns, query: www.lab.example, record: AAAA, answer: 2001:db8::80",
            "type: dns, query: lab.example, record: NS, answer: ns.lab.example.",
            "type: dns, query: lab.example, record: MX, answer: 10 mail.lab.example.",
            "type: dns, query: lab.example, record: TXT",
            "type: dns, query: lab.example, record: SOA",
        ],
        by: &catalog::NSD,
        stopped: Some("refused"),
        frozen: Some("no answer within"),
        illness: File("lab.example.zone", OTHER_ZONE, Reload),
        ill: "no 192.0.2.80 among the answers: 192.0.2.81",
    },
    Case {
        name: "udp",
        port: "53/udp",
        // A question for the zone's TXT record.
        checks: &[
            "type: udp, send_hex: 10a0 0000 0001 0000 0000 0000 036c6162 076578616d706c65 00 0010 0001, \
                receive: The lab of lb",
        ],
        by: &catalog::NSD,
        stopped: Some("refused"),
        frozen: Some("no answer within"),
        illness: File("lab.example.zone", OTHER_ZONE, Reload),
        ill: "no 'The lab of lb'",
    },
    Case {
        name: "tcp",
        port: "6380/tcp",
        checks: &["type: tcp, port: 6379, send: \"PING\\r\\n\", receive: PONG"],
        by: &catalog::REDIS,
        stopped: REFUSED,
        frozen: Some("no answer within"),
        illness: File("commands.conf", "rename-command PING \"\"\n", Restart),
        ill: "no 'PONG'",
    },
    Case {
        name: "smtp",
        port: "25/tcp",
        checks: &["type: smtp, helo: lb1.lab.example"],
        by: &catalog::EXIM,
        stopped: REFUSED,
        frozen: NO_GREETING,
        illness: File("connect.conf", "acl_smtp_connect = refuse\n", Restart),
        ill: "the greeting is '550 not today', expected 220",
    },
    Case {
        name: "imap",
        port: "143/tcp",
        checks: &["type: imap"],
        by: &catalog::DOVECOT,
        stopped: REFUSED,
        frozen: NO_GREETING,
        illness: File("ports.conf", SWAPPED, Restart),
        ill: "the greeting is '+OK",
    },
    Case {
        name: "pop3",
        port: "110/tcp",
        checks: &["type: pop3"],
        by: &catalog::DOVECOT,
        stopped: REFUSED,
        frozen: NO_GREETING,
        illness: File("ports.conf", SWAPPED, Restart),
        ill: "the greeting is '* OK",
    },
    Case {
        name: "ftp",
        port: "21/tcp",
        checks: &["type: ftp"],
        by: &catalog::VSFTPD,
        stopped: REFUSED,
        frozen: NO_GREETING,
        illness: File("who.conf", "anonymous_enable=NO\n", Restart),
        ill: "the greeting is '500 OOPS",
    },
    Case {
        name: "ldap",
        port: "389/tcp",
        checks: &["type: ldap"],
        by: &catalog::SLAPD,
        stopped: REFUSED,
        frozen: Some("no answer to the bind within"),
        // It takes no message as long as a bind. (A refused bind without a name would be a good
        // answer.)
        illness: File("bind.conf", "sockbuf_max_incoming 4\n", Restart),
        ill: "before the answer to the bind",
    },
    Case {
        name: "mysql",
        port: "3306/tcp",
        checks: &["type: mysql"],
        by: &catalog::MARIADB,
        stopped: REFUSED,
        frozen: NO_GREETING,
        illness: File("users.sql", "DROP USER IF EXISTS lb@'%';\nFLUSH PRIVILEGES;\n", Restart),
        ill: "is not allowed to connect to this MariaDB server",
    },
    Case {
        name: "postgresql",
        port: "5432/tcp",
        checks: &["type: postgresql, database: postgres"],
        by: &catalog::POSTGRESQL,
        stopped: REFUSED,
        frozen: Some("no answer to the start-up message within"),
        // A standby that lets nobody in.
        illness: File("data/standby.signal", "", Restart),
        ill: "SQLSTATE 57P03",
    },
    Case {
        name: "redis",
        port: "6379/tcp",
        checks: &["type: redis"],
        by: &catalog::REDIS,
        stopped: REFUSED,
        frozen: Some("no answer to PING within"),
        illness: File("commands.conf", "rename-command PING \"\"\n", Restart),
        ill: "the answer to PING is '-ERR unknown command",
    },
    Case {
        name: "grpc",
        port: "50051/tcp",
        checks: &["type: grpc"],
        by: &catalog::GRPC,
        stopped: REFUSED,
        frozen: Some("no answer within"),
        illness: File("status", "2\n", Nothing),
        ill: "the server is NOT_SERVING, expected SERVING",
    },
    Case {
        name: "ping",
        port: "7/udp",
        checks: &["type: ping"],
        by: &catalog::NGINX,
        stopped: None,
        frozen: None,
        illness: NoEcho,
        ill: "no echo reply within",
    },
    Case {
        name: "file",
        port: "7/tcp",
        checks: &["type: file, path: FOLDER/weight"],
        by: &catalog::NGINX,
        stopped: None,
        frozen: None,
        illness: NoWeight,
        ill: "'soon' is not a weight",
    },
];
