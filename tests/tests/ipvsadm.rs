//! ipvsadm's commands that change the table, on a real director with real servers and clients.

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use lb_api::status::Status;
use lb_lab::cluster::VIP;
use lb_lab::lab::director::{binary, wait_for};
use lb_lab::lab::{Director, Node, originals};
use lb_lab::scenario::alone::{Alone, SERVICE};

const PATIENCE: Duration = Duration::from_secs(60);
const WEB: &str = "211.58.250.6:7777";

/// As the file has it.
const SAVED: &str = "\
-A -t 211.58.250.6:7777 -s rr
-a -t 211.58.250.6:7777 -r 211.58.250.25:7777 -g -w 1
-a -t 211.58.250.6:7777 -r 211.58.250.27:7777 -g -w 1
-A -u 211.58.250.6:7777 -s wlc
-a -u 211.58.250.6:7777 -r 211.58.250.25:7777 -g -w 1
";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn told(output: Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Exit code, standard output and standard error of `lb ipvsadm`.
fn ended(director: &Director, words: &[&str]) -> (Option<i32>, String, String) {
    told(director.try_order(&[&["ipvsadm"], words].concat()).expect("lb runs"))
}

/// It must succeed, and says nothing.
#[track_caller]
fn done(director: &Director, words: &[&str]) {
    assert_eq!(ended(director, words), (Some(0), String::new(), String::new()), "{words:?}");
}

#[track_caller]
fn refused(director: &Director, words: &[&str], code: i32, why: &str) {
    let (ended, out, said) = ended(director, words);
    assert!(ended == Some(code) && out.is_empty() && said.contains(why), "{words:?}: {ended:?} {said}");
}

#[track_caller]
fn printed(director: &Director, words: &[&str]) -> String {
    director.order(words).unwrap_or_else(|error| panic!("{words:?}: {error:#}"))
}

fn rules(director: &Director) -> String {
    printed(director, &["ipvsadm", "-S", "-n"])
}

fn overlay(director: &Director) -> String {
    printed(director, &["overlay", "show"])
}

/// `ipvsadm -R` with this on standard input.
fn restored(director: &Director, rules: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary().expect("lb"));
    command.arg("ipvsadm").arg("--socket").arg(director.socket()).arg("-R");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut lb = command.spawn().expect("lb starts");
    lb.stdin.take().expect("its input").write_all(rules.as_bytes()).expect("it reads");
    told(lb.wait_with_output().expect("it ends"))
}

/// A connection whose server echoes a word.
fn connect(client: &Node, service: SocketAddrV4) -> io::Result<TcpStream> {
    let mut stream = client.run(move || TcpStream::connect(service)).expect("in the client's namespace")?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(b"word")?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"word");
    Ok(stream)
}

/// Connections, packets and bytes in of a service, by `--stats`.
fn counted(director: &Director) -> [u64; 3] {
    let stats = printed(director, &["ipvsadm", "-Ln", "--stats", "--exact", "-t", WEB]);
    let row: Vec<&str> = stats.lines().nth(2).unwrap_or_default().split_whitespace().collect();
    let [_, _, connections, packets, _, bytes, _] = row[..] else { panic!("{stats}") };
    let number = |count: &str| count.parse().unwrap_or_else(|error| panic!("{error}: {stats}"));
    [connections, packets, bytes].map(number)
}

fn usable(status: &Status, servers: usize) -> bool {
    let service = status.services.iter().find(|service| service.protocol == "tcp" && !service.draining);
    service.is_some_and(|service| {
        service.servers.iter().filter(|server| server.effective_weight > 0).count() == servers
    })
}

#[test]
fn a_table_is_cleared_and_restored() {
    let mut alone = Alone::start("cleared", 10_000).unwrap_or_else(|error| panic!("{error:#}"));
    let director = &alone.director;
    let saved = rules(director);
    assert_eq!(saved, SAVED);
    let (code, out, said) = ended(director, &["-C"]);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{said}");
    let words = "lb ipvsadm: 2 services are removed at run time; the configuration file is as it was, and \
                 `lb overlay clear` brings back what it has\n";
    assert_eq!(said, words);
    assert_eq!(rules(director), "");
    let removed = "cli: - service tcp/211.58.250.6:7777\ncli: - service udp/211.58.250.6:7777\n";
    assert_eq!(overlay(director), removed);
    done(director, &["-C"]);
    // No file is without services.
    let (code, _, said) = told(director.try_order(&["save"]).expect("lb runs"));
    assert!(code == Some(1) && said.contains("no service is left"), "{said}");
    printed(director, &["reload"]);
    assert_eq!(rules(director), "", "over a reload");
    director.kill().expect("lb is killed");
    alone.director.restart().expect("lb starts again, without a service");
    let director = &alone.director;
    assert_eq!(rules(director), "");

    assert_eq!(restored(director, &saved), (Some(0), String::new(), String::new()));
    assert_eq!(rules(director), saved, "byte for byte");
    wait_for(director, "both servers usable", |status| usable(status, 2));
    drop(connect(&alone.talk.client, SERVICE).expect("a connection"));
    let status = director.status().expect("a status");
    assert!(status.services.iter().all(|service| service.source.as_deref() == Some("cli")), "{status:?}");
    let again = restored(director, &saved);
    assert_eq!(again, (Some(255), String::new(), "line 1: Service already exists\n".to_owned()));
    // All or nothing.
    let wrong = "-A -t 211.58.250.6:7779 -s rr\n-a -t 211.58.250.6:7779 -r 211.58.250.25\n\
                 -A -t 211.58.250.6:7780 -s none\n";
    let (code, _, said) = restored(director, wrong);
    assert_eq!((code, said.as_str()), (Some(255), "line 3: Scheduler or persistence engine not found\n"));
    let wrong = "-A -t 211.58.250.6:7779 -s rr\n-A -u 211.58.250.6:7779 -o\n";
    let (code, _, said) = restored(director, wrong);
    assert!(code == Some(1) && said.contains("+ service 211.58.250.6:7779: ops"), "{said}");
    assert_eq!(rules(director), saved);

    let path = director.configuration().expect("a file");
    let file = fs::read_to_string(&path).expect("the file");
    printed(director, &["overlay", "clear"]);
    assert_eq!((rules(director), overlay(director)), (saved, String::new()));
    assert_eq!(fs::read_to_string(&path).expect("the file"), file, "it is the operator's");
}

#[test]
fn services_are_added_edited_and_deleted() {
    const NEW: &str = "211.58.250.6:7778";
    let alone = Alone::start("edited", 10_000).unwrap_or_else(|error| panic!("{error:#}"));
    let (director, client) = (&alone.director, &alone.talk.client);
    for _ in 0..2 {
        done(director, &["-A", "-t", NEW, "-s", "sh", "-b", "sh-port", "-p", "600", "-M", "255.255.255.0"]);
        let line = format!("-A -t {NEW} -s sh -p 600 -M 255.255.255.0 -b sh-port\n");
        assert!(rules(director).contains(&line), "{}", rules(director));
        let service = SocketAddrV4::new(VIP, 7778);
        let nobody = connect(client, service).expect_err("there is no server");
        assert_eq!(nobody.kind(), ErrorKind::ConnectionRefused, "as IPVS has it");
        refused(director, &["-A", "-t", NEW], 255, "Service already exists\n");
        let (code, _, said) = told(director.try_order(&["save"]).expect("lb runs"));
        assert!(code == Some(1) && said.contains("tcp/211.58.250.6:7778 has no server"), "{said}");
        done(director, &["-a", "-t", NEW, "-r", "211.58.250.25", "-w", "2"]);
        done(director, &["-E", "-t", NEW]);
        let lines = format!("-A -t {NEW} -s wlc\n-a -t {NEW} -r 211.58.250.25:7778 -g -w 2\n");
        assert!(rules(director).contains(&lines), "what -E does not say is reset: {}", rules(director));
        done(director, &["-d", "-t", NEW, "-r", "211.58.250.25"]);
        assert!(rules(director).contains(&format!("-A -t {NEW} -s wlc\n-A -u")), "{}", rules(director));
        done(director, &["-D", "-t", NEW]);
        assert_eq!(overlay(director), "", "nothing piles up");
    }

    // One of the file's.
    done(director, &["-E", "-t", WEB, "-s", "wrr", "-p", "60"]);
    done(director, &["-E", "-t", WEB, "-s", "wrr", "-p", "90"]);
    assert_eq!(overlay(director), "cli: ~ service tcp/211.58.250.6:7777\n");
    assert!(rules(director).starts_with("-A -t 211.58.250.6:7777 -s wrr -p 90\n"), "{}", rules(director));
    drop(connect(client, SERVICE).expect("it serves"));
    done(director, &["-E", "-u", WEB, "-s", "rr", "-o"]);
    done(director, &["-e", "-t", WEB, "-r", "211.58.250.25", "-w", "6", "-x", "50"]);
    done(director, &["-e", "-t", WEB, "-r", "211.58.250.25:7777", "-w", "7", "-x", "60"]);
    assert_eq!(
        overlay(director).matches("~ server tcp/211.58.250.6:7777/").count(),
        1,
        "{}",
        overlay(director)
    );
    assert!(rules(director).contains("-r 211.58.250.25:7777 -g -w 7\n"), "{}", rules(director));
    let saved = rules(director);
    assert!(saved.contains("-A -u 211.58.250.6:7777 -s rr -o\n"), "{saved}");
    printed(director, &["save"]);
    assert_eq!((rules(director), overlay(director)), (saved, String::new()));
    let file = fs::read_to_string(director.configuration().expect("a file")).expect("the file");
    assert!(file.contains("scheduler: wrr\n") && file.contains("persistence: { timeout: 90s }\n"), "{file}");
    assert!(file.contains("weight: 7") && file.contains("upper_threshold: 60"), "{file}");

    for (words, code, why) in [
        (&["-E", "-t", NEW] as &[&str], 255, "No such service\n"),
        (&["-D", "-t", NEW], 255, "No such service\n"),
        (&["-e", "-t", NEW, "-r", "211.58.250.25"], 255, "Service not defined\n"),
        (&["-e", "-t", WEB, "-r", "211.58.250.99"], 255, "No such destination\n"),
        (&["-e", "-t", WEB, "-r", "211.58.250.25", "-y", "5"], 1, "upper_threshold"),
        (&["-Z", "-t", NEW], 255, "No such service\n"),
        (&["-a", "-t", NEW, "-r", "211.58.250.25"], 255, "Service not defined\n"),
        (&["-A", "-t", NEW, "-s", "none"], 255, "Scheduler or persistence engine not found\n"),
        (&["-A", "-t", NEW, "-s", "lblc"], 2, "lb has no lblc"),
        (&["-E", "-t", WEB, "-s", "lblcr"], 2, "lb has no lblcr"),
        (&["-A", "-f", "1"], 2, "lb has no firewall marks"),
        (&["-A", "-t", "211.58.250.6"], 2, "Zero port specified for non-persistent service\n"),
        (&["-A", "-u", NEW, "-o"], 1, "expected `scheduler: rr`"),
        (&["-A", "-t", NEW, "-p", "2000000"], 1, "timeout \"2000000s\""),
    ] {
        refused(director, words, code, why);
    }
    assert_eq!(overlay(director), "");
}

/// What listings count begins anew; what metrics count does not.
#[test]
fn counters_are_zeroed_for_listings_alone() {
    let alone = Alone::start("zeroed", 10_000).unwrap_or_else(|error| panic!("{error:#}"));
    let (director, client) = (&alone.director, &alone.talk.client);
    let totals = |status: &Status| {
        let service = status.services.iter().find(|service| service.protocol == "tcp").expect("the service");
        let servers: u64 = service.servers.iter().map(|server| server.connections).sum();
        servers + service.departed.connections
    };
    let open: Vec<TcpStream> = (0..6).map(|_| connect(client, SERVICE).expect("a connection")).collect();
    drop(open);
    wait_for(director, "all six counted and closed", |status| {
        let servers = status.services.iter().flat_map(|service| &service.servers);
        totals(status) == 6 && servers.into_iter().all(|server| server.active == 0)
    });
    let [connections, packets, bytes] = counted(director);
    assert!(connections == 6 && packets >= 18 && bytes >= 40 * packets, "{connections} {packets} {bytes}");

    done(director, &["-Z", "-u", WEB]);
    assert_eq!(counted(director)[0], 6, "only that of UDP");
    done(director, &["-Z"]);
    assert_eq!(counted(director)[0], 0);
    drop((0..2).map(|_| connect(client, SERVICE).expect("a connection")).collect::<Vec<TcpStream>>());
    let status = wait_for(director, "eight connections in all", |status| totals(status) == 8);
    let mut servers = status.services.iter().flat_map(|service| &service.servers);
    assert!(servers.any(|server| server.zeroed.connections == 3), "{status:?}");
    assert_eq!(counted(director)[0], 2);
    // It is so when a server leaves.
    done(director, &["-d", "-t", WEB, "-r", "211.58.250.27"]);
    let status = wait_for(director, "its totals at the service", |status| {
        status.services.iter().any(|service| service.departed.connections == 4)
    });
    assert_eq!((totals(&status), counted(director)[0]), (8, 2));
    done(director, &["-Z", "-t", WEB]);
    assert_eq!(counted(director)[0], 0);
    assert_eq!(totals(&director.status().expect("a status")), 8);
    let events = director.events().expect("events").into_iter();
    let zeroed = events.filter(|event| event.event == "counters_zeroed");
    let services: Vec<Option<String>> = zeroed.map(|event| event.service).collect();
    let [tcp, udp] = ["tcp", "udp"].map(|protocol| Some(format!("{protocol}/{WEB}")));
    assert_eq!(services, [udp, None, tcp]);
    // A service that was deleted is gone for ipvsadm, while a connection of it goes on.
    let open = connect(client, SERVICE).expect("a connection");
    done(director, &["-D", "-t", WEB]);
    let status = director.status().expect("a status");
    assert!(
        status.services.iter().any(|service| service.protocol == "tcp" && service.draining),
        "{status:?}"
    );
    refused(director, &["-Z", "-t", WEB], 255, "No such service\n");
    drop(open);
}

/// A line beside the file, instead of the file anew.
#[test]
fn single_changes_of_many_outlive_a_crash() {
    let mut alone = Alone::start("many", 10_000).unwrap_or_else(|error| panic!("{error:#}"));
    let folder = alone.talk.ha1.folder().expect("a folder");
    let [file, journal] = ["overlay.eth0.json", "overlay.eth0.json.journal"].map(|name| folder.join(name));
    let inode = || fs::metadata(&file).expect("the overlay").ino();
    let many: String = (8_000..8_500).map(|port| format!("-A -t 211.58.250.6:{port} -s rr\n")).collect();
    assert_eq!(restored(&alone.director, &many), (Some(0), String::new(), String::new()));
    let written = inode();
    for port in 9_000..9_010 {
        done(&alone.director, &["-A", "-t", &format!("211.58.250.6:{port}"), "-s", "rr"]);
    }
    assert_eq!(inode(), written, "the file is as it was");
    let saved = rules(&alone.director);
    assert_eq!(saved.matches("-s rr\n").count(), 511, "{saved}");
    alone.director.kill().expect("lb is killed");
    alone.director.restart().expect("lb starts again");
    assert_eq!(rules(&alone.director), saved);

    // The machine stops while a change is being written.
    done(&alone.director, &["-D", "-t", "211.58.250.6:9000"]);
    alone.director.kill().expect("lb is killed");
    let text = fs::read(&journal).expect("the journal");
    fs::write(&journal, &text[..text.len() - 5]).expect("the journal");
    alone.director.restart().expect("lb starts again");
    // Hundreds of services that are added push it out of what `lb events` shows.
    alone.director.wait_for_logged("overlay_unreadable", 1, PATIENCE).expect("it is told");
    assert_eq!(rules(&alone.director), saved);
    done(&alone.director, &["-D", "-t", "211.58.250.6:9000"]);
    assert!(!journal.exists() && inode() != written, "the file has all of it");
    alone.director.kill().expect("lb is killed");
    alone.director.restart().expect("lb starts again");
    assert_eq!(rules(&alone.director), saved.replace("-A -t 211.58.250.6:9000 -s rr\n", ""));
}

/// Debian's ldirectord, which ends where it would begin to check servers, and writes down instead
/// what its own reader finds in the table.
const READER: &str = r#"
set +e
sed -e 's#/var/log/ldirectord.log#/tmp/log#' -e 's#/var/run/#/tmp/#' -e 's#/sbin/ipvsadm#/tmp/ipvsadm#' \
    -e 's#^sub ld_main$#sub ld_main { do "/srv/write.pl" or die $@; exit 0 } sub for_ever#' \
    /usr/sbin/ldirectord > /tmp/ldirectord
cat > /tmp/ipvsadm <<'END'
#!/bin/sh
case "$*" in "-L -n") cat /srv/table ;; "-L -n --thresholds") cat /srv/thresholds ;; esac
END
chmod +x /tmp/ipvsadm
perl /tmp/ldirectord -d /srv/ldirectord.cf start 2>&1
"#;

const WRITE: &str = r#"
my $table = &ld_read_ipvsadm();
open(my $out, ">", "/srv/read") or die $!;
for my $service (sort keys %$table) {
    my $found = $table->{$service};
    print $out join(" ", $service, map { $found->{$_} // "-" } qw(scheduler persistent netmask)), "\n";
    for my $server (sort keys %{$found->{real}}) {
        my $has = $found->{real}{$server};
        my @values = map { $has->{$_} // "-" } qw(forward weight u-threshold l-threshold);
        print $out join(" ", " $server", @values), "\n";
    }
}
close($out);
"#;

/// A parser that others have written finds each service and server in the listing, as they are.
#[test]
fn ldirectords_own_reader_understands_the_listing() {
    let alone = Alone::start("read", 10_000).unwrap_or_else(|error| panic!("{error:#}"));
    let director = &alone.director;
    for words in [
        "-A -t 211.58.250.6:7778 -s wrr -p 600 -M 255.255.255.0",
        "-a -t 211.58.250.6:7778 -r 211.58.250.25:7778 -g -w 3 -x 100 -y 50",
        "-a -t 211.58.250.6:7778 -r 211.58.250.27:7778 -i -w 0",
        "-A -t 211.58.250.6:7779 -s lc -p 90",
        "-a -t 211.58.250.6:7779 -r 211.58.250.25:8080 -m -w 40000",
        "-A -u [2001:db8::10]:53 -s rr",
        // No machine has this address: a server that is not up has weight 0.
        "-a -u [2001:db8::10]:53 -r [2001:db8::21]:53 -g -w 1",
    ] {
        done(director, &words.split(' ').collect::<Vec<_>>());
    }
    wait_for(director, "both servers of the file usable", |status| {
        let udp = status.services.iter().find(|service| service.protocol == "udp" && service.vip.is_ipv4());
        usable(status, 2) && udp.is_some_and(|service| service.servers[0].effective_weight > 0)
    });

    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    write("table", &printed(director, &["ipvsadm", "-L", "-n"]));
    write("thresholds", &printed(director, &["ipvsadm", "-L", "-n", "--thresholds"]));
    write(
        "ldirectord.cf",
        "checktimeout=3\nvirtual=192.0.2.10:80\n\treal=192.0.2.21:80 gate\n\tservice=http\n",
    );
    write("write.pl", WRITE);
    let output = originals::run(folder.path(), READER).expect("ldirectord is there");
    let read = fs::read_to_string(folder.path().join("read"));
    let read =
        read.unwrap_or_else(|error| panic!("{error}: ldirectord has read nothing: {}", text(&output.stdout)));
    assert_eq!(
        read,
        "\
211.58.250.6:7777 tcp rr - -
 211.58.250.25:7777 gate 1 0 0
 211.58.250.27:7777 gate 1 0 0
211.58.250.6:7777 udp wlc - -
 211.58.250.25:7777 gate 1 0 0
211.58.250.6:7778 tcp wrr 600 255.255.255.0
 211.58.250.25:7778 gate 3 100 50
 211.58.250.27:7778 ipip 0 0 0
211.58.250.6:7779 tcp lc 90 -
 211.58.250.25:8080 masq 40000 0 0
[2001:db8::10]:53 udp rr - -
 [2001:db8::21]:53 gate 0 0 0
"
    );
}
