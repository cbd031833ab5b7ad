//! Which connections are asked for and when, what is shown of them, and the way in and out.

use std::net::SocketAddr;
use std::time::Duration;

use crossterm::event::KeyCode;
use lb_api::connections::{Bounds, Connection, Filter};
use lb_model::Forwarding;

use super::{events, press, state, status, text, type_in};
use crate::listing::{Ask, Listed, PART, Part};
use crate::state::{Effect, Input, Over, Snapshot, State, View};

/// Of web, at www1 or another server of it.
fn connection(client: &str, vip: &str, server: u8, state: &str, expires_in_s: u64) -> Connection {
    let [client, vip]: [SocketAddr; 2] = [client, vip].map(|text| text.parse().expect("an address"));
    Connection {
        protocol: "tcp".into(),
        client: client.ip(),
        client_port: client.port(),
        vip: vip.ip(),
        port: vip.port(),
        server_address: Some([211, 58, 250, 23 + 2 * server].into()),
        server_port: Some(vip.port()),
        service: Some("web".into()),
        server: format!("www{server}"),
        method: Some(Forwarding::Direct),
        state: state.into(),
        expires_in_s,
    }
}

/// The first part of a table; the last connection's server has left.
pub(super) fn first() -> Part {
    let dns = Connection {
        protocol: "udp".into(),
        service: Some("dns".into()),
        ..connection("10.0.0.9:5353", "211.58.250.7:53", 3, "UDP_UNPROVEN", 29)
    };
    let gone = Connection {
        server_address: None,
        server_port: None,
        service: None,
        server: "number 9".into(),
        method: None,
        ..connection("[2001:db8::7]:50000", "[2001:db8::6]:80", 1, "TIME_WAIT", 3)
    };
    let connections = vec![
        connection("192.168.100.200:41235", "211.58.250.6:80", 2, "FIN_WAIT", 7),
        connection("10.0.0.7:41234", "211.58.250.6:80", 1, "ESTABLISHED", 899),
        dns,
        gone,
    ];
    Part { connections, next: Some(4096) }
}

fn last() -> Part {
    let one = connection("10.0.0.8:41234", "211.58.250.6:80", 2, "ESTABLISHED", 60);
    Part { connections: vec![one], next: None }
}

/// Returns what is to be done then.
pub(super) fn answer(state: &mut State, ask: Ask, outcome: Result<Part, String>) -> Option<Effect> {
    answer_after(state, ask, outcome, Duration::ZERO)
}

fn answer_after(
    state: &mut State,
    ask: Ask,
    outcome: Result<Part, String>,
    took: Duration,
) -> Option<Effect> {
    state.update(Input::Listed(Box::new(Listed { ask, outcome, took })))
}

/// Time passes, and the director tells its status again.
fn wait(state: &mut State, seconds: u64) -> Option<Effect> {
    let last = state.now().expect("a snapshot");
    let at = last + Duration::from_secs(seconds);
    state.update(Input::Snapshot(Box::new(Snapshot { status: status(), events: events(), at })))
}

/// What the director is to list.
#[track_caller]
fn asked(effect: Option<Effect>) -> Ask {
    match effect {
        Some(Effect::List(ask)) => *ask,
        other => panic!("no listing: {other:?}"),
    }
}

fn from(from: u64, filter: Filter) -> Ask {
    Ask { filter, bounds: Bounds { from, limit: Some(PART) } }
}

/// Looks at everybody's connections, of which the first part is known.
fn looking() -> State {
    let mut state = state();
    let ask = asked(type_in(&mut state, "5"));
    assert_eq!(answer(&mut state, ask, Ok(first())), None);
    state
}

#[track_caller]
fn assert_shows(state: &State, words: &str) {
    let text = text(state, 100, 30);
    assert!(text.contains(words), "no {words:?} in\n{text}");
}

#[test]
fn the_director_is_asked_now_and_then_and_only_by_who_looks() {
    let mut state = state();
    assert_eq!(wait(&mut state, 60), None, "services are looked at");
    let ask = asked(type_in(&mut state, "5"));
    assert_eq!(ask, from(0, Filter::default()));
    assert_shows(&state, "The director is asked …");
    assert_eq!(wait(&mut state, 60), None, "one listing at a time");
    assert_eq!(answer(&mut state, ask.clone(), Ok(first())), None);
    assert_eq!((wait(&mut state, 9), state.rows()), (None, 4));
    assert_shows(&state, "9s old");
    assert_eq!(asked(wait(&mut state, 1)), ask);
    // A walk of two seconds is made once in twenty.
    answer_after(&mut state, ask.clone(), Ok(first()), Duration::from_secs(2));
    assert_eq!(wait(&mut state, 17), None);
    assert_eq!(asked(wait(&mut state, 1)), ask);
    answer(&mut state, ask.clone(), Ok(first()));
    assert_eq!(asked(type_in(&mut state, "r")), ask, "an operator wants it");
    answer(&mut state, ask, Ok(first()));
    type_in(&mut state, "?");
    assert_eq!(wait(&mut state, 60), None, "the help lies over it");
    asked(press(&mut state, [KeyCode::Esc]));
    assert_eq!(type_in(&mut state, "1"), None);
    assert_eq!(wait(&mut state, 60), None, "nobody looks any more");
}

#[test]
fn a_table_is_shown_part_by_part() {
    let mut state = looking();
    assert_shows(&state, "Connections 1 to 4 of about 1,536, 0s old");
    let ask = asked(type_in(&mut state, "n"));
    assert_eq!((&ask, state.rows()), (&from(4096, Filter::default()), 0));
    assert_eq!(type_in(&mut state, "n"), None, "where it goes on is not known yet");
    answer(&mut state, ask, Ok(last()));
    assert_shows(&state, "Connections 5 to 5 of 5, 0s old");
    assert_eq!(type_in(&mut state, "n"), None, "that was the last part");
    let ask = asked(type_in(&mut state, "b"));
    assert_eq!(ask, from(0, Filter::default()));
    answer(&mut state, ask, Ok(Part { connections: vec![], next: None }));
    assert_shows(&state, "The director knows no connection.");
}

#[test]
fn a_service_and_a_server_lead_to_their_connections_and_back() {
    let mut state = state();
    press(&mut state, [KeyCode::Down]);
    let dns = Filter { service: Some("dns".into()), protocol: Some("udp".into()), ..Filter::default() };
    assert_eq!(asked(type_in(&mut state, "c")), from(0, dns.clone()));
    assert_shows(&state, "5 Connections  of dns");
    answer(&mut state, from(0, dns), Ok(first()));
    assert_shows(&state, "Connections 1 to 4 of about 15, 0s old");
    assert_eq!(press(&mut state, [KeyCode::Esc]), None);
    assert_eq!((state.view, state.row), (View::Services, 1), "at dns again");

    press(&mut state, [KeyCode::Up, KeyCode::Enter, KeyCode::Down]);
    let www2 = Filter {
        service: Some("web".into()),
        server: Some("211.58.250.27:80".into()),
        protocol: Some("tcp".into()),
        ..Filter::default()
    };
    let ask = asked(type_in(&mut state, "c"));
    assert_eq!(ask, from(0, www2));
    assert_shows(&state, "5 Connections  of www2 of web");
    answer(&mut state, ask, Ok(Part { connections: vec![], next: None }));
    assert_shows(&state, "The director knows no such connection.");
    press(&mut state, [KeyCode::Esc]);
    assert_eq!((state.view, state.inside.as_deref()), (View::Servers, Some("web")));
    assert_eq!(state.selected_server().expect("a server").1.name, "www2");
    // All of them are another matter.
    assert_eq!(asked(type_in(&mut state, "5")), from(0, Filter::default()));
}

#[test]
fn a_client_is_asked_for_once_it_is_typed() {
    let mut state = looking();
    assert_eq!(type_in(&mut state, "/10.0.0.0/8"), None, "the director is not asked at each key");
    assert_shows(&state, "Client: 10.0.0.0/8_");
    assert_eq!((wait(&mut state, 60), state.rows()), (None, 4));
    let client = from(0, Filter { client: Some("10.0.0.0/8".into()), ..Filter::default() });
    assert_eq!(asked(press(&mut state, [KeyCode::Enter])), client);
    answer(&mut state, client.clone(), Ok(first()));
    // The director counts connections of services and servers, and no client's.
    assert_shows(&state, "Connections 1 to 4 of more than 4, 0s old");
    assert_shows(&state, "[10.0.0.0/8] ? help");
    // Another client, before the director has told of the one before.
    asked(type_in(&mut state, "r"));
    type_in(&mut state, "/");
    press(&mut state, [KeyCode::Backspace]);
    assert_eq!(press(&mut state, [KeyCode::Char('9'), KeyCode::Enter]), None, "one at a time");
    let other = from(0, Filter { client: Some("10.0.0.0/9".into()), ..Filter::default() });
    assert_eq!(asked(answer(&mut state, client, Ok(first()))), other);
    assert_eq!(state.rows(), 0, "what is told of another client is not shown");
    answer(&mut state, other, Err("it is neither this nor that".into()));
    assert_shows(&state, "The director lists no connections: it is neither this nor that");
    assert_eq!(asked(press(&mut state, [KeyCode::Esc])), from(0, Filter::default()));
    // Filters of other views are no clients.
    type_in(&mut state, "2/down");
    press(&mut state, [KeyCode::Enter]);
    type_in(&mut state, "5");
    assert_eq!((state.filter.as_str(), state.listing.client.as_str()), ("down", ""));
}

#[test]
fn what_is_known_stays_while_the_director_cannot_answer() {
    let mut state = looking();
    let ask = asked(wait(&mut state, 12));
    assert_eq!(answer(&mut state, ask.clone(), Err("no lb is listening".into())), None);
    assert_shows(&state, "No newer listing, what is shown is 12s old: no lb is listening");
    assert_eq!((wait(&mut state, 9), state.rows()), (None, 4));
    let ask = asked(wait(&mut state, 1));
    answer(&mut state, ask, Ok(first()));
    assert_shows(&state, "Connections 1 to 4 of about 1,536, 0s old");
}

#[test]
fn connections_are_sorted_and_the_selection_stays() {
    let mut state = looking();
    let first_of = |state: &mut State| {
        press(state, [KeyCode::Char('s'), KeyCode::Home]);
        let found = state.selected_connection().expect("a connection");
        (state.listing.sort.word(), found.client_port)
    };
    let wanted = [
        ("by client", 41_234),
        ("by state", 41_234),
        ("by server", 50_000),
        ("by VIP", 41_235),
        ("by expiry", 50_000),
        ("unsorted", 41_235),
    ];
    for wanted in wanted {
        assert_eq!(first_of(&mut state), wanted);
    }
    type_in(&mut state, "sj");
    assert_shows(&state, "of about 1,536, sorted among themselves, 0s old");
    press(&mut state, [KeyCode::Enter]);
    assert_shows(&state, "udp 10.0.0.9:5353 to 211.58.250.7:53 of dns");
    assert_shows(&state, "by server www3, 211.58.250.29:53, Route");
    assert_shows(&state, "UDP_UNPROVEN, forgotten in 29s if no packet comes");
    press(&mut state, [KeyCode::Esc]);
    // The one before it in this order has gone, and so its row is another one.
    let ask = asked(type_in(&mut state, "r"));
    press(&mut state, [KeyCode::Enter]);
    let mut fewer = first();
    fewer.connections.remove(1);
    answer(&mut state, ask, Ok(fewer));
    assert_eq!((state.row, &state.over), (0, &Some(Over::Details)));
    assert_eq!(state.selected_connection().expect("a connection").client_port, 5353);
    press(&mut state, [KeyCode::Esc]);
    let ask = asked(type_in(&mut state, "r"));
    press(&mut state, [KeyCode::Enter]);
    answer(&mut state, ask, Ok(last()));
    assert_eq!((state.row, &state.over), (0, &None), "no details of another connection");
}
