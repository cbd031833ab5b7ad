//! A configuration in several files, and with values from others, changed under traffic.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use lb_api::status::{ServiceStatus, Status};
use lb_lab::lab::Director;
use lb_lab::lab::director::{binary, wait_for};
use lb_lab::scenario::alone::{Alone, SERVICE};
use lb_lab::scenario::newcomers::Newcomers;
use serde_json::Value;

const TABLE: u32 = 10_000;
const CONNECTIONS: usize = 100;
const PACE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(60);

/// A service of an included file.
const EXTRA: &str = "\
services:
  # What the team has.
  - name: extra
    vip: 211.58.250.6:7778
    scheduler: wlc
    servers:
      - { name: www1, address: 211.58.250.25, weight: '${file:../weight}' }
";

fn extra(status: &Status) -> Option<&ServiceStatus> {
    status.services.iter().find(|service| service.name == "extra" && !service.draining)
}

/// Writes another file and moves it there, as editors do.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a new file");
    fs::rename(&new, path).expect("it is moved");
}

fn lb(words: &[&str]) -> Output {
    Command::new(binary().expect("lb")).args(words).output().expect("lb runs")
}

struct Files {
    main: PathBuf,
    included: PathBuf,
    weight: PathBuf,
}

/// Has the director's file include others, of which there are none yet.
fn split(director: &Director) -> Files {
    let main = director.configuration().expect("a file");
    let folder = main.with_file_name("services.d");
    fs::create_dir_all(&folder).expect("a folder");
    let files = Files {
        included: folder.join("extra.yaml"),
        weight: main.with_file_name("weight"),
        main: main.clone(),
    };
    let text = fs::read_to_string(&main).expect("the file");
    fs::write(&main, text.replace("services:\n", "include: [services.d/*.yaml]\nservices:\n"))
        .expect("writing");
    let warning = director.wait_for_event("config_warning", PATIENCE, |_| true).expect("a warning");
    let line = text.lines().position(|line| line == "services:").expect("a line") + 1;
    let wanted = format!("{}:{line}:11: include \"services.d/*.yaml\": no file matches", main.display());
    assert_eq!(warning.text, wanted);
    assert_eq!(director.status().expect("a status").config_error, None);
    files
}

#[test]
fn an_included_file_comes_changes_and_goes_under_traffic() {
    let alone = Alone::start("includes", TABLE).unwrap_or_else(|error| panic!("{error:#}"));
    let clients = alone.clients(CONNECTIONS, PACE).expect("the clients connect");
    let newcomers = Newcomers::start(&alone.talk.client, SERVICE, 1);
    let director = &alone.director;
    let Files { main, included, weight } = split(director);

    // It needs a file that is not there: told at its own line, and the old one stays.
    put(&included, EXTRA);
    let status = wait_for(director, "the missing file is told", |status| status.config_error.is_some());
    let told = status.config_error.as_deref().unwrap_or_default();
    let reference = format!("{}:7:55: cannot read ", included.display());
    assert!(told.starts_with(&reference) && told.contains("No such file"), "{told}");
    assert!(extra(&status).is_none() && status.serves("www1"));

    // The file that a value names is watched, too.
    fs::write(&weight, "3\n").expect("a file");
    let weighs = |weight: u16| {
        move |status: &Status| extra(status).is_some_and(|service| service.servers[0].weight == weight)
    };
    let status = wait_for(director, "the included service", weighs(3));
    assert_eq!(status.config_error, None);
    fs::write(&weight, "5\n").expect("a file");
    wait_for(director, "the other weight", weighs(5));

    put(&included, &EXTRA.replace("wlc", "rr"));
    let is_rr = |status: &Status| extra(status).is_some_and(|service| service.scheduler == "rr");
    wait_for(director, "the other scheduler", is_rr);

    let shown = director.order(&["diff"]).expect("the files are right");
    assert_eq!(shown, "the file is what runs\n");

    refused(director, &main, &included);
    put(&included, EXTRA);
    wait_for(director, "the mended file", |status| status.config_error.is_none() && weighs(5)(status));
    saved(director, &main, &included);

    fs::remove_file(&included).expect("it is removed");
    let status = wait_for(director, "the service is gone", |status| extra(status).is_none());
    assert_eq!(status.config_error, None);

    let served = newcomers.finish().expect("they asked");
    assert_eq!(served.failed, 0, "{served:?}");
    let outcome = clients.finish_intact();
    assert_eq!(outcome.datagrams_lost, 0, "{outcome:?}");
}

/// Mistakes name the file that has them, wherever they are told.
fn refused(director: &Director, main: &Path, included: &Path) {
    let cluster = "cluster: { nodes: [] }\n";
    put(included, &format!("{cluster}{}", EXTRA.replace("wlc", "wlcc").replace("extra", "again")));
    let names = |status: &Status, wanted: &str| {
        status.config_error.as_deref().is_some_and(|error| error.contains(wanted))
    };
    let keys = format!("{}:1:1: `cluster` cannot stand in an included file", included.display());
    let value = format!("{}:6:16: scheduler \"wlcc\"", included.display());
    let status = wait_for(director, "it is refused", |status| names(status, &keys) && names(status, &value));
    assert!(extra(&status).is_some_and(|service| service.scheduler == "rr"), "the old one stays");
    let diff = director.try_order(&["diff"]).expect("lb runs");
    assert_eq!(diff.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&diff.stderr).contains(&value), "{diff:?}");

    let path = main.to_str().expect("UTF-8");
    let check = lb(&["check", "--json", path]);
    assert_eq!(check.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&check.stdout).expect("JSON");
    assert_eq!((&found["schema"], &found["valid"]), (&"lb/check/1".into(), &false.into()));
    let mistakes = found["mistakes"].as_array().expect("mistakes");
    let all_here = mistakes.iter().all(|mistake| mistake["file"] == included.display().to_string());
    assert!(mistakes.len() == 2 && all_here, "{found}");
    assert_eq!((&mistakes[1]["line"], &mistakes[1]["column"]), (&6.into(), &16.into()), "{found}");

    // The same name twice names both.
    put(included, &EXTRA.replace("7778", "7777"));
    let line = fs::read_to_string(main).expect("the file");
    let line =
        line.lines().position(|line| line.contains("vip: 211.58.250.6:7777")).expect("the service") + 1;
    let both = format!("the service in line {line} of {path} already has this address");
    wait_for(director, "both are named", |status| {
        names(status, &both) && names(status, &format!("{}:4:10: vip", included.display()))
    });
}

/// What was changed at run time goes into the file that has the service. What references stand for
/// only the director need know.
fn saved(director: &Director, main: &Path, included: &Path) {
    let extra_text = EXTRA.replace("name: www1", "name: 'www1${env:HOME}'");
    put(included, &extra_text);
    let named = format!("www1{}", std::env::var("HOME").expect("a home"));
    wait_for(director, "the server's name from the environment", |status| {
        extra(status).is_some_and(|service| service.servers[0].name == named)
    });
    let before = fs::read_to_string(main).expect("the file");
    fs::set_permissions(included, fs::Permissions::from_mode(0o640)).expect("its mode");
    let told = director.order(&["add", "server", "extra", "211.58.250.27", "--name", "late"]).expect("added");
    assert_eq!(told, "+ server extra/late: 211.58.250.27, weight 1\n");
    let mut save = Command::new(binary().expect("lb"));
    save.args(["save", "--socket"]).arg(director.socket()).env_remove("HOME");
    let mut save = || {
        let Output { status, stdout, stderr } = save.output().expect("lb runs");
        (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
    };
    // Nothing that the director has not read yet is lost.
    let writer = fs::File::options().append(true).open(included).expect("the file");
    fs::write(included, format!("{extra_text}# a comment\n")).expect("writing");
    let (code, told) = save();
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("has changed since the director read it"), "{told}");
    // Nor is a file taken that somebody writes to.
    let add = director.try_order(&["add", "server", "extra", "211.58.250.28"]).expect("lb runs");
    let told = String::from_utf8_lossy(&add.stderr);
    assert!(add.status.code() == Some(1) && told.contains("has it open for writing"), "{told}");
    fs::write(included, &extra_text).expect("writing");
    drop(writer);
    director.order(&["reload"]).expect("the file is whole");

    assert_eq!(save(), (Some(0), format!("{} has what was changed at run time\n", included.display())));
    let text = fs::read_to_string(included).expect("the file");
    assert_eq!(text, extra_text + "      - { name: late, address: 211.58.250.27 }\n");
    assert_eq!(fs::metadata(included).expect("the file").permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_to_string(main).expect("the file"), before);
    wait_for(director, "the file's server", |status| {
        let server = extra(status).and_then(|service| service.servers.iter().find(|one| one.name == "late"));
        server.is_some_and(|server| server.source.is_none()) && status.overlay.is_empty()
    });
}
