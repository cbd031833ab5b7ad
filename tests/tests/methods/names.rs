//! dig and nsd: questions and answers over UDP that take several fragments each.

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
pub fn start(bed: &Bed, node: &Node) -> RealServer {
    let server = RealServer::new(node, &catalog::NSD).expect("a configured server");
    let read = |name| fs::read_to_string(server.folder().expect("a folder").join(name)).expect("a file");
    let own: BTreeSet<IpAddr> = Case::all().into_iter().map(|case| case.destination(node)).collect();
    let mut more =
        "    ip-address: 127.0.0.1\n    ipv4-edns-size: 8192\n    ipv6-edns-size: 8192\n".to_owned();
    own.iter().for_each(|address| drop(writeln!(more, "    ip-address: {address}")));
    let configuration = read("nsd.conf").replace("    ip-address: 0.0.0.0\n", &more);
    assert!(configuration.contains(&more) && bed.servers().contains(&node), "of {}", node.name());
    server.write("nsd.conf", &configuration).expect("a configuration");
    let large: String = texts().map(|text| format!("large TXT \"{text}\"\n")).collect();
    server.write("lab.example.zone", &(read("lab.example.zone") + &large)).expect("a zone");
    server.start().expect("nsd starts");
    server
}

/// All of the answer comes by UDP.
pub fn dig(bed: &Bed, case: Case) {
    let option = format!("+ednsopt=65001:{}", "5a".repeat(OPTION));
    let [client, _] = case.clients().map(|client| client.to_string());
    let at = format!("@{}", case.vip());
    let words = ["+notcp", "+ignore", "+bufsize=8192", "+tries=4", "+timeout=5", "+short", &option];
    let mut dig = bed.far.command("dig");
    dig.args(["-r", "-b", &client, &at, "TXT", "large.lab.example"]).args(words);
    let output = dig.output().expect("dig runs");
    let [text, error] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let got: BTreeSet<&str> = text.lines().map(|line| line.trim_matches('"')).collect();
    let expected: Vec<String> = texts().collect();
    assert!(got == expected.iter().map(String::as_str).collect(), "{case:?}: {text}{error}");
}
