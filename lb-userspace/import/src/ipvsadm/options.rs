//! The options of a line of ipvsadm, short and long, apart or joined.

use super::Key;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    AddService,
    EditService,
    DeleteService,
    AddServer,
    EditServer,
    DeleteServer,
    Clear,
    SetTimeouts(Vec<String>),
    Needless(&'static str),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub service: Option<Key>,
    pub server: Option<String>,
    pub scheduler: Option<String>,
    pub flags: Option<String>,
    /// Seconds.
    pub persistence: Option<String>,
    pub mask: Option<String>,
    pub engine: Option<String>,
    pub ops: bool,
    pub forward: Option<&'static str>,
    pub tunnel: Option<String>,
    pub tunnel_port: Option<String>,
    pub weight: Option<String>,
    pub upper: Option<String>,
    pub lower: Option<String>,
    /// Words that are no option.
    pub surplus: Vec<String>,
}

/// Long options, the letters that are the same (digits: there is none), and whether a value
/// follows.
const OPTIONS: [(&str, char, bool); 39] = [
    ("add-service", 'A', false),
    ("edit-service", 'E', false),
    ("delete-service", 'D', false),
    ("clear", 'C', false),
    ("add-server", 'a', false),
    ("edit-server", 'e', false),
    ("delete-server", 'd', false),
    ("zero", 'Z', false),
    ("list", 'L', false),
    ("list", 'l', false),
    ("save", 'S', false),
    ("restore", 'R', false),
    ("set", '1', false),
    ("start-daemon", '2', false),
    ("stop-daemon", '3', false),
    ("tcp-service", 't', true),
    ("udp-service", 'u', true),
    ("sctp-service", '4', true),
    ("fwmark-service", 'f', true),
    ("ipv6", '6', false),
    ("scheduler", 's', true),
    ("sched-flags", 'b', true),
    ("persistent", 'p', false),
    ("netmask", 'M', true),
    ("pe", '5', true),
    ("ops", 'o', false),
    ("ops", 'O', false),
    ("real-server", 'r', true),
    ("gatewaying", 'g', false),
    ("ipip", 'i', false),
    ("masquerading", 'm', false),
    ("weight", 'w', true),
    ("u-threshold", 'x', true),
    ("l-threshold", 'y', true),
    ("tun-type", '7', true),
    ("tun-port", '8', true),
    ("tun-nocsum", '0', false),
    ("numeric", 'n', false),
    ("exact", '9', false),
];

/// ipvsadm's default of -p.
const PERSISTENCE: &str = "300";

/// Words of a line, one after the other.
struct Words<'w> {
    rest: std::iter::Peekable<std::iter::Copied<std::slice::Iter<'w, &'w str>>>,
}

impl Words<'_> {
    fn next(&mut self) -> Option<String> {
        self.rest.next().map(str::to_owned)
    }

    /// The next word, if it is a number.
    fn number(&mut self) -> Option<String> {
        let is_number = |word: &&str| word.chars().all(|char| char.is_ascii_digit());
        self.rest.next_if(is_number).map(str::to_owned)
    }
}

/// The command of a line, and its options.
pub(super) fn parse(words: &[&str]) -> Result<(Command, Options), String> {
    let mut options = Options::default();
    let mut found = None;
    let mut words = Words { rest: words.iter().copied().peekable() };
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) =
                long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value.to_owned())));
            match OPTIONS.iter().find(|(long, ..)| *long == name) {
                Some((_, letter, takes)) => {
                    let value = value.or_else(|| if *takes { words.next() } else { None });
                    options.apply(*letter, value, &mut words, &mut found);
                }
                None => options.surplus.push(word),
            }
            continue;
        }
        let Some(short) = word.strip_prefix('-').filter(|short| !short.is_empty()) else {
            options.surplus.push(word);
            continue;
        };
        let mut letters = short.chars();
        while let Some(letter) = letters.next() {
            let is_letter = letter == '6' || !letter.is_ascii_digit();
            let known = OPTIONS.iter().find(|(_, short, _)| *short == letter && is_letter);
            let Some((_, letter, takes)) = known else {
                options.surplus.push(format!("-{letter}"));
                continue;
            };
            // `-w5` is `-w 5`, and `-p600` is `-p 600`.
            let mut value = None;
            if *takes || *letter == 'p' && letters.as_str().starts_with(|char: char| char.is_ascii_digit()) {
                let rest: String = letters.by_ref().collect();
                value = Some(rest).filter(|rest| !rest.is_empty()).or_else(|| words.next());
            }
            options.apply(*letter, value, &mut words, &mut found);
        }
    }
    match found {
        // Such commands have options of their own, which mean as little.
        Some(command @ Command::Needless(_)) => {
            options.surplus.clear();
            Ok((command, options))
        }
        Some(command) => Ok((command, options)),
        None => Err("expected a command of ipvsadm, such as -A or -a".to_owned()),
    }
}

fn command(letter: char) -> Option<Command> {
    Some(match letter {
        'A' => Command::AddService,
        'E' => Command::EditService,
        'D' => Command::DeleteService,
        'a' => Command::AddServer,
        'e' => Command::EditServer,
        'd' => Command::DeleteServer,
        'C' => Command::Clear,
        'Z' => Command::Needless("counters of `lb` go on"),
        'L' | 'l' | 'S' | 'R' => Command::Needless("it changes nothing"),
        '2' | '3' => Command::Needless("directors tell each other about connections anyway (`sync`)"),
        _ => return None,
    })
}

impl Options {
    fn apply(
        &mut self,
        letter: char,
        value: Option<String>,
        words: &mut Words<'_>,
        found: &mut Option<Command>,
    ) {
        if let Some(command) = command(letter) {
            *found = Some(command);
            return;
        }
        match letter {
            '1' => {
                let times = (0..3).map_while(|_| words.next());
                *found = Some(Command::SetTimeouts(times.collect()));
            }
            't' | 'u' | 'f' | '4' => {
                self.service = value.map(|place| Key { protocol: letter, place });
            }
            'p' => {
                let seconds = value.or_else(|| words.number());
                self.persistence = Some(seconds.unwrap_or_else(|| PERSISTENCE.to_owned()));
            }
            's' => self.scheduler = value,
            'b' => self.flags = value,
            'M' => self.mask = value,
            '5' => self.engine = value,
            'o' | 'O' => self.ops = true,
            'r' => self.server = value,
            'g' => self.forward = Some("direct"),
            'i' => self.forward = Some("ipip"),
            'm' => self.forward = Some("masq"),
            'w' => self.weight = value,
            'x' => self.upper = value,
            'y' => self.lower = value,
            '7' => self.tunnel = value,
            '8' => self.tunnel_port = value,
            // -6, -n, --exact, --tun-nocsum: nothing to keep.
            _ => {}
        }
    }
}
