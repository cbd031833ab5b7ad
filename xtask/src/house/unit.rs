//! How systemd rates the units, by what it may do that a service need not.

use std::fs;
use std::process::Command;

use crate::workspace;

/// Ten times the exposure, 0 to 100, that `systemd-analyze security` may find at most.
const UNIT: u32 = 25;
/// With what a cluster adds: heartbeats with a real-time priority.
const CLUSTER: u32 = 26;
/// With all that a cluster with serial lines and groups of `kind: anycast` adds.
const WITH_ALL: u32 = 28;
/// `lb-kube` needs none of the director's powers.
const LB_KUBE: u32 = 16;

/// What the tool says of a unit with this text, and whether its exposure is at most `most`.
fn rating(text: &str, most: u32) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = folder.path().join("lb.service");
    fs::write(&unit, text).expect("a file");
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager", &format!("--threshold={most}")]).arg(&unit);
    let output = command.output().expect("systemd-analyze, of Debian's package systemd, runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = said + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Overall exposure level"), "{said}");
    (output.status.success(), said)
}

fn file(name: &str) -> String {
    fs::read_to_string(workspace::root().join("deploy/systemd").join(name)).expect("a file of the unit")
}

fn dropin(name: &str) -> String {
    file(&format!("lb.service.d/{name}.conf"))
}

#[test]
fn units_are_exposed_no_more_than_they_must() {
    let unit = file("lb.service");
    let (fits, said) = rating(&unit, UNIT);
    assert!(fits, "{said}");
    // What is appended counts as what comes later: as drop-ins do.
    let (fits, said) = rating(&[unit.clone(), dropin("cluster")].join("\n"), CLUSTER);
    assert!(fits, "{said}");
    let (fits, said) =
        rating(&[unit, dropin("cluster"), dropin("serial"), dropin("anycast")].join("\n"), WITH_ALL);
    assert!(fits, "{said}");
    let (fits, said) = rating(&file("lb-kube.service"), LB_KUBE);
    assert!(fits, "{said}");
    let (fits, said) = rating("[Service]\nExecStart=/bin/true\n", UNIT);
    assert!(!fits, "one without any restriction is told apart: {said}");
}
