//! Packets in and out as data, in `tests/fixtures/packets`; how to write them stands there.

mod matrix;

use std::path::Path;

use lb_tests::fixtures::case::{File, Step};
use lb_tests::fixtures::check::check;
use lb_tests::fixtures::replay::{Report, replay};

macro_rules! files {
    ($($name:literal)*) => {
        /// Compiled in: guests of `cargo xtask test --kernels` have no files.
        pub(crate) const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../fixtures/packets/", $name)))),*];
    };
}

files! {
    "direct.txt"
    "ipip4.txt"
    "ipip6.txt"
    "gue4.txt"
    "gue6.txt"
    "gre4.txt"
    "gre6.txt"
    "host.txt"
    "host-fallback.txt"
    "refuse.txt"
    "strays-by-hash.txt"
    "one-packet.txt"
    "least-connections.txt"
    "small-table.txt"
    "directors.txt"
    "malformed.txt"
    "icmp.txt"
    "fragments.txt"
    "leases.txt"
    "masq.txt"
    "masq-tags.txt"
    "masq-ports.txt"
    "masq-vlan.txt"
    "masq-ops.txt"
    "source-nat.txt"
    "source-nat-tags.txt"
    "vlan-kept.txt"
    "vlan-added.txt"
    "vlan-changed.txt"
    "vlan-removed.txt"
    "qinq-added.txt"
    "qinq-removed.txt"
    "persistent.txt"
    "persistent-prefix.txt"
    "persistent-apart.txt"
}

fn play(name: &str, text: &str) -> Report {
    let file = File::parse(name, text).unwrap_or_else(|error| panic!("{error:#}"));
    replay(&file).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn packets_in_and_out_are_as_recorded() {
    let mut cases = 0;
    let mut differences = Vec::new();
    for (name, text) in FILES {
        let report = play(name, text);
        cases += report.cases;
        differences.extend(report.differences);
    }
    let shown = differences.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{} differences, the first of them:\n{shown}", differences.len());
    assert!(cases >= 400, "{cases} cases");
}

/// By a model that knows nothing of how the program is built.
#[test]
fn recorded_packets_are_what_the_model_says() {
    let (mut packets, mut differences) = (0, Vec::new());
    for (name, text) in FILES {
        let file = File::parse(name, text).unwrap();
        let (checked, differ) = check(&file).unwrap_or_else(|error| panic!("{error:#}"));
        packets += checked;
        differences.extend(differ);
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    assert!(packets > 1000, "{packets} packets");
}

/// Rules that hold of whatever is recorded: checksums are right, and what goes through a tunnel is
/// the packet that came.
#[test]
fn recorded_packets_are_sound() {
    let mut tunnelled = 0;
    for (name, text) in FILES {
        let file = File::parse(name, text).unwrap();
        let steps = file.cases.iter().flat_map(|case| &case.steps);
        for packet in
            steps.filter_map(|step| if let Step::Packet(packet) = step { Some(packet) } else { None })
        {
            let at = format!("{name}, line {}", packet.line);
            // The outer checksum of GUE may be missing.
            let out = packet.out.replace("> 6080 sum 0x0000", "> 6080");
            assert!(!out.contains(" sum ") || packet.description.contains(" sum "), "{at}: a wrong checksum");
            assert!(!out.contains("hex"), "{at}: bytes that nobody can read");
            if out.contains("> far") {
                assert!(out.ends_with(" / in") || out.contains(" / in / "), "{at}: not as it came");
                tunnelled += 1;
            }
        }
    }
    assert!(tunnelled > 400, "{tunnelled} packets in tunnels");
}

/// Writes what the program does into the files, for a person to look at before it is committed.
#[test]
#[ignore = "rewrites the fixtures"]
fn record() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/packets");
    for (name, _) in FILES {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, play(name, &text).rewritten(&text)).unwrap();
    }
}
