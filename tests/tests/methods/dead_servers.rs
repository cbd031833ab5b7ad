//! A server is gone: what its service does with the clients it had (`dead_server`).

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use lb_api::status::{ServiceStatus, Status};
use lb_lab::lab::director::wait_for;
use lb_lab::lab::{Link, echo};
use lb_model::Health;

use crate::bed::{Bed, CHECK, Case, Datagrams, ECHO, NAMES};

/// Of each service, half of them with either server.
const CLIENTS: usize = 4;

/// The service that moves what the dead server had.
const MOVES: u16 = ECHO + 1;

fn speak(mut connection: &TcpStream) -> io::Result<()> {
    let mut got = [0; 4];
    connection.write_all(b"who?")?;
    connection.read_exact(&mut got)?;
    assert_eq!(&got, b"who?", "{connection:?}");
    Ok(())
}

/// How many are broken; the others go on.
fn broken(connections: &[TcpStream]) -> usize {
    let is_broken = |connection: &&TcpStream| match speak(connection) {
        Ok(()) => false,
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => true,
        Err(error) => panic!("{connection:?}: {error}"),
    };
    connections.iter().filter(is_broken).count()
}

fn resets(status: &Status) -> u64 {
    let answers = status.answers.iter().filter(|answer| answer.reason == "server_dead");
    answers.map(|answer| answer.count).sum()
}

pub(crate) fn play() {
    let bed = Bed::new("methodsdead");
    for server in bed.servers() {
        for port in [ECHO, MOVES] {
            echo::serve(server, port).expect("it starts");
        }
    }
    let _responders = bed.answer_names();
    let director = bed.director(|case| {
        // Strays go to a server by hash here, so nobody but the program would reset anything.
        let resets = format!("{CHECK}    stray: hash\n    dead_server: reset\n");
        let moves = format!("{CHECK}    dead_server: move\n");
        let services = [(ECHO, "tcp", &resets), (MOVES, "tcp", &moves), (NAMES, "udp", &moves)];
        services.map(|(port, protocol, more)| case.service(&bed, &port.to_string(), protocol, more)).concat()
    });
    wait_for(&director, "all servers up", |status| {
        status.services.iter().all(|service| service.servers.iter().all(|server| server.health == Health::Up))
    });
    let begin = |case| {
        let [reset, moved] =
            [ECHO, MOVES].map(|port| (0..CLIENTS).map(|_| bed.connect(case, port)).collect::<Vec<_>>());
        assert_eq!((broken(&reset), broken(&moved)), (0, 0), "{case:?}");
        let flows: Vec<Datagrams> = (0..CLIENTS).map(|_| bed.datagrams(case, NAMES)).collect();
        let by_www1 = flows.iter().filter(|flow| flow.name() == "www1").count();
        assert_eq!(by_www1, CLIENTS / 2, "{case:?}");
        (case, reset, moved, flows)
    };
    let begun: Vec<_> = Case::all().into_iter().map(begin).collect();

    bed.talk.www1.node().set_carrier("eth0", Link::Down).expect("the cable is out");
    wait_for(&director, "www1 is gone", |status| {
        let www1 = |service: &ServiceStatus| {
            service.servers.iter().any(|server| server.name == "www1" && server.health == Health::Down)
        };
        status.services.iter().all(www1)
    });
    for (case, reset, moved, flows) in &begun {
        let before = resets(&director.status().expect("a status"));
        assert_eq!(broken(reset), CLIENTS / 2, "{case:?}: those of www1 are reset");
        let after = resets(&director.status().expect("a status"));
        assert_eq!(after - before, CLIENTS as u64 / 2, "{case:?}: by the director");
        assert!(flows.iter().all(|flow| flow.name() == "www2"), "{case:?}: flows are moved");
        // The other server knows nothing of these, and its own kernel says so.
        assert_eq!(broken(moved), CLIENTS / 2, "{case:?}: those of www1 came to www2");
        assert_eq!(resets(&director.status().expect("a status")), after, "{case:?}: not by the director");
        for port in [ECHO, MOVES] {
            speak(&bed.connect(*case, port)).expect("new ones are served");
        }
    }
}
