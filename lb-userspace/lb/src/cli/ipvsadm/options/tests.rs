//! What ipvsadm 1.31 says.

use super::*;

fn parsed(line: &str) -> Result<What, Refusal> {
    parse("ipvsadm", line.split_whitespace().map(str::to_owned).collect())
}

fn listed(line: &str) -> Listing {
    let what = parsed(line).unwrap_or_else(|refusal| panic!("{line}: {refusal:?}"));
    assert_eq!(what.command, Command::List, "{line}");
    what.listing
}

#[test]
fn options_are_read_as_popt_reads_them() {
    let numeric = Listing { numeric: true, ..Listing::default() };
    for line in ["-Ln", "-L -n", "-l --numeric", "--list --numeric --sort", "-L -n --nosort"] {
        assert_eq!(listed(line), numeric, "{line}");
    }
    assert_eq!(listed(""), Listing::default());
    assert_eq!(listed("-Lnc --persistent-conn"), Listing { connections: true, persistent: true, ..numeric });
    let address = Address { protocol: Protocol::Tcp, address: [192, 0, 2, 10].into(), port: 80 };
    let of_one = Listing { numeric: true, service: Some(address), ..Listing::default() };
    for line in [
        "-L -n -t 192.0.2.10:80",
        "-L -n -t192.0.2.10:80",
        "-Lnt 192.0.2.10:80",
        "-l -n -t=192.0.2.10:80",
        "-L -n --tcp-service=192.0.2.10:80",
        "-L -n --tcp-service 192.0.2.10:80",
        "-L -n -t 192.0.2.10:http",
    ] {
        assert_eq!(listed(line), of_one, "{line}");
    }
    let six = listed("-L -u [2001:db8::53]:53").service.expect("a service");
    assert_eq!((six.address.to_string().as_str(), six.port), ("2001:db8::53", 53));
}

/// What ipvsadm 1.31 says.
#[test]
fn mistakes_are_told_in_its_words() {
    let try_help = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.";
    for (line, code, text) in [
        ("-Lx", 255, "-Lx: missing argument"),
        ("-L -t", 255, "-t: missing argument"),
        ("-t 1.2.3.4:80", 255, try_help),
        ("-L -c --stats", 2, "options conflicts in the list command"),
        ("-L -w 3", 2, "Illegal 'weight' option with the 'list' command"),
        (
            "-L -c -t 1.2.3.4:5",
            2,
            "The option 'service-address' conflicts with the 'connection' option in the 'list' command",
        ),
        ("-L foo", 2, "unexpected argument foo"),
        ("-L -Q", 255, "-Q: unknown option"),
        ("-L --nope", 255, "--nope: unknown option"),
        ("-S -t 1.2.3.4:3", 2, "Illegal 'service-address' option with the 'save' command"),
        ("-L --numeric=3", 255, "--numeric=3: option does not take an argument"),
        ("-L -n -n", 2, "multiple 'numeric' options specified"),
        ("-L -A", 2, "invalid option `-A'"),
        ("-L --timeout --stats", 2, "options conflicts in the list command"),
        (
            "-L --timeout --daemon",
            2,
            "The option 'daemon' conflicts with the 'timeout' option in the 'list' command",
        ),
        ("-L -p", 2, "Illegal 'persistent' option with the 'list' command"),
        ("-A", 2, "You need to supply the 'service-address' option for the 'add-service' command"),
        ("-E -s rr", 2, "You need to supply the 'service-address' option for the 'edit-service' command"),
        ("-A -t 1.2.3.4:80 -w 3", 2, "Illegal 'weight' option with the 'add-service' command"),
        ("-A -t 1.2.3.4:80 -E", 2, "invalid option `-E'"),
        ("-A -t 1.2.3.4:80 -s", 255, "-s: missing argument"),
        ("-A -t 1.2.3.4:80 -p 0", 2, "invalid timeout value `0' specified"),
        ("-A -t 1.2.3.4:80 -p 2678401", 2, "invalid timeout value `2678401' specified"),
        ("-A -t 1.2.3.4:80 -M mask.invalid", 2, "illegal virtual server persistent mask specified"),
        ("-A -t [2001:db8::1]:80 -M 129", 2, "illegal ipv6 netmask specified"),
        ("-A -t 1.2.3.4:80 -o", 2, "One-Packet Scheduling is only for UDP virtual services"),
        ("-A -t 1.2.3.4:80 -s sh -b mh-port", 2, "incompatible scheduler flag `mh-port'"),
        ("-A -t 1.2.3.4:80 -b sh-port", 2, "incompatible scheduler flag `sh-port'"),
        ("-A -t 1.2.3.4:80 -b sideways", 2, "invalid scheduler flag `sideways'"),
        ("-A -f many", 2, "invalid fwmark value `many' specified"),
        ("-C -n", 2, "Illegal 'numeric' option with the 'flush' command"),
        ("-C -t 1.2.3.4:80", 2, "Illegal 'service-address' option with the 'flush' command"),
        ("-R -n", 2, "Illegal 'numeric' option with the 'restore' command"),
        ("-R rules", 2, "unexpected argument rules"),
        ("-Z -r 1.2.3.4", 2, "Illegal 'real-server' option with the 'zero' command"),
        (
            "-a -t 1.2.3.4:80 -r [2001:db8::1]:80",
            2,
            "Different address family is allowed only for tunneling servers",
        ),
        ("-a -t 1.2.3.4:80 -r 5.6.7.8 --tun-type gre", 2, "Tunnel options conflict with forward method"),
        (
            "-a -t 1.2.3.4:80 -r 5.6.7.8 -i --tun-type gue",
            2,
            "You need to supply the 'tun-port' option for the 'gue' tunnel type",
        ),
        (
            "-a -t 1.2.3.4:80 -r 5.6.7.8 -i --tun-type gre --tun-port 5",
            2,
            "Illegal 'tun-port' option with the 'gre' tunnel type",
        ),
        (
            "-a -t 1.2.3.4:80 -r 5.6.7.8 -i --tun-type gre --tun-nocsum --tun-csum",
            2,
            "The option 'tun-csum' conflicts with the 'tun-nocsum' option in the 'gre' tunnel type",
        ),
        ("-L -6", 2, "-6 used before -f\n"),
        ("-L -t 80", 2, "illegal virtual server address[:port] specified"),
    ] {
        assert_eq!(parsed(line), Err(Refusal { code, text: text.to_owned() }), "{line}");
    }
}

/// What `lb` has not, with what there is.
#[test]
fn what_there_is_not_is_told_in_plain_words() {
    for (line, words) in [
        ("-A -f 1 -s wlc", "lb has no firewall marks"),
        ("-L -f 1", "lb has no firewall marks"),
        ("-A --sctp-service 1.2.3.4:80", "lb balances TCP and UDP"),
        ("-A -u 1.2.3.4:5060 -p --pe sip", "has no --pe: -p binds clients by address"),
        ("-A -t 1.2.3.4:80 -p -M 255.0.255.0", "255.0.255.0 is none"),
        ("-A -t 1.2.3.4:80 -p -M 0.0.0.0", "0.0.0.0 is none"),
        ("-A -t 1.2.3.4:80 -s sh -b flag-3", "flag-3 means nothing to sh"),
        ("-a -t 1.2.3.4:80 -r 5.6.7.8 -i --tun-type gre --tun-csum", "no checksum"),
    ] {
        let refusal = parsed(line).expect_err(line);
        assert!(refusal.code == 2 && refusal.text.contains(words), "{line}: {refusal:?}");
    }
    for line in ["--set 1 2 3", "--start-daemon master", "--stop-daemon backup"] {
        let what = parsed(line).unwrap_or_else(|refusal| panic!("{line}: {refusal:?}"));
        assert!(matches!(what.command, Command::Refused(instead) if !instead.is_empty()), "{line}");
    }
    let nowhere = parsed("-A -t 1.2.3.4").unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let text = "Zero port specified for non-persistent service".to_owned();
    assert_eq!(check_port(&nowhere.listing), Err(Refusal { code: 2, text }));
    let all = parsed("-A -t 1.2.3.4 -p").unwrap_or_else(|refusal| panic!("{refusal:?}"));
    assert_eq!(check_port(&all.listing), Ok(()));
}

#[test]
fn services_are_described() {
    let none = Settings::default;
    for (line, wanted) in [
        ("-A -t 1.2.3.4:80", none()),
        ("-A -t 1.2.3.4:80 -s wrr", Settings { scheduler: Some("wrr".into()), ..none() }),
        ("--add-service --tcp-service 1.2.3.4:80 -p", Settings { persistence: Some(300), ..none() }),
        ("-A -t 1.2.3.4:80 -p600", Settings { persistence: Some(600), ..none() }),
        (
            "-A -t 1.2.3.4:80 -p 600 -M 255.255.255.0",
            Settings { persistence: Some(600), prefix: Some(24), ..none() },
        ),
        (
            "-A -t [2001:db8::1]:80 -p 600 -M 64",
            Settings { persistence: Some(600), prefix: Some(64), ..none() },
        ),
        ("-A -u 1.2.3.4:53 -o", Settings { ops: true, ..none() }),
        ("-A -u 1.2.3.4:53 -O", Settings { ops: true, ..none() }),
        ("-A -u 1.2.3.4:53 --ops", Settings { ops: true, ..none() }),
        (
            "-A -t 1.2.3.4:80 -b sh-port -s sh",
            Settings { scheduler: Some("sh".into()), hash_port: true, ..none() },
        ),
        (
            "-E -t 1.2.3.4:80 -s mh -b mh-fallback,mh-port",
            Settings { scheduler: Some("mh".into()), hash_port: true, hash_fallback: true, ..none() },
        ),
        (
            "-E -t 1.2.3.4:80 -s mh --sched-flags flag-1",
            Settings { scheduler: Some("mh".into()), hash_fallback: true, ..none() },
        ),
    ] {
        let what = parsed(line).unwrap_or_else(|refusal| panic!("{line}: {refusal:?}"));
        assert_eq!(what.listing.settings, wanted, "{line}");
    }
    for (line, command) in [("-C", Command::Clear), ("-Z", Command::Zero), ("-R", Command::Restore)] {
        assert_eq!(parsed(line).map(|what| what.command), Ok(command), "{line}");
    }
    let one = parsed("-Z -t 1.2.3.4:80").unwrap_or_else(|refusal| panic!("{refusal:?}"));
    assert!(one.command == Command::Zero && one.listing.service.is_some());
}

#[test]
fn servers_are_described() {
    let added = parsed("-a -t 1.2.3.4:80 -r 5.6.7.8:8080 -m -w 3 -x 9");
    let added = added.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    assert_eq!(added.command, Command::AddServer);
    let wanted = NewServer {
        address: Some(([5, 6, 7, 8].into(), Some(8080))),
        weight: Some(3),
        method: Some("masq"),
        upper: Some(9),
        lower: None,
        gue_port: None,
    };
    assert_eq!(added.listing.server, wanted);
    let edited = parsed("-e -t 1.2.3.4:80 -r 5.6.7.8:8080 -m -w 3 -x 9");
    let edited = edited.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    assert_eq!((edited.command, edited.listing.server), (Command::EditServer, wanted));
    for (options, method, gue_port) in [
        ("-i", "ipip", None),
        ("-i --tun-type ipip", "ipip", None),
        ("-i --tun-type gue --tun-port 6080 --tun-nocsum", "gue", Some(6080)),
        ("-i --tun-type gre --tun-nocsum", "gre", None),
        ("-g", "direct", None),
    ] {
        let what = parsed(&format!("-a -t 1.2.3.4:80 -r 5.6.7.8 {options}"));
        let server = what.unwrap_or_else(|refusal| panic!("{options}: {refusal:?}")).listing.server;
        assert_eq!((server.method, server.gue_port), (Some(method), gue_port), "{options}");
    }
    for (line, text) in [
        ("-a -t 1.2.3.4:80", "You need to supply the 'real-server' option for the 'add-server' command"),
        ("-D", "You need to supply the 'service-address' option for the 'delete-service' command"),
        ("-d -t 1.2.3.4:80 -r 5.6.7.8 -w 1", "Illegal 'weight' option with the 'delete-server' command"),
        ("-a -t 1.2.3.4:80 -r 5.6.7.8 -w 70000", "illegal weight specified"),
        ("-a -t 1.2.3.4:80 -r 5.6.7.8 -i --tun-type gue --tun-port 0", "illegal tunnel port specified"),
    ] {
        assert_eq!(parsed(line), Err(Refusal { code: 2, text: text.to_owned() }), "{line}");
    }
    assert_eq!(parsed("-h").map(|what| what.command), Ok(Command::Help));
    assert_eq!(parsed("-v").map(|what| what.command), Ok(Command::Version));
}
