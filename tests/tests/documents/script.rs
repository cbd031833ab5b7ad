//! Lines for a shell: those of `sh` blocks. Behind the word stand the machines that they run on, in
//! the order of the document; `last` has them wait until all documents of the play have been run.

use super::blocks::Block;

/// Commands that go on until somebody stops them.
const GO_ON: [&str; 4] = ["lb status --watch", "lb events --follow", "lb trace", "lb capture"];

/// How long those run. What is wrong with them they tell at once.
const SECONDS: u32 = 3;

const LAST: &str = "last";

/// The lines, each with its number and without its comment. A here document is of one line with
/// what begins it.
pub(crate) fn lines(block: &Block) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    if block.language != "sh" {
        return lines;
    }
    let mut rest = block.numbered_lines().into_iter();
    while let Some((number, text)) = rest.next() {
        let mut text = text.split(" #").next().unwrap_or_default().trim_end().to_owned();
        if let Some((_, end)) = text.split_once("<<") {
            let end = end.trim_matches('\'').to_owned();
            for (_, more) in rest.by_ref() {
                text = text + "\n" + &more;
                if more == end {
                    break;
                }
            }
        }
        if !text.is_empty() && !text.starts_with('#') {
            lines.push((number, text));
        }
    }
    lines
}

/// Where the lines run; none: nowhere.
pub(crate) fn machines(block: &Block) -> Vec<&str> {
    let words = block.more.split_whitespace().filter(|word| *word != LAST);
    if block.language == "sh" { words.collect() } else { Vec::new() }
}

pub(crate) fn comes_last(block: &Block) -> bool {
    block.language == "sh" && block.more.split_whitespace().any(|word| word == LAST)
}

/// The command, or one that stops it after a while if it would go on: that it goes on is right.
pub(crate) fn ending(command: &str) -> String {
    if !GO_ON.iter().any(|begin| command.starts_with(begin)) {
        return command.to_owned();
    }
    let quoted = command.replace('\'', r"'\''");
    // 124 is timeout's own: the command was stopped.
    format!(
        "timeout --signal=INT --kill-after=30 {SECONDS} sh -c '{quoted}'; ended=$?; [ $ended -eq 124 ] || exit $ended"
    )
}

#[cfg(test)]
fn block(more: &str, lines: &[&str]) -> Block {
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    Block { line: 3, language: "sh".to_owned(), more: more.to_owned(), lines }
}

#[test]
fn lines_are_without_comments_and_with_what_is_read_here() {
    let block =
        block("lb1 lb2 last", &["lb status   # now", "# lb top", "cat <<'END'", "a # b", "END", "ls"]);
    let found: Vec<_> = lines(&block);
    let wanted = [(3, "lb status"), (5, "cat <<'END'\na # b\nEND"), (8, "ls")];
    assert_eq!(found, wanted.map(|(number, text)| (number, text.to_owned())));
    assert_eq!(machines(&block), ["lb1", "lb2"]);
    assert!(comes_last(&block));
}

#[test]
fn what_would_go_on_is_stopped_and_what_fails_fails() {
    let succeeds = |line: &str| {
        let status = std::process::Command::new("sh").args(["-c", line]).status().expect("a shell");
        status.success()
    };
    assert_eq!(ending("lb status web"), "lb status web");
    let of = |command: &str| ending("lb trace").replace("lb trace", command);
    assert!(succeeds(&of("sleep 60")) && succeeds(&of("true")) && !succeeds(&of("exit 3")));
}
