//! keepalived.conf as statements and blocks of them.

use super::lex::Token;
use crate::Original;
use crate::keywords;
use crate::ledger::Ledger;
use crate::report::At;

/// Keywords with one value: keepalived ignores what stands behind it.
const ONE_VALUE: [&str; 35] = [
    "path",
    "regex",
    "connect_port",
    "connect_timeout",
    "delay_loop",
    "retry",
    "nb_get_retry",
    "delay_before_retry",
    "weight",
    "uthreshold",
    "lthreshold",
    "interface",
    "state",
    "priority",
    "advert_int",
    "preempt_delay",
    "bindto",
    "bind_if",
    "helo_name",
    "name",
    "type",
    "misc_timeout",
    "virtualhost",
    "quorum",
    "hysteresis",
    "lb_algo",
    "lvs_sched",
    "protocol",
    "persistence_timeout",
    "persistence_granularity",
    "connect_ip",
    "unicast_src_ip",
    "payload",
    "track_file",
    "snmp_name",
];

/// Blocks within blocks: keepalived has five at most.
const DEEPEST: usize = 32;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Statement {
    pub words: Vec<String>,
    /// Lines of its words and of its end.
    pub from: Vec<At>,
    pub block: Option<Vec<Statement>>,
}

impl Statement {
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub(super) fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    pub(super) fn argument(&self) -> &str {
        self.words.get(1).map_or("", String::as_str)
    }

    pub(super) fn at(&self) -> At {
        self.from.first().copied().unwrap_or(At { file: 0, line: 0 })
    }

    pub(super) fn inner(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    /// The last statement called `name` in the block.
    pub(super) fn last(&self, name: &str) -> Option<&Self> {
        self.inner().iter().rev().find(|statement| statement.name() == name)
    }

    pub(super) fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Self> {
        self.inner().iter().filter(move |statement| statement.name() == name)
    }

    /// Whether the switch called `name` in the block is on, and its line.
    pub(super) fn switch(&self, name: &str) -> Option<(bool, At)> {
        self.last(name).map(|statement| (statement.is_on(), statement.at()))
    }

    /// Whether a switch is on: it may stand without a value.
    pub(super) fn is_on(&self) -> bool {
        !matches!(self.argument(), "off" | "false" | "no")
    }

    /// Tells of a statement, and of its block, by the table of keywords.
    pub(super) fn tell(&self, scopes: &[&str], ledger: &mut Ledger) {
        keywords::tell(Original::Keepalived, scopes, self.name(), self.at(), ledger);
        let needless = keywords::find(Original::Keepalived, scopes, self.name())
            .is_some_and(|keyword| keyword.verdict == keywords::Verdict::Needless);
        let note = format!("it belongs to `{}`", self.words.join(" "));
        for at in self.from.iter().skip(1).copied().chain(self.inner().iter().flat_map(Self::lines)) {
            match needless {
                true => ledger.needless(at, note.clone()),
                false => ledger.lost(at, note.clone()),
            }
        }
    }

    pub(super) fn lines(&self) -> Vec<At> {
        let mut all = self.from.clone();
        all.extend(self.inner().iter().flat_map(Self::lines));
        all
    }
}

/// Builds statements of tokens; lines that hold nothing but braces are kept.
pub(super) fn parse(tokens: Vec<(Token, At)>, ledger: &mut Ledger) -> Vec<Statement> {
    let mut open: Vec<Statement> = vec![Statement { block: Some(Vec::new()), ..Statement::default() }];
    let mut now = Statement::default();
    for (token, at) in tokens {
        match token {
            Token::Word(word) => {
                now.words.push(word);
                if now.from.last() != Some(&at) {
                    now.from.push(at);
                }
            }
            Token::End => finish(&mut now, &mut open, ledger),
            Token::Open => {
                // The brace may stand on a line of its own.
                if now.words.is_empty()
                    && let Some(block) = open.last_mut().and_then(|statement| statement.block.as_mut())
                    && block.last().is_some_and(|last| last.block.is_none())
                {
                    now = block.pop().unwrap_or_default();
                }
                ledger.frame(at);
                if open.len() >= DEEPEST {
                    ledger.lost(at, "blocks are nested too deep");
                    finish(&mut now, &mut open, ledger);
                    continue;
                }
                now.block = Some(Vec::new());
                open.push(std::mem::take(&mut now));
            }
            Token::Close => {
                finish(&mut now, &mut open, ledger);
                close(at, &mut open, ledger);
            }
        }
    }
    finish(&mut now, &mut open, ledger);
    while open.len() > 1 {
        let at = open.last().map(Statement::at);
        at.into_iter().for_each(|at| ledger.changed(at, "the file ends before its block does"));
        let Some(statement) = open.pop() else { break };
        push(statement, &mut open);
    }
    open.pop().and_then(|root| root.block).unwrap_or_default()
}

fn finish(now: &mut Statement, open: &mut [Statement], ledger: &mut Ledger) {
    if !now.words.is_empty() {
        if let (true, [_, _, surplus @ ..]) = (ONE_VALUE.contains(&now.name()), now.words.as_slice())
            && !surplus.is_empty()
        {
            let what = format!("{:?} behind the value: keepalived ignores it, too", surplus.join(" "));
            ledger.lost(now.at(), what);
        }
        push(std::mem::take(now), open);
    }
}

fn push(statement: Statement, open: &mut [Statement]) {
    if let Some(block) = open.last_mut().and_then(|outer| outer.block.as_mut()) {
        block.push(statement);
    }
}

fn close(at: At, open: &mut Vec<Statement>, ledger: &mut Ledger) {
    if open.len() < 2 {
        ledger.changed(at, "a brace that closes nothing");
        return;
    }
    ledger.frame(at);
    let Some(statement) = open.pop() else { return };
    if let Some(first) = statement.from.first().filter(|first| first.file == at.file) {
        ledger.section(*first, at);
    }
    push(statement, open);
}
