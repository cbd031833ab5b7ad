//! The catalogue of real servers.

/// A server program. Its configuration is in `tests/fixtures/servers/NAME`.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    pub name: &'static str,
    /// Debian's packages; in `a|b` the first one that apt knows is used.
    pub packages: &'static [&'static str],
    /// A path of the packages in the [file system](super::root).
    pub path: &'static str,
    pub user: User,
    /// The port on which it accepts connections once it is up.
    pub port: u16,
}

/// The user of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    Root,
    /// The unprivileged user of [`super::root::USERS`].
    Lab,
}

pub const NGINX: Program = Program {
    name: "nginx",
    packages: &["nginx-light|nginx", "openssl"],
    path: "usr/sbin/nginx",
    user: User::Lab,
    port: 443,
};

/// Authoritative for `lab.example`.
pub const NSD: Program =
    Program { name: "nsd", packages: &["nsd"], path: "usr/sbin/nsd", user: User::Lab, port: 53 };

/// SMTP.
pub const EXIM: Program = Program {
    name: "exim",
    packages: &["exim4-daemon-light"],
    path: "usr/sbin/exim4",
    user: User::Root,
    port: 25,
};

/// IMAP and POP3.
pub const DOVECOT: Program = Program {
    name: "dovecot",
    packages: &["dovecot-imapd", "dovecot-pop3d"],
    path: "usr/sbin/dovecot",
    user: User::Root,
    port: 143,
};

pub const VSFTPD: Program =
    Program { name: "vsftpd", packages: &["vsftpd"], path: "usr/sbin/vsftpd", user: User::Lab, port: 21 };

/// LDAP.
pub const SLAPD: Program =
    Program { name: "slapd", packages: &["slapd"], path: "usr/sbin/slapd", user: User::Lab, port: 389 };

pub const MARIADB: Program = Program {
    name: "mariadb",
    packages: &["mariadb-server-core"],
    path: "usr/sbin/mariadbd",
    user: User::Lab,
    port: 3306,
};

pub const POSTGRESQL: Program = Program {
    name: "postgresql",
    packages: &["postgresql"],
    path: "usr/lib/postgresql",
    user: User::Lab,
    port: 5432,
};

pub const REDIS: Program = Program {
    name: "redis",
    packages: &["redis-server"],
    path: "usr/bin/redis-server",
    user: User::Lab,
    port: 6379,
};

/// gRPC's own server for Python. Debian has no package of its health service, so the test has a few
/// lines of its own.
pub const GRPC: Program = Program {
    name: "grpc",
    packages: &["python3-grpcio"],
    path: "usr/bin/python3",
    user: User::Lab,
    port: 50051,
};

/// Routing daemons, which `lab::routing` starts: their configurations are those of deploy/routing.
pub const BIRD: Program = routing("bird", &["bird2"], "usr/sbin/bird");
pub const FRR: Program = routing("frr", &["frr"], "usr/lib/frr/bgpd");
pub const EXABGP: Program = routing("exabgp", &["exabgp", "iproute2"], "usr/sbin/python3-exabgp");

const fn routing(name: &'static str, packages: &'static [&'static str], path: &'static str) -> Program {
    Program { name, packages, path, user: User::Root, port: 179 }
}

pub const ROUTING: [&Program; 3] = [&BIRD, &FRR, &EXABGP];

/// The servers that checks are tried on.
pub const ALL: [&Program; 10] =
    [&NGINX, &NSD, &EXIM, &DOVECOT, &VSFTPD, &SLAPD, &MARIADB, &POSTGRESQL, &REDIS, &GRPC];
