//! nsd, asked by dig and by a plain socket: answers and questions over UDP that take several
//! fragments each.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;

use lb_lab::lab::servers::catalog;
use lb_lab::lab::{Node, RealServer};

use crate::bed::{Bed, Case};

/// Records of the answer, each of which has so many letters.
const RECORDS: usize = 20;
const LETTERS: usize = 200;
/// Bytes of an EDNS option that no server knows, so of the question.
const OPTION: usize = 3_000;

fn texts() -> impl Iterator<Item = String> {
    (0..RECORDS).map(|number| format!("{number:0LETTERS$}"))
}

/// A name server that answers from the address that it was asked at: it listens at each of them.
pub(crate) fn start(node: &Node) -> RealServer {
    let server = RealServer::new(node, &catalog::NSD).expect("a configured server");
    let read = |name| fs::read_to_string(server.folder().expect("a folder").join(name)).expect("a file");
    let own: BTreeSet<IpAddr> = Case::all().into_iter().map(|case| case.destination(node)).collect();
    let mut more =
        "    ip-address: 127.0.0.1\n    ipv4-edns-size: 8192\n    ipv6-edns-size: 8192\n".to_owned();
    for address in own {
        writeln!(more, "    ip-address: {address}").expect("room");
    }
    let configuration = read("nsd.conf").replace("    ip-address: 0.0.0.0\n", &more);
    assert!(configuration.contains(&more), "{configuration}");
    server.write("nsd.conf", &configuration).expect("a configuration");
    let large: String = texts().map(|text| format!("large TXT \"{text}\"\n")).collect();
    server.write("lab.example.zone", &(read("lab.example.zone") + &large)).expect("a zone");
    server.start().expect("nsd starts");
    server
}

/// All of the answer comes by UDP.
pub(crate) fn dig(bed: &Bed, case: Case) {
    let [client, _] = case.clients().map(|client| client.to_string());
    let at = format!("@{}", case.vip());
    let words = ["+notcp", "+ignore", "+bufsize=8192", "+tries=4", "+timeout=5", "+short"];
    let mut dig = bed.far.command("dig");
    dig.args(["-r", "-b", &client, &at, "TXT", "large.lab.example"]).args(words);
    let output = dig.output().expect("dig runs");
    let [text, error] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let got: BTreeSet<&str> = text.lines().map(|line| line.trim_matches('"')).collect();
    let expected: Vec<String> = texts().collect();
    assert!(got == expected.iter().map(String::as_str).collect(), "{case:?}: {text}{error}");
}

/// dig asks by TCP what takes more than 512 bytes.
pub(crate) fn ask_at_length(bed: &Bed, case: Case) {
    const TXT: [u8; 2] = [0, 16];
    const INTERNET: [u8; 2] = [0, 1];
    let question = [&b"\x05large\x03lab\x07example\0"[..], &TXT, &INTERNET].concat();
    let option = [&[253, 233][..], &(OPTION as u16).to_be_bytes(), &[b'Z'; OPTION]].concat();
    // The root's name, type, bytes of an answer that fit, no flags, bytes of options.
    let additional = [&[0, 0, 41, 32, 0, 0, 0, 0, 0][..], &(option.len() as u16).to_be_bytes(), &option];
    // An id, a plain question, and how many records each section has.
    let head = [0x1b, 0x1b, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    let question = [&head[..], &question, &additional.concat()].concat();
    let answer = bed.datagrams(case, 53).ask(&question);
    assert_eq!((&answer[..2], answer[3] & 15), (&head[..2], 0), "{case:?}: no error");
    for text in texts() {
        let found = answer.windows(LETTERS).any(|window| window == text.as_bytes());
        assert!(found, "{case:?}: {} bytes lack {text}", answer.len());
    }
}
