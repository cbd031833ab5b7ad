//! FTP in one persistence group: the passive ports are another service, and the data come from the
//! server that has the session.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use lb_lab::lab::servers::catalog;
use lb_lab::lab::{Node, RealServer};

use crate::bed::{Bed, Case};

/// Letters of the name of a server, which is all that its file has.
const NAME: usize = 4;

/// A server that says its node's name.
pub(crate) fn start(node: &Node) -> RealServer {
    let server = RealServer::new(node, &catalog::VSFTPD).expect("a configured server");
    server.write("name", node.name()).expect("a file");
    let more = "anonymous_enable=YES\nlisten=NO\nlisten_ipv6=YES\npasv_min_port=30000\npasv_max_port=30001\n";
    server.write("who.conf", more).expect("a configuration");
    server.start().expect("vsftpd starts");
    server
}

/// With address translation a service has one port.
pub(crate) fn services(bed: &Bed, case: Case) -> String {
    let passive: &[&str] = if case.is_translated() { &["30000", "30001"] } else { &["30000-30001"] };
    let ports = ["21"].iter().chain(passive);
    ports.map(|port| case.service(bed, port, "tcp", "    persistence: { group: ftp }\n")).collect()
}

/// Two sessions of each client, with a data connection for each file.
pub(crate) fn fetch(bed: &Bed, case: Case) {
    /// Two passive ports are enough for one session at a time.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let url = format!("ftp://{}//srv/name", SocketAddr::new(case.vip(), 21));
    let of = |client| {
        let text = [(); 2].map(|()| bed.curl(client, &[url.as_str(); 3])).concat();
        let names: BTreeSet<String> =
            text.as_bytes().chunks(NAME).map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        assert!(text.len() == 6 * NAME && names.len() == 1, "{case:?}: {text}");
        text
    };
    let [one, other] = case.clients().map(of);
    assert_ne!(one, other, "{case:?}: two clients, two servers");
}
