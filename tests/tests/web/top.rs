//! `lb top` on a real terminal: tmux.

use std::process::Command;
use std::time::Instant;

use lb_api::status::Status;
use lb_lab::cluster::Talk;
use lb_lab::lab::{Director, Node, director, shell, unique_name};
use lb_lab::scenario::kept_open::KeptOpen;

use super::{PATIENCE, configuration};

/// A terminal of 100 columns and 30 lines, with a tmux server of its own.
struct Terminal {
    socket: String,
}

impl Terminal {
    fn start(name: &str) -> Self {
        let terminal = Self { socket: name.to_owned() };
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "100",
            "-y",
            "30",
            "env PS1=ready: sh",
        ]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.socket]).args(arguments).env("TERM", "xterm-256color").env_remove("TMUX");
        shell::run(&mut command).expect("tmux (`cargo xtask setup` installs it)")
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return;
            }
            assert!(Instant::now() < deadline, "waited for {what}; the screen has:\n{screen}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    /// The screen from before is back, and so is the shell's echo.
    fn assert_restored(&self) {
        self.wait_for("the shell", |screen| screen.contains("ready:") && !screen.contains("1 Services"));
        self.keys(&["echo a$((6 * 7))b", "Enter"]);
        self.wait_for("an echo", |screen| screen.contains("a42b") && screen.contains("echo a$((6"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut command = Command::new("tmux");
        let _ = command.args(["-L", &self.socket, "kill-server"]).env_remove("TMUX").status();
    }
}

#[test]
fn top_on_a_terminal() {
    let name = unique_name("top");
    let talk = Talk::new(&name).expect("the cluster comes up");
    let director = Director::start(&talk.ha1, &configuration(&talk, "")).expect("lb starts on ha1");
    let both = |status: &Status| status.serves("www1") && status.serves("www2");
    director.wait_until("both servers up", PATIENCE, both).expect("both serve");
    let terminal = Terminal::start(&name);
    terminal.wait_for("the shell", |screen| screen.contains("ready:"));
    let lb = director::binary().expect("lb");
    terminal.keys(&[&format!("{} top --socket {}", lb.display(), director.socket().display()), "Enter"]);
    terminal.wait_for("the services", |screen| {
        screen.contains("1 Services") && screen.contains("211.58.250.6:80")
    });
    terminal.keys(&["Enter"]);
    terminal.wait_for("the servers of web", |screen| screen.contains("of web") && screen.contains("www2"));
    terminal.tmux(&["resize-window", "-x", "70", "-y", "15"]);
    terminal.wait_for("a smaller screen", |screen| screen.contains("www2") && screen.lines().count() <= 15);
    terminal.keys(&["Down", "d"]);
    terminal.wait_for("the question", |screen| screen.contains("Drain 211.58.250.27:80?"));
    terminal.keys(&["y"]);
    terminal.wait_for("what came of it", |screen| screen.contains("Done"));
    director
        .wait_until("www2 kept out", PATIENCE, |status| {
            status.server("www2").is_some_and(|server| server.effective_weight == 0)
        })
        .expect("www2 is kept out");
    // Escape and the next key would be one key, with Alt.
    terminal.keys(&["Enter"]);
    terminal.wait_for("the state", |screen| screen.contains("maintenance") && !screen.contains("Done"));
    terminal.keys(&["e"]);
    terminal.wait_for("the question", |screen| screen.contains("Enable 211.58.250.27:80?"));
    terminal.keys(&["y"]);
    director.wait_until("www2 back", PATIENCE, |status| status.serves("www2")).expect("www2 is back");
    terminal.wait_for("what came of it", |screen| screen.contains("Done"));
    terminal.keys(&["Enter", "3"]);
    terminal.wait_for("the events", |screen| screen.contains("www2"));
    look_at_connections(&terminal, &talk.client);
    terminal.keys(&["q"]);
    terminal.assert_restored();
}

/// All connections, those of web, and those of clients that have any and that have none.
fn look_at_connections(terminal: &Terminal, client: &Node) {
    let mut open = KeptOpen::open(client);
    open.get();
    let client = client.address().to_string();
    let shown = |screen: &str| screen.contains(&client) && screen.contains("ESTABLISHED");
    let services = |screen: &str| screen.contains("Servers Conn/s");
    terminal.keys(&["5"]);
    terminal.wait_for("the connection", |screen| screen.contains("Connections 1 to ") && shown(screen));
    terminal.keys(&["1"]);
    terminal.wait_for("the services", services);
    terminal.keys(&["c"]);
    terminal.wait_for("the connection of web", |screen| screen.contains("of web") && shown(screen));
    terminal.keys(&["/", "10.9.9.9", "Enter"]);
    terminal.wait_for("no connection", |screen| screen.contains("The director knows no such connection."));
    terminal.keys(&["/", "BSpace", "x", "Enter"]);
    terminal.wait_for("a refusal", |screen| screen.contains("is neither an address"));
    // Not Escape: it and the next key would be one key, with Alt.
    terminal.keys(&["Left"]);
    terminal.wait_for("the services again", services);
}

/// Run by [`a_panic_gives_the_terminal_back`], on its terminal.
#[test]
#[ignore = "another test runs it, on a terminal"]
fn panics_on_the_screen() {
    let outcome = lb_top::with_terminal(|_| panic!("on purpose"));
    outcome.expect("it never comes so far");
}

#[test]
fn a_panic_gives_the_terminal_back() {
    let terminal = Terminal::start(&unique_name("panic"));
    terminal.wait_for("the shell", |screen| screen.contains("ready:"));
    let me = std::env::current_exe().expect("this executable");
    terminal.keys(&[
        &format!("RUST_BACKTRACE=0 {} --ignored --nocapture top::panics_on_the_screen", me.display()),
        "Enter",
    ]);
    terminal.wait_for("the panic", |screen| screen.contains("on purpose") && screen.contains("1 failed"));
    terminal.assert_restored();
}
