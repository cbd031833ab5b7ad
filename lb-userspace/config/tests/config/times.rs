//! Times, and those that services have in place of the file's.

use super::*;

#[test]
fn times() {
    for (text, time) in [
        ("3s", seconds(3)),
        ("1500ms", Duration::from_millis(1500)),
        ("15m", seconds(900)),
        ("1h", seconds(3600)),
        ("7days", seconds(7 * 86400)),
        ("1m 30s", seconds(90)),
        ("1m30s", seconds(90)),
        ("90", seconds(90)),
        ("\"90\"", seconds(90)),
    ] {
        let config = accepted(&format!("timeouts: {{ udp: {text} }}{LEAST}"));
        assert_eq!(config.timeouts, Timeouts { udp: time, ..Timeouts::default() }, "{text}");
    }
}

#[test]
fn a_service_overrides_single_times() {
    let own = "timeouts: { udp: 5s, closed: 5s }\nservices:\n  - timeouts: { udp: 7s }\n   ";
    let config = accepted(&LEAST.replace("services:\n  -", own));
    let file = Timeouts { udp: seconds(5), closed: seconds(5), ..Timeouts::default() };
    assert_eq!(config.timeouts, file);
    assert_eq!(config.services[0].timeouts, Timeouts { udp: seconds(7), ..file });
}
