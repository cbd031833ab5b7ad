//! The talk's own files run: two directors in the talk's network, by what `lb import` makes of
//! ha.cf, haresources, authkeys and ldirectord.cf, slips included.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_lab::cluster::{Talk, URL, WWW1_PAGE, WWW2_PAGE};
use lb_lab::lab::{Director, unique_name};

use super::cases;

/// Heartbeats come each two seconds, and a node is dead after nine.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn the_talks_files_run_as_they_are() -> Result<()> {
    let cases = cases("heartbeat")?;
    let case = cases.iter().find(|case| case.name == "heartbeat-talk").expect("the talk is in the corpus");
    let result = case.import()?;
    ensure!(result.succeeded && result.count("lost") == 0, "{}", result.said);

    let talk = Talk::new(&unique_name("import"))?;
    let line = talk.lab.serial_line("serial")?;
    let keys = talk.lab.state().folder().join("keys");
    fs::write(&keys, format!("1 {}\n", "5a".repeat(32)))?;
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600))?;
    let mut directors = Vec::new();
    for (place, (node, name)) in
        [(&talk.ha1, "ha1.wowlinux.com"), (&talk.ha2, "ha2.wowlinux.com")].into_iter().enumerate()
    {
        // What is of this machine: its name, the device, and where files may stand.
        let state = node.folder()?.join("state");
        let text = result
            .yaml
            .replace("node: ha1.wowlinux.com", &format!("node: {name}\n  state: {}", state.display()));
        let text = text.replace("/dev/ttyS0", &line.ends[place].display().to_string());
        let text = text.replace("/etc/lb/keys", &keys.display().to_string());
        directors.push(Director::start(node, &text)?);
    }
    let [ha1, ha2] = &directors[..] else { unreachable!("two directors were started") };
    let both =
        |status: &lb_api::status::Status| status.serves("211.58.250.25") && status.serves("211.58.250.27");
    ha1.wait_until("ha1 active", PATIENCE, |status| status.held_by("ha1.wowlinux.com") && both(status))?;
    ha2.wait_until("ha2 waits", PATIENCE, |status| status.held_by("ha1.wowlinux.com") && both(status))?;
    let pages: Vec<String> = (0..4).map(|_| talk.client.get(URL)).collect::<Result<_>>()?;
    for page in [WWW1_PAGE, WWW2_PAGE] {
        assert_eq!(pages.iter().filter(|got| got.contains(page)).count(), 2, "{pages:?}");
    }
    ha1.kill()?;
    ha2.wait_until("ha2 takes over", PATIENCE, |status| status.held_by("ha2.wowlinux.com"))?;
    assert!(talk.client.get(URL)?.contains("Test Page of www"));
    Ok(())
}
