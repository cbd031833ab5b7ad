//! Documents: their fenced blocks, and the commands between backticks.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use lb_lab::workspace::root;

use super::others;

pub(crate) struct Document {
    /// Its path from the workspace's root.
    pub name: String,
    pub blocks: Vec<Block>,
    /// What stands between backticks and begins with `lb`, with the number of its line.
    pub quoted: Vec<(usize, String)>,
    /// The same of what may be commands of other programs.
    pub of_others: Vec<(usize, String)>,
}

/// A fenced block.
pub(crate) struct Block {
    /// The number of its first line.
    pub line: usize,
    /// The word behind the fence.
    pub language: String,
    /// What follows that word.
    pub more: String,
    pub lines: Vec<String>,
}

impl Block {
    pub(crate) fn numbered_lines(&self) -> Vec<(usize, String)> {
        (self.line..).zip(self.lines.iter().cloned()).collect()
    }
}

impl Document {
    pub(crate) fn read(name: &str) -> Result<Self> {
        let path = root().join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(name, &text)
    }

    /// README.md, CONTRIBUTING.md, that of the routing daemons, and what stands in docs/.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let mut names =
            ["README.md", "CONTRIBUTING.md", "deploy/routing/README.md"].map(str::to_owned).to_vec();
        for entry in fs::read_dir(root().join("docs"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".md") {
                names.push(format!("docs/{name}"));
            }
        }
        names.sort();
        names.iter().map(|name| Self::read(name)).collect()
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let (mut blocks, mut quoted, mut of_others) = (Vec::new(), Vec::new(), Vec::new());
        let mut open: Option<Block> = None;
        for (number, line) in (1..).zip(text.lines()) {
            match (open.take(), line.strip_prefix("```")) {
                (Some(block), Some("")) => blocks.push(block),
                (Some(mut block), _) => {
                    block.lines.push(line.to_owned());
                    open = Some(block);
                }
                (None, Some(info)) => {
                    let (language, more) = info.split_once(' ').unwrap_or((info, ""));
                    let (language, more) = (language.to_owned(), more.to_owned());
                    open = Some(Block { line: number + 1, language, more, lines: Vec::new() });
                }
                (None, None) => {
                    for span in line.split('`').skip(1).step_by(2) {
                        if span.starts_with("lb ") {
                            quoted.push((number, span.to_owned()));
                        } else if others::may_be_one(span) {
                            of_others.push((number, span.to_owned()));
                        }
                    }
                }
            }
        }
        ensure!(open.is_none(), "{name}: a block has no end");
        Ok(Self { name: name.to_owned(), blocks, quoted, of_others })
    }
}

#[test]
fn blocks_and_quoted_commands_are_found() -> Result<()> {
    let text = "Say `lb status`, `yes` and\n`lb top`, `ip link`.\n```yaml lb1:/etc/x\na: 1\n```\n\n```sh\nlb `x`\n```\n";
    let Document { blocks, quoted, of_others, .. } = Document::parse("x.md", text)?;
    assert_eq!(of_others, [(2, "ip link".to_owned())]);
    assert_eq!(quoted, [(1, "lb status".to_owned()), (2, "lb top".to_owned())]);
    let shown: Vec<_> = blocks
        .iter()
        .map(|block| (block.line, &*block.language, &*block.more, block.lines.concat()))
        .collect();
    assert_eq!(shown, [(4, "yaml", "lb1:/etc/x", "a: 1".to_owned()), (8, "sh", "", "lb `x`".to_owned())]);
    assert!(Document::parse("x.md", "```sh\n").is_err());
    Ok(())
}
