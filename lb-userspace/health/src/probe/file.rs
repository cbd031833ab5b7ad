//! File: another program writes the server's weight into it.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use std::time::Duration;

use tokio::time::sleep;

use super::excerpt::quote;
use super::{Advice, Answer, Failure};

/// Maximum number of bytes read; a weight has five digits, and comments may stand before it.
const LENGTH: u64 = 4096;

/// A file is empty for a moment while it is rewritten (`echo 50 > file`): it is read again this
/// often, at this interval.
const AGAIN: u32 = 5;
const MOMENT: Duration = Duration::from_millis(10);

/// Reads without a time limit: a few bytes of a regular file on a local file system do not block.
pub(super) async fn probe(path: &Path) -> Result<Answer, Failure> {
    for _ in 0..AGAIN {
        match read(path) {
            Ok(Some(bytes)) if bytes.trim_ascii().is_empty() => sleep(MOMENT).await,
            _ => break,
        }
    }
    judge(path)
}

fn judge(path: &Path) -> Result<Answer, Failure> {
    let wrong = |what: &str| Failure::Wrong(format!("{}: {what}", path.display()));
    let bytes = match read(path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(wrong("not a file")),
        Err(error) => return Err(wrong(&error.to_string())),
    };
    let text = without_comments(&bytes);
    if text.is_empty() {
        return Err(wrong("empty, expected a weight from 0 to 65535"));
    }
    let weight = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    match weight {
        Some(weight) => Ok(Answer { advice: Some(Advice::Weight(weight)), ..Answer::default() }),
        None => Err(wrong(&format!("{} is not a weight from 0 to 65535", quote(text)))),
    }
}

/// The text without lines of comment before it, and without what follows after `#`.
fn without_comments(bytes: &[u8]) -> &[u8] {
    let text = bytes.trim_ascii_start();
    let mut text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii_start();
    while text.first() == Some(&b'#') {
        let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
        text = text[end..].trim_ascii_start();
    }
    let text = text.split(|byte| *byte == b'#').next().unwrap_or_default();
    // A program in C may have written the NUL at the end of its text, too.
    let last = text.iter().rposition(|byte| *byte != 0 && !byte.is_ascii_whitespace());
    &text[..last.map_or(0, |last| last + 1)]
}

/// `None`: not a regular file. Opened non-blocking, so that a FIFO without a writer does not block.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(LENGTH).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn failure(path: &Path) -> String {
        let words = judge(path).expect_err("it fails").to_string();
        let rest = words.strip_prefix(&format!("{}: ", path.display()));
        rest.expect("the path first").to_owned()
    }

    #[test]
    fn a_number_is_the_weight() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weight");
        let long = format!("5 # {}\n", "too long a story ".repeat(1000));
        let headed = format!("{}5\n", "# what the load allows\n".repeat(100));
        for (text, weight) in [
            ("0", 0),
            ("7\n", 7),
            (" 65535\r\n", 65535),
            ("007", 7),
            ("+5", 5),
            ("\n\n5\n\n", 5),
            ("\u{feff}5\r\n", 5),
            ("0 # new disk", 0),
            ("5\n# what the load allows\n", 5),
            ("\t5", 5),
            ("# what the load allows\n5\n", 5),
            ("#\r\n5\r\n#\r\n", 5),
            ("\u{feff}# saved by an editor\r\n5\r\n", 5),
            ("5\0", 5),
            ("5\n\0\0", 5),
            ("5 # since noon\n7 # before\n", 5),
            ("000000000000000000000000000000000000000000000000000000000000000000000000005", 5),
            (&long, 5),
            (&headed, 5),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(judge(&path).unwrap().advice, Some(Advice::Weight(weight)), "{text:?}");
        }
    }

    async fn weight(path: &Path) -> Result<Option<Advice>, String> {
        probe(path).await.map(|answer| answer.advice).map_err(|failure| failure.to_string())
    }

    /// A file that is not simply written to its place.
    #[tokio::test]
    async fn however_the_file_came_there_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other, third] = ["weight", "other", "third"].map(|name| folder.path().join(name));
        let five: Result<_, String> = Ok(Some(Advice::Weight(5)));
        fs::write(&other, "5\n").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert_eq!(weight(&path).await, five, "by a symbolic link");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&other, &path).unwrap();
        assert_eq!(weight(&path).await, five, "by a second name");
        let mut writer = OpenOptions::new().append(true).open(&path).unwrap();
        io::Write::write_all(&mut writer, b"# and more\n").unwrap();
        assert_eq!(weight(&path).await, five, "while somebody writes a comment");
        fs::write(&third, "5").unwrap();
        fs::rename(&third, &path).unwrap();
        assert_eq!(weight(&path).await, five, "moved to its place");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
        assert_eq!(weight(&path).await, five, "for its owner alone");
        // Files of the kernel have no length.
        let switch = Path::new("/proc/sys/vm/overcommit_memory");
        let number = fs::read_to_string(switch).unwrap().trim().parse().unwrap();
        assert_eq!(weight(switch).await, Ok(Some(Advice::Weight(number))));
    }

    #[tokio::test]
    async fn a_file_that_is_just_written_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weight");
        fs::write(&path, "").unwrap();
        let probing = probe(&path);
        let writing = async {
            tokio::task::yield_now().await;
            fs::write(&path, "7").unwrap();
        };
        let (found, ()) = tokio::join!(probing, writing);
        assert_eq!(found.unwrap().advice, Some(Advice::Weight(7)));
    }

    #[test]
    fn anything_else_is_a_failure_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weight");
        assert_eq!(failure(&path), "No such file or directory (os error 2)");
        assert_eq!(failure(folder.path()), "not a file");
        let cases: [(&[u8], &str); 10] = [
            (b"50%", "'50%' is not a weight from 0 to 65535"),
            (b"0x10", "'0x10' is not a weight from 0 to 65535"),
            (b"# 5", "empty, expected a weight from 0 to 65535"),
            (b"", "empty, expected a weight from 0 to 65535"),
            (b" \n", "empty, expected a weight from 0 to 65535"),
            (b"65536", "'65536' is not a weight from 0 to 65535"),
            (b"-1", "'-1' is not a weight from 0 to 65535"),
            (b"1\n2", "'1\\n2' is not a weight from 0 to 65535"),
            (b"heavy", "'heavy' is not a weight from 0 to 65535"),
            (b"\xff\x1b", "'�\\u{1b}' is not a weight from 0 to 65535"),
        ];
        for (bytes, words) in cases {
            fs::write(&path, bytes).unwrap();
            assert_eq!(failure(&path), words);
        }
        fs::write(&path, "1".repeat(1 << 20)).unwrap();
        assert_eq!(failure(&path), format!("'{}…' is not a weight from 0 to 65535", "1".repeat(80)));
    }

    #[test]
    fn what_is_not_a_file_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(failure(&path), "not a file");
        assert_eq!(failure(Path::new("/dev/zero")), "not a file");
    }
}
