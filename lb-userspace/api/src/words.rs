//! Numbers, times and addresses as a reader of listing, page and terminal wants them.

use std::net::{IpAddr, SocketAddr};

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

/// `text` without what could move the cursor or change colours: some of it comes from checked
/// servers.
pub fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// The same of text with several lines.
pub fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_groups() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (2_097_152, "2,097,152"), (123_456, "123,456")]
        {
            assert_eq!(grouped(number), text);
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
