//! The section `web`.

use super::*;

#[test]
fn the_page_is_off_unless_it_is_asked_for() {
    assert_eq!(accepted(LEAST).web, None);
    for value in ["off", "no", "false"] {
        assert_eq!(accepted(&format!("web: {value}{LEAST}")).web, None, "web: {value}");
    }
    let least = Web { listen: ([127, 0, 0, 1], 9106).into(), tls: None, tokens: None, hosts: vec![] };
    for value in ["on", "true", "{}", "{ hosts: [] }"] {
        assert_eq!(accepted(&format!("web: {value}{LEAST}")).web.as_ref(), Some(&least), "web: {value}");
    }
    let full = accepted(&example("full.yaml")).web.expect("the page");
    assert_eq!(full.listen, least.listen);
    assert_eq!(full.hosts, ["lb1.example.net"]);
    let tls = WebTls { certificate: "/etc/lb/web.crt".into(), key: "/etc/lb/web.key".into() };
    assert_eq!((full.tls, full.tokens), (Some(tls), Some("/etc/lb/tokens".into())));
}
