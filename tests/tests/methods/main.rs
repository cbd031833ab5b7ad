//! Real clients of servers that are reached by each method, over both families: what they get, and
//! what becomes of it when the director or a server dies.
//!
//! - `bed`: a VIP for each method and family, and clients behind a narrow link
//! - `downloads`: 100 MB by curl; `names`: dig and fragments; `ftp`: curl and vsftpd; `http3`: a
//!   client that changes its address
//! - `take_over`: the active director is killed; `dead_servers`: a server is gone

mod bed;
mod dead_servers;
mod downloads;
mod ftp;
mod http3;
mod names;
mod take_over;

use std::thread;

use lb_api::status::Status;
use lb_lab::lab::RealServer;

use bed::{Bed, Case};
use downloads::Page;
use http3::Site;

/// All cases side by side, each with one client after the other.
#[test]
fn real_clients_are_served_by_each_method_over_both_families() {
    let bed = Bed::new("methods");
    let page = Page::offer(&bed);
    let site = Site::serve(&bed);
    let names: Vec<RealServer> = bed.servers().map(names::start).into();
    let files: Vec<RealServer> = bed.servers().map(ftp::start).into();
    let director = bed.director(|case| {
        let services = [
            case.service(&bed, "80", "tcp", ""),
            case.service(&bed, "53", "udp", ""),
            ftp::services(&bed, case),
            http3::service(&bed, case),
        ];
        services.concat()
    });

    let failed: Vec<Case> = thread::scope(|scope| {
        let serve = |case| {
            page.download(&bed, case);
            names::dig(&bed, case);
            names::ask_at_length(&bed, case);
            ftp::fetch(&bed, case);
            site.visit(&bed, case);
        };
        let clients: Vec<_> =
            Case::all().into_iter().map(|case| (case, scope.spawn(move || serve(case)))).collect();
        clients.into_iter().filter_map(|(case, client)| client.join().is_err().then_some(case)).collect()
    });
    let Status { drops, passes, fragments, quic_moved, .. } = director.status().expect("a status");
    assert!(failed.is_empty(), "{failed:?}; dropped: {drops:?}; passed: {passes:?}; {fragments:?}");
    // Errors of routers have found the servers that they are about.
    assert_eq!(passes.iter().find(|pass| pass.reason == "icmp_unknown").map(|pass| pass.count), Some(0));
    assert!(quic_moved > 0, "connection IDs led to the servers");
    for server in names.iter().chain(&files) {
        server.stop().expect("it ends");
    }
}

#[test]
fn connections_flows_and_bindings_stay_with_their_servers_when_the_active_director_is_killed() {
    take_over::play();
}

#[test]
fn clients_of_a_dead_server_are_moved_or_reset_by_each_method_over_both_families() {
    dead_servers::play();
}
