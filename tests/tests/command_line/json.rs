//! What `--json` prints is as its JSON schema says, which `lb config schema` prints.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use jsonschema::Validator;
use lb_lab::lab::director::binary;
use lb_lab::scenario::alone::{Alone, SERVICE};
use serde_json::{Deserializer, Value};

use super::{PATIENCE, text};

const WEB: &str = "tcp/211.58.250.6:7777";

/// Nobody listens there, so no message is taken.
const ALERTS: &str = "alerts: { receivers: [{ name: chat, webhook: { url: 'http://127.0.0.1:9/hook' } }] }\n";

/// What the command prints on the director's machine, however it ends.
fn printed(alone: &Alone, words: &[&str]) -> String {
    let lb = binary().expect("lb");
    let mut command: Command = alone.talk.ha1.command(lb.to_str().expect("UTF-8"));
    let output = command.args(words).env("LB_SOCKET", alone.director.socket()).output().expect("lb runs");
    text(&output.stdout)
}

fn schema(shape: &str) -> Validator {
    let output = Command::new(binary().expect("lb")).args(["config", "schema", shape]).output();
    let output = output.expect("lb runs");
    let schema = serde_json::from_slice(&output.stdout);
    let schema = schema.unwrap_or_else(|error| panic!("{shape}: {error}: {}", text(&output.stderr)));
    jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{shape}: {error}"))
}

/// All that was printed is of this shape, and it was something.
#[track_caller]
fn is_of(shape: &str, printed: &str) {
    let schema = schema(shape);
    let mut count = 0;
    for object in Deserializer::from_str(printed).into_iter::<Value>() {
        let object = object.unwrap_or_else(|error| panic!("{shape}: {error}: {printed}"));
        let errors = schema.iter_errors(&object);
        let errors: Vec<String> = errors.map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{shape}: {errors:#?}\n{object}");
        count += 1;
    }
    assert!(count > 0, "{shape}: nothing was printed");
}

/// A client that has sent something, and stays.
fn connect(alone: &Alone) -> TcpStream {
    let stream = alone.talk.client.run(|| TcpStream::connect(SERVICE)).expect("in the client's namespace");
    let mut stream = stream.expect("the service takes connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
    stream.write_all(b"x").expect("it sends");
    stream.read_exact(&mut [0]).expect("it is answered");
    stream
}

/// Two lines of a command that goes on, once `begun` has been called.
fn first_lines(alone: &Alone, word: &str, words: &[&str], begun: impl FnOnce()) -> String {
    let mut child = alone.director.start_piped(word, words).expect("lb starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    if word == "trace" {
        let mut first = String::new();
        let said = BufReader::new(child.stderr.take().expect("a pipe")).read_line(&mut first);
        assert!(said.is_ok() && first.starts_with("tracing for "), "{said:?}: {first}");
    }
    begun();
    let mut line = || lines.next().expect("more").expect("a line") + "\n";
    let both = line() + &line();
    child.kill().expect("it is there to be killed");
    child.wait().expect("an end");
    both
}

#[test]
fn what_is_printed_is_as_its_schema_says() {
    let alone = Alone::start("schemas", 10_000).unwrap_or_else(|error| panic!("{error:#}"));
    let open: Vec<TcpStream> = (0..3).map(|_| connect(&alone)).collect();
    let file = alone.director.configuration().expect("a file");
    let path = file.to_str().expect("UTF-8");
    let before = fs::read_to_string(&file).expect("the file");

    fs::write(&file, before.clone() + "announce_rate: 500\n" + ALERTS).expect("writing");
    is_of("lb/diff/1", &printed(&alone, &["diff", "--json"]));
    is_of("lb/reload/1", &printed(&alone, &["reload", "--json"]));
    is_of("lb/alert_test/1", &printed(&alone, &["alerts", "test", "--json"]));

    for words in [
        &["add", "server", WEB, "211.58.250.28", "--name", "late"] as &[&str],
        &["add", "service", "211.58.250.6:7778", "211.58.250.25"],
        &["remove", "server", WEB, "www2"],
    ] {
        assert_ne!(printed(&alone, words), "", "{words:?}");
    }
    is_of("lb/overlay/1", &printed(&alone, &["overlay", "show", "--json"]));

    is_of("lb/status/1", &printed(&alone, &["status", "--json"]));
    is_of("lb/status/1", &first_lines(&alone, "status", &["--json", "--watch", "0.5"], || {}));
    is_of("lb/event/1", &printed(&alone, &["events", "--json"]));
    is_of("lb/connection/1", &printed(&alone, &["connections", "--json"]));
    is_of("lb/client/1", &printed(&alone, &["top-clients", "--json"]));
    is_of("lb/probe/1", &printed(&alone, &["probe", WEB, "--json"]));
    let packets = first_lines(&alone, "trace", &["--json"], || drop(connect(&alone)));
    is_of("lb/packet/1", &packets);
    drop(open);

    is_of("lb/check/1", &printed(&alone, &["check", "--json", path]));
    let record = file.with_file_name("realserver.json");
    let record = record.to_str().expect("UTF-8");
    let doctor = ["doctor", "--json", "--config", path, "--record", record];
    is_of("lb/doctor/1", &printed(&alone, &doctor));
    fs::write(&file, before + "announce_rate: often\n").expect("writing");
    is_of("lb/check/1", &printed(&alone, &["check", "--json", path]));
}
