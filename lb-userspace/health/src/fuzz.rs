//! Fuzz targets: answers of servers.

mod dns;
mod probes;
mod tls;
mod vip;

use lb_fuzz::targets;

targets! {
    agent 60 "answers to agent checks" => probes::run_agent;
    dns 60 "answers to dns checks, over UDP and TCP" => dns::run;
    external 20 "output of programs that check" => probes::run_external;
    file 100 "files that check" => probes::run_file;
    ftp 60 "answers to ftp checks" => probes::run_ftp;
    grpc 60 "answers to grpc checks" => probes::run_grpc;
    http 60 "answers to http checks" => probes::run_http;
    imap 60 "answers to imap checks" => probes::run_imap;
    ldap 60 "answers to ldap checks" => probes::run_ldap;
    mysql 60 "answers to mysql checks" => probes::run_mysql;
    pop3 60 "answers to pop3 checks" => probes::run_pop3;
    postgresql 60 "answers to postgresql checks" => probes::run_postgresql;
    redis 60 "answers to redis checks" => probes::run_redis;
    smtp 60 "answers to smtp checks" => probes::run_smtp;
    tcp 60 "answers to tcp checks" => probes::run_tcp;
    tls 60 "TLS handshakes and certificates" => tls::run;
    udp 60 "answers to udp checks" => probes::run_udp;
    vip 150 "answers to probes through a VIP: the TCP/IP of AF_XDP sockets" => vip::run;
}
