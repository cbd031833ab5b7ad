//! Numbers, times and addresses as a reader of listing, page and terminal wants them.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use crate::status::StandingOrder;

/// `211.58.250.6:80` or `[2001:db8::6]:80`.
pub fn address(ip: IpAddr, port: u16) -> String {
    SocketAddr::new(ip, port).to_string()
}

/// The same with several ports, as the configuration has them.
pub fn ports(ip: IpAddr, ports: &str) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{ip}:{ports}"),
        IpAddr::V6(ip) => format!("[{ip}]:{ports}"),
    }
}

/// The beginning of a text: at most so many bytes, and whole characters.
pub fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// A number with its digits in groups of three: `2,097,152`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number by its three first digits or so: `12`, `8.4k`, `3.1M`.
pub fn scaled(number: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    let (mut number, mut unit) = (number.max(0.0), 0);
    while number >= 999.5 && unit + 1 < UNITS.len() {
        (number, unit) = (number / 1000.0, unit + 1);
    }
    match number {
        _ if number >= 9.95 || number == number.trunc() => format!("{number:.0}{}", UNITS[unit]),
        _ => format!("{number:.1}{}", UNITS[unit]),
    }
}

/// A time by its two largest units: `3m12s`, `2d5h`.
pub fn uptime(seconds: u64) -> String {
    const UNITS: [(u64, char); 4] = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let first = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let mut rest = seconds;
    let mut text = String::new();
    for (unit, name) in UNITS.iter().skip(first).take(2) {
        let count = rest / unit;
        rest %= unit;
        if count > 0 || text.is_empty() {
            text += &format!("{count}{name}");
        }
    }
    text
}

/// A time by its largest unit: `2m`.
pub fn since(seconds: u64) -> String {
    let text = uptime(seconds);
    let end = text.find(char::is_alphabetic).map_or(text.len(), |at| at + 1);
    text[..end].to_owned()
}

/// Who has ordered it, and when.
pub fn order(order: &StandingOrder) -> String {
    let StandingOrder { order: _, weight, by, reason, since } = order;
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(*since));
    let time =
        time.map_or_else(|| "?".to_owned(), |time| humantime::format_rfc3339_seconds(time).to_string());
    let given = format!("by {} since {time}", printable(by));
    match (weight, reason) {
        (Some(weight), Some(reason)) => format!("weight {weight} {given}: {}", printable(reason)),
        (Some(weight), None) => format!("weight {weight} {given}"),
        // The reason of a drain is that of the server's health.
        (None, _) => given,
    }
}

/// `text` without what could move the cursor or change colours: some of it comes from checked
/// servers.
pub fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// The same of text with several lines.
pub fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// The first ones by name, and how many more there are.
pub fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 20;
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "none".to_owned(),
        count if count > SHOWN => format!("{shown} and {} more", count - SHOWN),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..25).map(|number| format!("s{number}")).collect();
        let told = list(names.iter().map(String::as_str));
        assert!(told.ends_with("s18, s19 and 5 more"), "{told}");
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        assert_eq!([cut("abc", 5), cut("aéc", 2), cut("", 0)], ["abc", "a", ""]);
    }

    #[test]
    fn numbers_in_groups() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (2_097_152, "2,097,152"), (123_456, "123,456")]
        {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn rates_have_few_digits() {
        for (number, text) in [
            (0.0, "0"),
            (0.04, "0.0"),
            (0.5, "0.5"),
            (9.96, "10"),
            (12.4, "12"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (8_400.0, "8.4k"),
            (3_140_000.0, "3.1M"),
            (2e16, "20000T"),
        ] {
            assert_eq!(scaled(number), text, "{number}");
        }
    }

    #[test]
    fn times_by_their_largest_units() {
        for (seconds, long, short) in [
            (0, "0s", "0s"),
            (59, "59s", "59s"),
            (60, "1m", "1m"),
            (192, "3m12s", "3m"),
            (3600, "1h", "1h"),
            (3605, "1h", "1h"),
            (90_000, "1d1h", "1d"),
            (864_000, "10d", "10d"),
        ] {
            assert_eq!((uptime(seconds).as_str(), since(seconds).as_str()), (long, short));
        }
    }
}
