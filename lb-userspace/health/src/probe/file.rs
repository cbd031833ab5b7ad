//! File: another program writes the server's weight into it.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use std::time::Duration;

use tokio::time::sleep;

use super::excerpt::quote;
use super::{Advice, Answer, Failure};

/// Maximum number of bytes read; a weight has five digits.
const LENGTH: u64 = 64;

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
    // A comment may follow after `#`.
    let text = bytes.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if text.is_empty() {
        return Err(wrong("empty, expected a weight from 0 to 65535"));
    }
    let weight = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    match weight {
        Some(weight) => Ok(Answer { advice: Some(Advice::Weight(weight)), ..Answer::default() }),
        None => Err(wrong(&format!("{} is not a weight from 0 to 65535", quote(text)))),
    }
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
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(judge(&path).unwrap().advice, Some(Advice::Weight(weight)), "{text:?}");
        }
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
        assert_eq!(failure(&path), format!("'{}' is not a weight from 0 to 65535", "1".repeat(64)));
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
