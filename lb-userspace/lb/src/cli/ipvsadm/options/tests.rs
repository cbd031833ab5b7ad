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
        ("-L -6", 2, "-6 used before -f\n"),
        ("-L -t 80", 2, "illegal virtual server address[:port] specified"),
    ] {
        assert_eq!(parsed(line), Err(Refusal { code, text: text.to_owned() }), "{line}");
    }
}

#[test]
fn what_would_change_the_table_names_what_does() {
    for line in ["-A -t 1.2.3.4:80 -s wlc", "-C", "-Z", "--set 1 2 3"] {
        let what = parsed(line).unwrap_or_else(|refusal| panic!("{line}: {refusal:?}"));
        assert!(matches!(what.command, Command::Change(instead) if !instead.is_empty()), "{line}");
    }
    let added = parsed("-a -t 1.2.3.4:80 -r 5.6.7.8:8080 -m -w 3 -x 9");
    let added = added.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    assert_eq!(added.command, Command::AddServer);
    let wanted = NewServer {
        address: Some(([5, 6, 7, 8].into(), Some(8080))),
        weight: Some(3),
        method: Some("masq"),
        upper: Some(9),
        lower: None,
    };
    assert_eq!(added.listing.server, wanted);
    let edited = parsed("-e -t 1.2.3.4:80 -r 5.6.7.8:8080 -m -w 3 -x 9");
    let edited = edited.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    assert_eq!((edited.command, edited.listing.server), (Command::EditServer, wanted));
    for (line, text) in [
        ("-a -t 1.2.3.4:80", "You need to supply the 'real-server' option for the 'add-server' command"),
        ("-D", "You need to supply the 'service-address' option for the 'delete-service' command"),
        ("-d -t 1.2.3.4:80 -r 5.6.7.8 -w 1", "Illegal 'weight' option with the 'delete-server' command"),
        ("-a -t 1.2.3.4:80 -r 5.6.7.8 -w 70000", "illegal weight specified"),
    ] {
        assert_eq!(parsed(line), Err(Refusal { code: 2, text: text.to_owned() }), "{line}");
    }
    assert_eq!(parsed("-h").map(|what| what.command), Ok(Command::Help));
    assert_eq!(parsed("-v").map(|what| what.command), Ok(Command::Version));
}
