//! References in values: `${env:NAME}` is a variable of `lb`'s environment, `${file:PATH}` what a
//! file holds. `$${` stands for `${`.

use std::path::Path;

use super::beside::Beside;

/// What a text with references has.
pub(crate) const REFERENCE: &str = "${";

/// The text with what its references stand for, or what is wrong with one of them. Paths are
/// relative to `folder`.
pub(crate) fn expanded(text: &str, folder: &Path, beside: &mut Beside) -> Result<String, String> {
    let mut value = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(REFERENCE) {
        let (before, behind) = (&rest[..at], &rest[at + REFERENCE.len()..]);
        let literal = before.strip_suffix('$');
        value.push_str(literal.unwrap_or(before));
        rest = behind;
        let Some((kind, argument)) = kind(behind).filter(|_| literal.is_none()) else {
            value.push_str(REFERENCE);
            continue;
        };
        let Some((argument, after)) = argument.split_once('}') else {
            return Err(format!(
                "expected `}}` at the end of the reference ${{{kind}:…}}; `$${{` stands for `${{`"
            ));
        };
        rest = after;
        match kind {
            "env" => value.push_str(&variable(argument)?),
            "file" => value.push_str(&content(argument, folder, beside)?),
            other => {
                return Err(format!(
                    "unknown reference ${{{other}:…}}, expected ${{env:NAME}} or ${{file:PATH}}; `$${{` stands for `${{`"
                ));
            }
        }
    }
    Ok(value + rest)
}

/// What stands before the colon, and behind it. A shell's `${name:-word}` and `${name}` are no
/// references: they may be in a command's arguments.
fn kind(behind: &str) -> Option<(&str, &str)> {
    let (kind, argument) = behind.split_once(':')?;
    let is_word = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphabetic());
    (is_word && !argument.starts_with(['-', '=', '+', '?'])).then_some((kind, argument))
}

fn variable(name: &str) -> Result<String, String> {
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if !is_name(name) {
        return Err("expected the name of an environment variable, such as ${env:LB_NODE}".into());
    }
    let value = std::env::var_os(name).ok_or_else(|| {
        format!("the environment variable {name} is not set: set it for lb, in its unit by `Environment=` or `EnvironmentFile=`")
    })?;
    value.into_string().map_err(|_| format!("the environment variable {name} is not UTF-8 text"))
}

fn content(path: &str, folder: &Path, beside: &mut Beside) -> Result<String, String> {
    if path.is_empty() || path.contains('\0') {
        return Err("expected a file's path, such as ${file:/etc/lb/secret}".into());
    }
    let text = beside.value(folder.join(path))?;
    // As editors and `echo` end a file.
    let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    Ok(line.unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(text: &str) -> Result<String, String> {
        expanded(text, Path::new(""), &mut Beside::default())
    }

    #[test]
    fn what_is_no_reference_stays_as_it_is() {
        for text in
            ["", "a", "$", "$$", "${", "${}", "$HOME", "${HOME}", "${A:-b}", "${A:?b}", "a$}{", "${1:x}"]
        {
            assert_eq!(read(text).as_deref(), Ok(text));
        }
        for (text, value) in [("$${env:A}", "${env:A}"), ("$$${x}", "$${x}"), ("a$${b}$${", "a${b}${")] {
            assert_eq!(read(text).as_deref(), Ok(value));
        }
    }

    #[test]
    fn a_variable_stands_for_its_value() {
        let path = std::env::var("PATH").expect("a PATH");
        assert_eq!(read("<${env:PATH}>${env:PATH}").as_deref(), Ok(&*format!("<{path}>{path}")));
        for (text, why) in [
            ("${env:LB_NO_SUCH_VARIABLE}", "the environment variable LB_NO_SUCH_VARIABLE is not set"),
            ("${env:}", "expected the name of an environment variable"),
            ("${env:A B}", "expected the name of an environment variable"),
            ("${env:A", "expected `}`"),
            ("${ENV:A}", "unknown reference ${ENV:…}"),
            ("${evn:A}", "unknown reference ${evn:…}"),
            ("${file:}", "expected a file's path"),
        ] {
            let told = read(text).expect_err(text);
            assert!(told.starts_with(why), "{text}: {told}");
        }
    }

    #[test]
    fn a_file_stands_for_its_text_without_the_last_line_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let long = vec![b'x'; 64 * 1024 + 1];
        let files: [(&str, &[u8]); 5] = [
            ("one", b"secret\n"),
            ("two", b"a\nb\n\n"),
            ("dos", b"a\r\n"),
            ("binary", b"\xff"),
            ("long", &long),
        ];
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        let mut beside = Beside::default();
        let mut read = |text: &str| expanded(text, folder.path(), &mut beside);
        assert_eq!(read("${file:one}").as_deref(), Ok("secret"));
        assert_eq!(read("-${file:two}-").as_deref(), Ok("-a\nb\n-"));
        assert_eq!(read("${file:dos}").as_deref(), Ok("a"));
        let absolute = format!("${{file:{}}}", folder.path().join("one").display());
        assert_eq!(read(&absolute).as_deref(), Ok("secret"));
        for (text, why) in [
            ("${file:binary}", "is not UTF-8 text"),
            ("${file:long}", "is larger than 64 KiB"),
            ("${file:.}", "is no regular file"),
            ("${file:none}", "No such file"),
        ] {
            let told = read(text).expect_err(text);
            assert!(told.contains(why), "{text}: {told}");
        }
        assert_eq!(beside.paths().count(), 7, "a file that is not there yet may come");
    }

    proptest::proptest! {
        #[test]
        fn doubled_dollars_bring_every_text_back(text in "([${}a:]|env:|file:){0,12}") {
            let doubled = text.replace("${", "$${");
            proptest::prop_assert_eq!(read(&doubled), Ok(text));
        }
    }
}
