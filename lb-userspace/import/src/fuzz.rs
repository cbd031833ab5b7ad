//! Files of other programs, as strangers may have written them.

use lb_fuzz::{Failed, bytes, hold, targets};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError};

use crate::{Imported, Known, Original, OriginalFile, import};

targets! {
    import 200 "configurations of ldirectord, Heartbeat, keepalived and ipvsadm" => run;
}

/// The first files of the corpus, and words of each source to make others of.
const LDIRECTORD: &[u8] = include_bytes!("../tests/corpus/ldirectord-classic/ldirectord.cf");
const SLIPS: &[u8] = include_bytes!("../tests/corpus/ldirectord-slips/ldirectord.cf");
const HA_CF: &[u8] = include_bytes!("../tests/corpus/heartbeat-two-nodes/ha.cf");
const HARESOURCES: &[u8] = include_bytes!("../tests/corpus/heartbeat-two-nodes/haresources");
const KEEPALIVED: &[u8] = include_bytes!("../tests/corpus/keepalived-typical/keepalived.conf");
const STYLES: &[u8] = include_bytes!("../tests/corpus/keepalived-styles/keepalived.conf");
const CHECKERS: &[u8] = include_bytes!("../tests/corpus/keepalived-checkers/keepalived.conf");
const RULES: &[u8] = include_bytes!("../tests/corpus/ipvsadm-by-hand/ipvsadm.rules");
const LISTING: &[u8] = include_bytes!("../tests/corpus/ipvsadm-listing/ipvsadm.rules");

const WORDS: &str = "([-=#!{}\"'$\\\\@~:;,./* \t\r\n]|\n    |virtual|real|192\\.0\\.2\\.1[0-9]?|:80|gate|masq|check|http\
                     |virtual_server|real_server|vrrp_instance|HTTP_GET|url|node|ucast|eth0|ipvsadm|-A|-a|-t|-r|\\PC){0,80}";

pub(crate) fn run(config: Config) -> Result<(), Failed> {
    let samples =
        bytes::samples([LDIRECTORD, SLIPS, HA_CF, HARESOURCES, KEEPALIVED, STYLES, CHECKERS, RULES, LISTING]);
    let text = prop_oneof![
        6 => bytes::nearly(samples),
        3 => WORDS.prop_map(String::into_bytes),
        1 => any::<String>().prop_map(String::into_bytes),
    ];
    // A second file: another part of heartbeat's, another node's, or what the first one includes.
    let inputs = (select(Original::ALL.to_vec()), text.clone(), text, any::<[bool; 3]>());
    hold(config, inputs, |(source, first, second, [several, named, id])| {
        let file = |name: &str, node: &str, bytes: &[u8]| OriginalFile {
            name: name.to_owned(),
            node: named.then(|| node.to_owned()),
            text: String::from_utf8_lossy(bytes).into_owned(),
        };
        let mut files = vec![file("first", "lb1", &first)];
        if several {
            files.push(file("second", "lb2", &second));
        }
        let address = |text: &str| text.parse().expect("an address");
        let known = Known {
            addresses: vec![("lb1".into(), address("192.0.2.2")), ("lb2".into(), address("192.0.2.3"))],
            marks: vec![(1, "192.0.2.12:80,443".into())],
            config_id: id.then(|| "one".to_owned()),
            host: "lb1".into(),
            ..Known::default()
        };
        let mut find = |_: &str, _: &str| Ok(vec![file("found", "lb1", &second)]);
        nothing_is_dropped(&files, &import(source, &files, &known, &mut find))
    })
}

/// Every line that is not blank is in the report, in its place, and what comes out is accepted,
/// unless there is no service in it.
fn nothing_is_dropped(files: &[OriginalFile], imported: &Imported) -> Result<(), TestCaseError> {
    for file in files {
        let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
        let lines = (1..).zip(text.split('\n')).filter(|(_, line)| !line.trim().is_empty());
        let there: Vec<usize> = lines.map(|(line, _)| line).collect();
        let told = imported.report.lines.iter().filter(|entry| entry.file == file.name);
        let told: Vec<usize> = told.map(|entry| entry.line).collect();
        prop_assert_eq!(told, there);
    }
    if let Some(wrong) = &imported.wrong {
        prop_assert!(wrong.contains("`services` is missing or empty"), "{wrong}\n{}", imported.yaml);
    }
    Ok(())
}
