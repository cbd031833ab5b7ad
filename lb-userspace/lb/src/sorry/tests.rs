//! The page as clients see it, and clients that mean no good. All on loopback, each test at an
//! address of its own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// A free port of 127.0.0.1.
fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
    listener.local_addr().expect("an address")
}

fn sorry(address: SocketAddr, page: Option<&Path>) -> Sorry {
    let mut sorry = Sorry::default();
    set(&mut sorry, address, page);
    sorry
}

fn set(sorry: &mut Sorry, address: SocketAddr, page: Option<&Path>) {
    sorry.set(&HashMap::from([(address, page.map(Path::to_owned))])).expect("a thread");
}

fn connect(address: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
                return stream;
            }
            Err(error) => assert!(Instant::now() < deadline, "nobody listens: {error}"),
        }
        sleep(Duration::from_millis(5));
    }
}

/// All that comes back.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).expect("sending");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and the end of the connection");
    answer
}

fn get(address: SocketAddr) -> String {
    ask(address, "GET /whatever?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")
}

#[test]
fn every_request_is_told_to_come_back() {
    let address = free();
    let _sorry = sorry(address, None);
    for request in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /any/path HTTP/1.0\r\n\r\n",
        "POST /form HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n",
    ] {
        let answer = ask(address, request);
        let first = answer.lines().next().unwrap_or_default();
        assert!(first.ends_with(" 503 Service Unavailable"), "{request:?}: {answer}");
        for wanted in ["retry-after: 10\r\n", "cache-control: no-store\r\n", "charset=utf-8\r\n"] {
            assert!(answer.to_lowercase().contains(wanted), "{wanted:?} is not in {answer}");
        }
        assert!(answer.ends_with(page::BUILT_IN), "{answer}");
    }
    let head = ask(address, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    let length = format!("content-length: {}\r\n", page::BUILT_IN.len());
    assert!(head.contains(" 503 ") && head.contains(&length) && head.ends_with("\r\n\r\n"), "{head}");
}

/// A request with a body of `length` bytes, all of which is sent before anything is read, as many
/// clients do.
fn upload(address: SocketAddr, headers: &str, length: usize) -> String {
    let mut stream = connect(address);
    let head = format!("POST /form HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).expect("sending");
    for piece in vec![b'x'; length].chunks(10_000) {
        stream.write_all(piece).expect("the body is taken");
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and the end of the connection");
    answer
}

#[test]
fn c5_whoever_uploads_sees_the_page() {
    let address = free();
    let _sorry = sorry(address, None);
    for length in [100, 16 * 1024, 200_000, 5_000_000] {
        for headers in ["", "Expect: 100-continue\r\n", "Connection: keep-alive\r\n"] {
            for _ in 0..5 {
                let answer = upload(address, headers, length);
                assert!(answer.starts_with("HTTP/1.1 503 "), "{length} bytes, {headers:?}: {answer}");
                assert!(answer.ends_with(page::BUILT_IN), "{answer}");
            }
        }
    }
    let half_closed = {
        let mut stream = connect(address);
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sending");
        stream.shutdown(Shutdown::Write).expect("no more to come");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert!(half_closed.ends_with(page::BUILT_IN), "{half_closed}");
    let mut late = connect(address);
    late.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").expect("sending");
    for _ in 0..20 {
        late.write_all(b"5\r\nhello\r\n").expect("a slow upload is taken");
        sleep(Duration::from_millis(20));
    }
    let mut answer = String::new();
    late.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with(page::BUILT_IN), "{answer}");
}

#[test]
fn c5_uploads_hold_nobody_up() {
    let address = free();
    let _sorry = sorry(address, None);
    // More than are served at once, and none of them ends after its answer.
    let mut slow: Vec<TcpStream> = (0..200).map(|_| connect(address)).collect();
    for stream in &mut slow {
        let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
        stream.write_all(head).expect("sending");
    }
    for stream in &mut slow {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer to an upload that goes on");
        assert!(answer.ends_with(page::BUILT_IN), "{answer}");
        stream.write_all(b"and on").expect("the connection is still there");
    }
    assert!(get(address).ends_with(page::BUILT_IN));
}

#[test]
fn the_operators_page_is_read_anew_each_time() {
    let (address, folder) = (free(), tempfile::tempdir().expect("a folder"));
    let page = folder.path().join("sorry.html");
    fs::write(&page, "<p>one").expect("a page");
    let mut sorry = sorry(address, Some(&page));
    assert!(get(address).ends_with("\r\n\r\n<p>one"));
    fs::write(&page, "<p>two").expect("a page");
    assert!(get(address).ends_with("\r\n\r\n<p>two"));
    assert_eq!(sorry.trouble(&address), None);

    fs::remove_file(&page).expect("no page");
    assert!(get(address).ends_with(page::BUILT_IN));
    let told = sorry.trouble(&address).expect("trouble");
    assert!(told.contains("sorry.html: No such file"), "{told}");
    fs::write(&page, vec![b'x'; 300_000]).expect("a page");
    assert!(get(address).ends_with(page::BUILT_IN));
    assert!(sorry.trouble(&address).is_some_and(|told| told.ends_with("more than 256 KiB")));
    nix::unistd::mkfifo(&folder.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    set(&mut sorry, address, Some(&folder.path().join("pipe")));
    assert!(get(address).ends_with(page::BUILT_IN), "a pipe is not waited for");
    set(&mut sorry, address, None);
    assert!(get(address).ends_with(page::BUILT_IN));
    assert_eq!(sorry.trouble(&address), None);
}

#[test]
fn a_port_that_is_taken_is_told_and_tried_again() {
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let sorry = sorry(address, None);
    let deadline = Instant::now() + PATIENCE;
    while sorry.trouble(&address).is_none() {
        assert!(Instant::now() < deadline, "no word of the port that is taken");
        sleep(Duration::from_millis(5));
    }
    let told = sorry.trouble(&address).expect("trouble");
    assert!(told.contains("another program listens there, or on all addresses"), "{told}");
    drop(taken);
    assert!(get(address).ends_with(page::BUILT_IN));
    assert_eq!(sorry.trouble(&address), None);
}

#[test]
fn an_address_that_this_host_does_not_have_can_be_listened_at() {
    // TEST-NET-3, which no host has.
    let address = SocketAddr::from(([203, 0, 113, 77], free().port()));
    let sorry = sorry(address, None);
    let here = || fs::read_to_string("/proc/net/tcp").expect("a list of sockets").contains("4D7100CB:");
    let deadline = Instant::now() + PATIENCE;
    while !here() {
        let trouble = sorry.trouble(&address);
        assert!(Instant::now() < deadline && trouble.is_none(), "{trouble:?}");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn clients_that_say_nothing_are_cut_off_and_others_have_their_turn() {
    let address = free();
    let _sorry = sorry(address, None);
    let mut silent: Vec<TcpStream> = (0..200).map(|_| connect(address)).collect();
    // More than are served at once: this one waits until the first of them have had their time.
    assert!(get(address).ends_with(page::BUILT_IN));
    let mut rest = Vec::new();
    silent[0].read_to_end(&mut rest).expect("the end of the connection");
    for stream in &silent {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

#[test]
fn an_endless_header_and_garbage_end_soon() {
    let address = free();
    let _sorry = sorry(address, None);
    for request in ["\x16\x03\x01 garbage\r\n\r\n", "GET / HTTP/1.1\r\nx: "] {
        let mut stream = connect(address);
        stream.write_all(request.as_bytes()).expect("sending");
        // Until it is refused to take more: a reset, or an answer that the header is too long.
        while stream.write_all(&[b'y'; 4096]).is_ok() {}
    }
    assert!(get(address).ends_with(page::BUILT_IN));
}

#[test]
fn what_is_not_wanted_any_more_ends() {
    let address = free();
    let mut sorry = sorry(address, None);
    get(address);
    sorry.set(&HashMap::new()).expect("nothing to start");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "it still listens");
        sleep(Duration::from_millis(5));
    }
}
