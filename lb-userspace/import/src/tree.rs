//! The YAML as a tree whose nodes know the lines of the source that they come from, and its text.

use crate::report::At;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub value: Value,
    /// Lines of the source.
    pub from: Vec<At>,
    /// Comment lines before it, without their sign.
    pub above: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    /// A list of scalars, in one line.
    Words(Vec<String>),
    List(Vec<Item>),
    Map(Map),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Map(pub Vec<(String, Item)>);

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl Value {
    /// A list of texts, each of which may be taken out by itself.
    pub(crate) fn texts(texts: impl IntoIterator<Item = (String, At)>) -> Self {
        Self::List(texts.into_iter().map(|(text, at)| Item::new(text, &[at])).collect())
    }

    /// The texts of such a list.
    pub(crate) fn as_texts(&self) -> Vec<&str> {
        let Self::List(items) = self else { return Vec::new() };
        let mut texts = Vec::new();
        for item in items {
            if let Self::Text(text) = &item.value {
                texts.push(text.as_str());
            }
        }
        texts
    }
}

impl Item {
    pub(crate) fn new(value: impl Into<Value>, from: &[At]) -> Self {
        Self { value: value.into(), from: from.to_vec(), above: Vec::new() }
    }

    pub(crate) fn at_step(&self, step: usize) -> Option<&Self> {
        match &self.value {
            Value::Map(map) => map.0.get(step).map(|(_, item)| item),
            Value::List(items) => items.get(step),
            Value::Text(_) | Value::Words(_) => None,
        }
    }

    pub(crate) fn at_step_mut(&mut self, step: usize) -> Option<&mut Self> {
        match &mut self.value {
            Value::Map(map) => map.0.get_mut(step).map(|(_, item)| item),
            Value::List(items) => items.get_mut(step),
            Value::Text(_) | Value::Words(_) => None,
        }
    }

    /// All lines of the source that this comes from, with those of the items in it.
    pub(crate) fn all_from(&self) -> Vec<At> {
        let mut all = self.from.clone();
        let mut step = 0;
        while let Some(item) = self.at_step(step) {
            all.extend(item.all_from());
            step += 1;
        }
        all
    }
}

impl Map {
    /// Sets `key`, or replaces its value: the source's last word counts.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>, from: &[At]) {
        let item = Item::new(value, from);
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = item,
            None => self.0.push((key.to_owned(), item)),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, item)| &item.value)
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.0.retain(|(known, _)| known != key);
    }

    /// Sorts keys as they stand in `order`; others come last.
    pub(crate) fn sort(&mut self, order: &[&str]) {
        let place = |key: &str| order.iter().position(|known| *known == key).unwrap_or(usize::MAX);
        self.0.sort_by_key(|(key, _)| place(key));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The text of a tree, and for each of its lines the steps from the root to what stands there.
pub(crate) struct Written {
    pub text: String,
    pub paths: Vec<Vec<usize>>,
}

pub(crate) fn write(root: &Map, above: &[String], below: &[String]) -> Written {
    let mut writer = Writer { written: Written { text: String::new(), paths: Vec::new() } };
    writer.comments(above, 0, &[]);
    if !above.is_empty() {
        writer.line("", &[]);
    }
    for (index, (key, item)) in root.0.iter().enumerate() {
        writer.comments(&item.above, 0, &[index]);
        writer.entry(key, item, 0, "", &[index]);
        let is_block = |item: &Item| matches!(item.value, Value::Map(_) | Value::List(_));
        if root.0.get(index + 1).is_some_and(|(_, next)| is_block(next) || is_block(item)) {
            writer.line("", &[index]);
        }
    }
    if !below.is_empty() {
        writer.line("", &[]);
    }
    writer.comments(below, 0, &[]);
    writer.written
}

struct Writer {
    written: Written,
}

impl Writer {
    fn line(&mut self, text: &str, path: &[usize]) {
        self.written.text.push_str(text.trim_end());
        self.written.text.push('\n');
        self.written.paths.push(path.to_vec());
    }

    fn comments(&mut self, comments: &[String], indent: usize, path: &[usize]) {
        for comment in comments {
            let text: String =
                comment.chars().map(|char| if is_printable(char) { char } else { '\u{fffd}' }).collect();
            self.line(&format!("{:indent$}# {text}", ""), path);
        }
    }

    /// `dash` is "- " for the first entry of an item of a list.
    fn entry(&mut self, key: &str, item: &Item, indent: usize, dash: &str, path: &[usize]) {
        let head = format!("{:width$}{dash}{}:", "", scalar(key), width = indent - dash.len());
        match &item.value {
            Value::Text(text) => self.line(&format!("{head} {}", scalar(&literal(text))), path),
            Value::Words(words) => self.line(&format!("{head} {}", flow(words)), path),
            Value::Map(map) if map.is_empty() => self.line(&format!("{head} {{}}"), path),
            Value::List(items) if items.is_empty() => self.line(&format!("{head} []"), path),
            Value::Map(map) => {
                self.line(&head, path);
                self.map(map, indent + 2, "", path);
            }
            Value::List(items) => {
                self.line(&head, path);
                for (index, item) in items.iter().enumerate() {
                    self.item(item, indent + 2, &[path, &[index]].concat());
                }
            }
        }
    }

    fn map(&mut self, map: &Map, indent: usize, dash: &str, path: &[usize]) {
        for (index, (key, item)) in map.0.iter().enumerate() {
            let path = [path, &[index]].concat();
            let dash = if index == 0 { dash } else { "" };
            // Comments of the first entry of a list's item stand before its dash.
            self.comments(&item.above, indent - dash.len(), &path);
            self.entry(key, item, indent, dash, &path);
        }
    }

    fn item(&mut self, item: &Item, indent: usize, path: &[usize]) {
        self.comments(&item.above, indent, path);
        match &item.value {
            Value::Text(text) => self.line(&format!("{:indent$}- {}", "", scalar(&literal(text))), path),
            Value::Words(words) => self.line(&format!("{:indent$}- {}", "", flow(words)), path),
            Value::Map(map) => self.map(map, indent + 2, "- ", path),
            // No list of lists is made.
            Value::List(_) => {}
        }
    }
}

fn flow(words: &[String]) -> String {
    let words = words.iter().map(|word| match word.contains([',', '[', ']', '{', '}']) {
        true => quoted(&literal(word)),
        false => scalar(word),
    });
    format!("[{}]", words.collect::<Vec<_>>().join(", "))
}

/// The text as a value stands for it: `${` by itself would begin a reference.
fn literal(text: &str) -> String {
    text.replace("${", "$${")
}

fn is_printable(char: char) -> bool {
    !char.is_control() && !matches!(char, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
}

/// Plain where YAML reads it as the same text, in quotes else.
fn scalar(text: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "/._:,*@+=%()$^;~ -".contains(char);
    let first = |char: char| char.is_ascii_alphanumeric() || "/._(".contains(char);
    let like_nothing = ["null", "Null", "NULL", "~", "..."].contains(&text);
    let is_plain = text.starts_with(first)
        && text.chars().all(plain)
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !like_nothing;
    if is_plain { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            char if is_printable(char) => quoted.push(char),
            char => quoted.push_str(&format!("\\U{:08x}", u32::from(char))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_where_yaml_would_read_them_otherwise() {
        for (text, written) in [
            ("rr", "rr"),
            ("192.0.2.10:80,443", "192.0.2.10:80,443"),
            ("192.0.2.10:*", "192.0.2.10:*"),
            ("[2001:db8::1]:80", "\"[2001:db8::1]:80\""),
            ("Test Page", "Test Page"),
            ("a: b", "\"a: b\""),
            ("", "\"\""),
            ("null", "\"null\""),
            ("a #b", "\"a #b\""),
            ("\\d+\"", "\"\\\\d+\\\"\""),
            ("a\u{7}", "\"a\\U00000007\""),
            ("-x", "\"-x\""),
        ] {
            assert_eq!(scalar(text), written, "{text:?}");
        }
    }

    #[test]
    fn what_looks_like_a_reference_is_none() {
        let text = "${file:/etc/passwd} $${x} ${";
        let mut check = Map::default();
        check.set("type", "http", &[]);
        check.set("receive", text, &[]);
        let mut hooks = Map::default();
        hooks.set("server_up", Value::Words(vec!["/bin/echo".into(), text.into(), "$x".into()]), &[]);
        let mut service = Map::default();
        service.set("vip", "192.0.2.10:80", &[]);
        service.set("fallback", "local", &[]);
        service.set("check", check, &[]);
        service.set("hooks", hooks, &[]);
        let mut root = Map::default();
        root.set("interface", "eth0", &[]);
        root.set("services", Value::List(vec![Item::new(service, &[])]), &[]);
        let written = write(&root, &[], &[]).text;
        assert!(written.contains("receive: \"$${file:/etc/passwd} $$${x} $${\"\n"), "{written}");
        let config =
            lb_config::parse(&written, "imported").unwrap_or_else(|error| panic!("{error}: {written}"));
        let hook = config.services[0].hooks.server_up.as_ref().expect("a hook");
        assert_eq!(hook.words, ["/bin/echo", text, "$x"]);
    }
}
