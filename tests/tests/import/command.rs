//! The command itself: where it writes, when it fails, and that `lb check` takes what it writes.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use lb_lab::lab::director::binary;

use super::{cases, import};

/// All cases of the corpus, by the command, and then `lb check`.
#[test]
fn what_is_imported_passes_lb_check() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let target = folder.path().join("lb.yaml");
    let target = target.to_str().context("a path")?;
    for source in ["ldirectord", "heartbeat", "keepalived", "ipvsadm"] {
        for case in cases(source)? {
            let words: Vec<&str> = case.words.iter().map(String::as_str).chain(["-o", target]).collect();
            let result = import(&words, &case.folder)?;
            ensure!(result.succeeded, "{}: {}", case.name, result.said);
            assert_eq!(result.yaml, "", "{}: -o leaves standard output empty", case.name);
            let output = Command::new(binary()?).args(["check", target]).output()?;
            ensure!(output.status.success(), "{}: {}", case.name, String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(())
}

const GOOD: &str = "virtual=192.0.2.10:80\n    real=192.0.2.21:80 gate\n    service=http\n";

#[test]
fn strict_writes_nothing_if_a_line_is_lost() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ldirectord.cf");
    fs::write(&file, format!("callback=\"/bin/true\"\n{GOOD}"))?;
    let words = ["ldirectord", "ldirectord.cf"];
    let result = import(&words, folder.path())?;
    assert!(result.succeeded && result.count("lost") == 1, "{}", result.said);
    assert_eq!(result.report["schema"], "lb/import/1");
    let strict = import(&[&words[..], &["--strict"]].concat(), folder.path())?;
    assert!(!strict.succeeded && strict.yaml.is_empty(), "{}", strict.yaml);
    assert!(strict.said.contains("1 lines are lost (--strict)"), "{}", strict.said);
    fs::write(&file, GOOD)?;
    let strict = import(&[&words[..], &["--strict"]].concat(), folder.path())?;
    assert!(strict.succeeded, "{}", strict.said);
    Ok(())
}

#[test]
fn a_file_without_any_service_is_an_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("x.cf"), "checkinterval=3\n")?;
    let result = import(&["ldirectord", "x.cf"], folder.path())?;
    assert!(!result.succeeded && result.yaml.is_empty());
    assert!(result.said.contains("`services` is missing or empty"), "{}", result.said);
    let missing = import(&["ldirectord", "nowhere.cf"], folder.path())?;
    assert!(!missing.succeeded && missing.said.contains("cannot read nowhere.cf"), "{}", missing.said);
    Ok(())
}

/// `ipvsadm -S -n | lb import ipvsadm -`, with the report for people.
#[test]
fn rules_come_by_standard_input_and_the_report_is_for_people() -> Result<()> {
    let mut command = Command::new(binary()?);
    command.args(["import", "ipvsadm", "-", "--hosts", "/dev/null"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let rules = b"-A -t 192.0.2.10:80 -s wlc\n-a -t 192.0.2.10:80 -r 192.0.2.21:80 -g -w 3\n";
    child.stdin.take().context("a pipe")?.write_all(rules)?;
    let output = child.wait_with_output()?;
    let (yaml, report) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert!(output.status.success(), "{report}");
    assert!(yaml.contains("vip: 192.0.2.10:80") && yaml.contains("weight: 3"), "{yaml}");
    assert!(report.contains("2 lines: 2 kept, 0 changed, 0 not needed, 0 lost"), "{report}");
    Ok(())
}
