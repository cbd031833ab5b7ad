//! `clients`: lists, their files, limits and their defaults.

use super::*;

fn prefix(text: &str) -> ClientPrefix {
    let (address, length) = text.split_once('/').expect("a prefix");
    ClientPrefix { address: address.parse().expect("an address"), length: length.parse().expect("a length") }
}

fn config(all: &str, own: &str) -> String {
    format!(
        "interface: eth0\n{all}\nservices:\n  - vip: 192.0.2.10:80\n    {own}\n    servers: [{{ address: 192.0.2.21 }}]\n  \
         - vip: '[2001:db8::10]:80'\n    servers: [{{ address: 2001:db8::21 }}]\n"
    )
}

const fn rate(per_second: u32, burst: u32) -> Option<Rate> {
    Some(Rate { per_second, burst })
}

#[test]
fn without_clients_there_is_no_rule() {
    let config = accepted(&config("", ""));
    assert_eq!(config.services[0].clients, None);
    assert!(config.denied.is_empty());
}

#[test]
fn a_service_has_lists_and_limits_of_its_own() {
    let own = "clients: { allow: [198.51.100.7, 198.51.100.0/25], deny: [198.51.100.0/24], prefix: 24, each: { \
               new_per_second: 10, new_burst: 30, connections: 5 }, all: { packets_per_second: 1000 } }";
    let read = accepted(&config("", own));
    let clients = read.services[0].clients.clone().expect("rules");
    assert_eq!(clients.listed.lists.allow, [prefix("198.51.100.0/25"), prefix("198.51.100.7/32")]);
    assert_eq!(clients.listed.lists.deny, [prefix("198.51.100.0/24")]);
    assert_eq!((clients.prefix, clients.connections), (24, Some(5)));
    assert_eq!(clients.of_each, Rates { new: rate(10, 30), packets: None });
    assert_eq!(clients.of_all, Rates { new: None, packets: rate(1000, 1000) });
    assert_eq!(read.services[1].clients, None);
}

#[test]
fn the_files_limits_are_those_of_each_service_limit_by_limit() {
    let all = "clients: { deny: [203.0.113.0/24, '2001:db8:bad::/48'], prefix_v6: 56, each: { new_per_second: 10, \
               packets_per_second: 100, connections: 7 } }";
    let read = accepted(&config(all, "clients: { each: { new_per_second: 20, packets_per_second: 0 } }"));
    assert_eq!(read.denied.lists.deny, [prefix("203.0.113.0/24"), prefix("2001:db8:bad::/48")]);
    let [web, web6] = [0, 1].map(|index: usize| read.services[index].clients.clone().expect("rules"));
    assert_eq!(web.of_each, Rates { new: rate(20, 20), packets: None });
    assert_eq!((web.prefix, web.connections), (32, Some(7)));
    assert_eq!(web6.of_each, Rates { new: rate(10, 10), packets: rate(100, 100) });
    assert_eq!((web6.prefix, web6.connections), (56, Some(7)));
    assert!(web.listed.is_empty() && web6.listed.is_empty(), "whom all deny stands once");
}

#[test]
fn files_are_read_beside_what_is_given_and_mistakes_name_file_and_line() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (lb, deny, denied) = (dir.path().join("lb.yaml"), dir.path().join("deny"), dir.path().join("denied"));
    let text = config(
        &format!("clients: {{ deny_file: {} }}", denied.display()),
        &format!("clients: {{ deny: [198.51.100.9], deny_file: {} }}", deny.display()),
    );
    fs::write(&lb, &text).expect("a writable directory");
    fs::write(&deny, "198.51.100.0/24 # a network\n\n# and one that stands in lb.yaml\n198.51.100.9\n")
        .expect("a file");
    fs::write(&denied, "203.0.113.0/24\n2001:db8:bad::/48\n").expect("a file");
    let changed = |mut files: Files| files.changed(std::iter::empty()).map(|Changed { config, .. }| config);
    for read in [load(&lb), Files::open(&lb).and_then(changed)] {
        let read = read.unwrap_or_else(|error| panic!("{error}"));
        let lists = &read.services[0].clients.as_ref().expect("rules").listed.lists;
        assert_eq!(lists.deny, [prefix("198.51.100.0/24"), prefix("198.51.100.9/32")]);
        assert_eq!(read.denied.lists.deny.len(), 2);
    }
    let before = load(&lb).expect("a configuration").digest();
    fs::write(&deny, "198.51.100.0/24\n2001:db8::/32\n").expect("a file");
    let error = load(&lb).expect_err("a prefix of the other family");
    let [mistake] = error.mistakes() else { panic!("{error}") };
    assert_eq!((mistake.line, &*mistake.source_line), (5, text.lines().nth(4).expect("the line")));
    assert!(mistake.message.contains("deny, line 2: \"2001:db8::/32\": expected an IPv4"), "{error}");
    fs::write(&deny, "198.51.100.0/25\n").expect("a file");
    assert_eq!(load(&lb).expect("a configuration").digest(), before, "each node reads its own files");
    fs::remove_file(&denied).expect("it is there");
    let error = load(&lb).expect_err("a missing file");
    assert!(error.to_string().contains(&format!("cannot read {}", denied.display())), "{error}");
}

#[test]
fn too_many_prefixes_are_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (lb, deny) = (dir.path().join("lb.yaml"), dir.path().join("deny"));
    let of = |number: u32| -> String {
        (0..number).map(|number| format!("{}\n", Ipv4Addr::from(0x0b00_0000 + number))).collect()
    };
    fs::write(&lb, config("", &format!("clients: {{ deny_file: {} }}", deny.display()))).expect("a file");
    fs::write(&deny, of(131_072)).expect("a file");
    assert!(load(&lb).is_ok());
    fs::write(&deny, of(131_073)).expect("a file");
    let error = load(&lb).expect_err("one too many");
    assert!(error.to_string().contains("131073 prefixes"), "{error}");
}

/// A copy of the file in `dir` whose lists of clients are there, which a machine has in /etc.
pub(super) fn with_lists(path: &Path, dir: &Path) -> PathBuf {
    let mut text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{error}"));
    for name in ["allow", "deny", "denied"] {
        let list = dir.join(name);
        fs::write(&list, "# nobody yet\n").expect("a writable directory");
        text = text.replace(&format!("_file: /etc/lb/{name} "), &format!("_file: {} ", list.display()));
    }
    let copy = dir.join(path.file_name().expect("a file's name"));
    fs::write(&copy, text).expect("a writable directory");
    copy
}
