//! The table of keywords against the lists in `data/`, and single rules.

use std::collections::BTreeSet;

use crate::{Fate, Imported, Known, Original, OriginalFile, Verdict, import, keywords};

/// Scope and name of each keyword in a list.
fn listed(text: &'static str) -> BTreeSet<(&'static str, &'static str)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let names = lines.filter_map(|line| line.split_once(' '));
    names.flat_map(|(scope, names)| names.split_whitespace().map(move |name| (scope, name))).collect()
}

#[test]
fn every_keyword_of_the_sources_is_in_the_table() {
    for (source, list, least) in [
        (Original::Ldirectord, include_str!("../data/ldirectord.txt"), 60),
        (Original::Heartbeat, include_str!("../data/heartbeat.txt"), 45),
        (Original::Keepalived, include_str!("../data/keepalived.txt"), 380),
    ] {
        let listed = listed(list);
        assert!(listed.len() >= least, "{source:?}: only {} keywords are listed", listed.len());
        let ours: Vec<_> = keywords(source).map(|keyword| (keyword.scope, keyword.name)).collect();
        let table: BTreeSet<_> = ours.iter().copied().collect();
        assert_eq!(ours.len(), table.len(), "{source:?}: a keyword is there twice");
        let lacking: Vec<_> = listed.difference(&table).collect();
        let surplus: Vec<_> = table.difference(&listed).collect();
        assert!(
            lacking.is_empty() && surplus.is_empty(),
            "{source:?} lacks {lacking:?}, has {surplus:?} besides"
        );
    }
}

/// What is not needed or missing needs words; they are what the report says.
#[test]
fn a_keyword_that_is_not_imported_says_why() {
    let frames = ["global_defs", "SSL"];
    for source in Original::ALL {
        for keyword in keywords(source) {
            let silent =
                matches!(keyword.verdict, Verdict::Needless | Verdict::Missing) && keyword.note.is_empty();
            assert!(!silent || frames.contains(&keyword.name), "{source:?}: {keyword:?}");
        }
    }
}

fn of(source: Original, text: &str) -> Imported {
    let file = OriginalFile { name: "file".into(), node: None, text: text.into() };
    import(source, &[file], &Known::default(), &mut |_, _| Err("there is no such file".into()))
}

/// A keyword that the table calls equal is known to a reader: it is never told as unknown.
#[test]
fn what_the_table_knows_the_readers_do_not_call_unknown() {
    for keyword in keywords(Original::Ldirectord) {
        let indent = if keyword.scope == "virtual" { "    " } else { "" };
        let text =
            format!("virtual=192.0.2.10:80\n    real=192.0.2.21:80 gate\n{indent}{}=1\n", keyword.name);
        told_of(&of(Original::Ldirectord, &text), 3, keyword.name);
    }
    for keyword in keywords(Original::Heartbeat) {
        told_of(&of(Original::Heartbeat, &format!("node a\n{} 1 2\n", keyword.name)), 2, keyword.name);
    }
    for keyword in
        keywords(Original::Keepalived).filter(|keyword| ["vrrp", "global"].contains(&keyword.scope))
    {
        let outer = if keyword.scope == "vrrp" { "vrrp_instance a {" } else { "global_defs {" };
        told_of(&of(Original::Keepalived, &format!("{outer}\n{} 1\n}}\n", keyword.name)), 2, keyword.name);
    }
}

#[track_caller]
fn told_of(imported: &Imported, line: usize, name: &str) {
    let entry = imported.report.lines.iter().find(|entry| entry.line == line).expect("the line");
    let unknown = |note: &String| note.contains("does not know") || note.contains("does not understand");
    assert!(!entry.notes.iter().any(unknown), "{name}: {entry:?}");
}

#[test]
fn secrets_are_not_shown() {
    for (source, text) in [
        (
            Original::Ldirectord,
            "virtual=192.0.2.10:110\n    real=192.0.2.21:110 gate\n    passwd=\"geheim\"\n",
        ),
        (
            Original::Ldirectord,
            "virtual=192.0.2.10:1812\n    real=192.0.2.21:1812 gate\n    secret=\"geheim\"\n",
        ),
        (Original::Heartbeat, "auth 1\n1 sha1 geheim\n#2 md5 geheim\n"),
        (
            Original::Keepalived,
            "vrrp_instance a {\n  authentication {\n    auth_type PASS\n    auth_pass geheim\n  }\n  virtual_ipaddress {\n    192.0.2.10\n  }\n}\n",
        ),
    ] {
        let Imported { yaml, report, .. } = of(source, text);
        assert!(!yaml.contains("geheim"), "{yaml}");
        assert!(!report.readable().contains("geheim"), "{}", report.readable());
    }
}

/// What became of the line.
#[track_caller]
fn fate(imported: &Imported, line: usize) -> Fate {
    imported.report.lines.iter().find(|entry| entry.line == line).expect("the line").fate
}

/// `alerts` of the YAML, without the blank line behind it.
#[track_caller]
fn alerts(imported: &Imported) -> &str {
    assert_eq!(imported.wrong, None, "{}", imported.yaml);
    let start = imported.yaml.find("\nalerts:\n").map_or(imported.yaml.len(), |at| at + 1);
    imported.yaml[start..].split("\n\n").next().unwrap_or_default()
}

#[test]
fn mail_of_ldirectord_is_that_of_a_receiver() {
    let text = "\
emailalert=\"root@example.org, ops@example.org\"
emailalertfrom=ldirectord <lb@example.org>
emailalertfreq=3600
emailalertstatus=running
smtp=192.0.2.250
virtual=192.0.2.10:80
    real=192.0.2.21:80 gate
";
    let imported = of(Original::Ldirectord, text);
    let wanted = "\
alerts:
  receivers:
    - name: mail
      severity: none
      events: [server_down, server_maintenance, fallback_started]
      repeat: 3600s
      email:
        host: 192.0.2.250
        tls: off
        from: \"ldirectord <lb@example.org>\"
        to:
          - root@example.org
          - ops@example.org";
    assert_eq!(alerts(&imported), wanted);
    assert_eq!([1, 2, 3, 4, 5].map(|line| fate(&imported, line)), [Fate::Kept; 5]);

    // What ldirectord has where nothing is said; without `emailalert` nobody is told.
    let mut imported = of(
        Original::Ldirectord,
        "emailalert=a@b.example\nvirtual=192.0.2.10:80\n    real=192.0.2.21:80 gate\n",
    );
    let wanted = "\
alerts:
  receivers:
    - name: mail
      severity: none
      events: [server_down, server_maintenance, fallback_started, config_reloaded, stopping]
      repeat: never
      email:
        host: localhost
        tls: off
        from: root@localhost
        to:
          - a@b.example";
    assert_eq!((alerts(&imported), fate(&imported, 1)), (wanted, Fate::Changed));
    for (line, becomes) in [
        ("emailalertfreq=60", Fate::NotNeeded),
        ("smtp=192.0.2.250", Fate::NotNeeded),
        ("emailalertfreq=soon", Fate::Lost),
        ("emailalertstatus=none,running", Fate::Lost),
        ("emailalertstatus=sometimes", Fate::Lost),
    ] {
        imported = of(
            Original::Ldirectord,
            &format!("{line}\nvirtual=192.0.2.10:80\n    real=192.0.2.21:80 gate\n"),
        );
        assert_eq!((alerts(&imported), fate(&imported, 1)), ("", becomes), "{line}");
    }
}

#[test]
fn states_of_ldirectord_select_what_is_told() {
    for (status, events, becomes) in [
        (
            "all",
            "[server_down, server_maintenance, fallback_started, config_reloaded, stopping]",
            Fate::Changed,
        ),
        ("running,stopping", "[server_down, server_maintenance, fallback_started, stopping]", Fate::Changed),
        ("starting, reloading", "[config_reloaded]", Fate::Lost),
        ("starting", "", Fate::Lost),
        ("none", "", Fate::NotNeeded),
    ] {
        let text = format!(
            "emailalert=a@b.example\nemailalertstatus={status}\nvirtual=192.0.2.10:80\n    real=192.0.2.21:80 gate\n"
        );
        let imported = of(Original::Ldirectord, &text);
        let told = alerts(&imported).lines().find_map(|line| line.trim().strip_prefix("events: "));
        assert_eq!((told.unwrap_or_default(), fate(&imported, 2)), (events, becomes), "{status}");
    }
}

/// ldirectord tells of services by themselves, a receiver is told of all: nobody twice.
#[test]
fn mail_of_single_services_is_told_of_all() {
    let text = include_str!("../tests/corpus/ldirectord-mail-apart/ldirectord.cf");
    let imported = of(Original::Ldirectord, text);
    let events = "[server_down, server_maintenance, fallback_started, stopping]";
    let wanted = format!(
        "\
alerts:
  receivers:
    - name: mail
      severity: none
      events: {events}
      repeat: 600s
      email:
        host: localhost
        tls: off
        from: \"\\\"The director\\\" <lb@example.org>\"
        to:
          - web@example.org
          - ops@example.org
    - name: mail-2
      severity: none
      events: {events}
      repeat: never
      email:
        host: mail.example.org
        tls: off
        from: \"\\\"The director\\\" <lb@example.org>\"
        to:
          - mail@example.org"
    );
    let told = alerts(&imported).lines().filter(|line| !line.trim_start().starts_with('#'));
    assert_eq!(told.collect::<Vec<_>>().join("\n"), wanted);
    for (fate_of, lines) in [
        (Fate::Kept, &[1, 2, 7, 15][..]),
        (Fate::Changed, &[3, 6, 10, 14][..]),
        (Fate::Lost, &[11][..]),
        (Fate::NotNeeded, &[18, 21, 22][..]),
    ] {
        for line in lines {
            assert_eq!(fate(&imported, *line), fate_of, "line {line}: {}", imported.report.readable());
        }
    }
}

#[test]
fn mail_of_keepalived_is_that_of_a_receiver() {
    let text = include_str!("../tests/corpus/keepalived-mail/keepalived.conf");
    let imported = of(Original::Keepalived, text);
    let wanted = "\
alerts:
  receivers:
    - name: mail
      severity: none
      events: [server_down, quorum_lost]
      repeat: never
      email:
        host: 192.0.2.250
        port: 2525
        tls: off
        from: \"\\\"Directors, both\\\" <lb@example.org>\"
        to:
          - ops@example.org
          - boss@example.org";
    let told = alerts(&imported).lines().filter(|line| !line.trim_start().starts_with('#'));
    assert_eq!(told.collect::<Vec<_>>().join("\n"), wanted);
    for (fate_of, lines) in [
        (Fate::Kept, &[2, 3, 4, 7][..]),
        (Fate::Changed, &[5, 14, 27][..]),
        (Fate::Lost, &[19][..]),
        (Fate::NotNeeded, &[6, 8, 9][..]),
    ] {
        for line in lines {
            assert_eq!(fate(&imported, *line), fate_of, "line {line}: {}", imported.report.readable());
        }
    }
}

#[test]
fn keepalived_sends_no_mail_without_a_server_recipients_or_a_reason() {
    let text = |server: &str, to: &str, alert: &str| {
        format!(
            "global_defs {{\n{server}\n{to}\nsmtp_alert {alert}\n}}\nvirtual_server 192.0.2.10 80 {{\n  \
             real_server 192.0.2.21 80 {{\n  }}\n}}\nvrrp_instance a {{\n  virtual_ipaddress {{\n    192.0.2.10\n  }}\n}}\n"
        )
    };
    let (server, to) = ("smtp_server 192.0.2.250", "notification_email { ops@example.org }");
    let told = |text: &str| {
        let imported = of(Original::Keepalived, text);
        let events = alerts(&imported).lines().find_map(|line| line.trim().strip_prefix("events: "));
        (events.map(str::to_owned), fate(&imported, 4))
    };
    let all = "[server_down, quorum_lost, role_changed, stopping]".to_owned();
    assert_eq!(told(&text(server, to, "on")), (Some(all), Fate::Kept));
    for text in [text("", to, "on"), text(server, "", "on"), text(server, to, "off")] {
        assert_eq!(told(&text), (None, Fate::NotNeeded), "{text}");
    }
    // Real servers alone are told of without a word about it.
    let silent = text(server, to, "on").replace("smtp_alert on\n", "\n");
    let imported = of(Original::Keepalived, &silent);
    assert!(alerts(&imported).contains("events: [server_down]\n"), "{}", imported.yaml);
}

/// keepalived takes 200 to 299 where no `status_code` says otherwise. ldirectord follows redirects,
/// so there they are good answers unless a page is expected, which is the default of `lb`.
#[test]
fn a_redirect_is_what_it_was_for_the_source() {
    let keepalived = |lines: &str| {
        let inner = format!("HTTP_GET {{\nurl {{\npath /\n{lines}}}\n}}\n");
        let server = format!("real_server 192.0.2.21 80 {{\n{inner}}}\n");
        let text = format!("virtual_server 192.0.2.10 80 {{\nlb_kind DR\nprotocol TCP\n{server}}}\n");
        let imported = of(Original::Keepalived, &text);
        assert!(imported.wrong.is_none(), "{}", imported.yaml);
        let told = imported.yaml.lines().find_map(|line| line.trim().strip_prefix("status: "));
        told.unwrap_or_default().to_owned()
    };
    for (lines, statuses) in [
        ("", "200-299"),
        ("regex ready\n", "200-299"),
        ("digest 640205b7b0fc66c1ea91c463fac6334d\n", "200-299"),
        // An expression that is lost.
        ("regex \"(?=ready)\"\n", "200-299"),
        ("status_code 200 302\n", "200, 302"),
        ("status_code 200-399\n", "200-399"),
    ] {
        assert_eq!(keepalived(lines), statuses, "{lines}");
    }
    let text = "virtual=192.0.2.10:80\n    real=192.0.2.21:80 gate\n    service=http\n    request=\"/\"\n";
    let imported = of(Original::Ldirectord, text);
    assert!(imported.yaml.contains("type: http\n") && !imported.yaml.contains("status"), "{}", imported.yaml);
}
