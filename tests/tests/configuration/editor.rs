//! An editor with a YAML language server: it completes the configuration's keys and values and
//! marks its mistakes, by the schema that the example's first line names.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use lb_lab::lab::editor::language_server;
use lb_lab::workspace;
use serde_json::{Value, json};

/// A busy machine starts Node.js slowly.
const PATIENCE: Duration = Duration::from_secs(120);

struct Editor {
    server: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    uri: String,
    text: String,
    version: u64,
}

impl Editor {
    /// Opens the example `name`.
    fn open(name: &str) -> Self {
        let program = language_server();
        assert!(program.exists(), "{} is not there: `cargo xtask setup` fetches it", program.display());
        let mut command = Command::new("node");
        command.arg(&program).arg("--stdio").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn().expect("Node.js starts");
        let mut output = BufReader::new(server.stdout.take().expect("a pipe"));
        let (sender, messages) = channel();
        thread::spawn(move || {
            while let Some(message) = read(&mut output)
                && sender.send(message).is_ok()
            {}
        });
        let path = workspace::root().join("deploy/examples").join(name);
        let text = std::fs::read_to_string(&path).expect("the example");
        let input = server.stdin.take().expect("a pipe");
        let uri = format!("file://{}", path.display());
        let mut editor = Self { server, input, messages, uri, text, version: 1 };
        let capabilities = json!({
            "textDocument": { "completion": { "completionItem": { "documentationFormat": ["plaintext"] } } }
        });
        editor
            .ask("initialize", &json!({ "processId": null, "rootUri": null, "capabilities": capabilities }));
        editor.tell("initialized", &json!({}));
        // Nothing is looked for on the Internet.
        let settings = json!({ "yaml": {
            "validate": true, "completion": true, "hover": true, "schemaStore": { "enable": false }, "format": { "enable": false }
        } });
        editor.tell("workspace/didChangeConfiguration", &json!({ "settings": settings }));
        let document = json!({ "uri": editor.uri, "languageId": "yaml", "version": 1, "text": editor.text });
        editor.tell("textDocument/didOpen", &json!({ "textDocument": document }));
        editor
    }

    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{text}", text.len()).expect("the server reads");
        self.input.flush().expect("the server reads");
    }

    fn tell(&mut self, method: &str, parameters: &Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": parameters }));
    }

    /// What the server answers.
    fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.version += 1;
        let id = self.version;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": parameters }));
        self.until(method, |message| (message["id"] == id).then(|| message["result"].clone()))
    }

    /// The next message that `wanted` takes. What the server asks for in the meantime it gets no
    /// answer of substance to.
    fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> Option<Value>) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let Ok(message) = self.messages.recv_timeout(rest) else {
                panic!("{what}: the language server says only {seen:#?}");
            };
            if message.get("method").is_some() && message.get("id").is_some() {
                self.send(&json!({ "jsonrpc": "2.0", "id": message["id"], "result": null }));
            } else if let Some(found) = wanted(&message) {
                return found;
            }
            seen.push(message);
        }
    }

    /// Writes `new` in place of `old` for the time of `look`.
    fn with<T>(&mut self, old: &str, new: &str, look: impl FnOnce(&mut Self) -> T) -> T {
        assert_eq!(self.text.matches(old).count(), 1, "{old}");
        let before = self.text.clone();
        self.change(before.replace(old, new));
        let seen = look(self);
        self.change(before);
        seen
    }

    fn change(&mut self, text: String) {
        self.version += 1;
        let document = json!({ "uri": self.uri, "version": self.version });
        let changes = json!({ "textDocument": document, "contentChanges": [{ "text": text }] });
        self.tell("textDocument/didChange", &changes);
        self.text = text;
    }

    /// Waits until the server marks exactly one mistake, which is in the line that begins so;
    /// `None`: none at all.
    fn marks(&mut self, line: Option<&str>) -> String {
        let position = line.map(|line| {
            let is_it = |text: &str| text.trim_start().starts_with(line);
            self.text.lines().position(is_it).unwrap_or_else(|| panic!("no line {line}"))
        });
        let uri = self.uri.clone();
        let found = self.until(&format!("{line:?} is marked"), |message| {
            let is_it =
                message["method"] == "textDocument/publishDiagnostics" && message["params"]["uri"] == *uri;
            let marks = message["params"]["diagnostics"].as_array().filter(|_| is_it)?;
            match (position, marks.as_slice()) {
                (None, []) => Some(Value::Null),
                (Some(line), [mark]) if mark["range"]["start"]["line"] == line => {
                    Some(mark["message"].clone())
                }
                _ => None,
            }
        });
        found.as_str().unwrap_or_default().to_owned()
    }

    /// What is offered at the end of the line that begins so.
    fn offers(&mut self, line: &str) -> Vec<String> {
        let is_it = |(_, text): &(usize, &str)| text.trim_start().starts_with(line);
        let (number, text) = self.text.lines().enumerate().find(is_it).expect("a line");
        let position = json!({ "line": number, "character": text.chars().count() });
        let parameters = json!({ "textDocument": { "uri": self.uri }, "position": position });
        let answer = self.ask("textDocument/completion", &parameters);
        let items = answer["items"].as_array().cloned().unwrap_or_default();
        items.iter().filter_map(|item| item["label"].as_str().map(str::to_owned)).collect()
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// A message of the protocol: headers, an empty line, JSON.
fn read(output: &mut impl BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut header = String::new();
        if output.read_line(&mut header).ok()? == 0 {
            return None;
        }
        match header.trim().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?;
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut text = vec![0; length];
    output.read_exact(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[test]
fn an_editor_completes_keys_and_values_and_marks_mistakes() {
    let mut editor = Editor::open("full.yaml");
    assert_eq!(editor.marks(None), "");
    let told = editor
        .with("    scheduler: wlc ", "    scheduler: wcl ", |editor| editor.marks(Some("scheduler: wcl")));
    assert!(told.contains("wlc"), "{told}");
    editor.marks(None);
    let told = editor
        .with("    scheduler: wlc ", "    shceduler: wlc ", |editor| editor.marks(Some("shceduler: wlc")));
    assert!(told.contains("shceduler"), "{told}");
    editor.marks(None);
    let told =
        editor.with("        rise: 1 ", "        rise: 101 ", |editor| editor.marks(Some("rise: 101")));
    assert!(told.contains("100"), "{told}");
    editor.marks(None);

    let offered = editor.with("    scheduler: wlc ", "    sche\n    # ", |editor| editor.offers("sche"));
    assert!(offered.iter().any(|offer| offer == "scheduler"), "{offered:?}");
    let offered =
        editor.with("    scheduler: wlc ", "    scheduler: \n    # ", |editor| editor.offers("scheduler:"));
    for name in ["rr", "wlc", "twos"] {
        assert!(offered.iter().any(|offer| offer == name), "{name} is not among {offered:?}");
    }
}
