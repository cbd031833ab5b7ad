//! A dead node is fenced once, however many groups it had.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_model::ids::NodeId;
use tokio::sync::OnceCell;

use crate::takeover::holder::Condition;

/// Makes the run of the fence command for this node, before the group of this name is taken; its
/// error is how it failed.
pub type Fence = Box<dyn Fn(NodeId, &str) -> Condition + Send>;

/// One run of the fence command, for all groups that wait for it. If the take-over whose turn it is
/// is called off, and the run with it, the next one that waits makes its own.
type Attempt = Arc<OnceCell<Result<(), String>>>;

/// Without a fence command nothing is waited for.
pub struct Fencing {
    fence: Option<Fence>,
    /// By node, since it was last heard. One that has failed is made again by whoever comes next.
    attempts: BTreeMap<NodeId, Attempt>,
}

impl Fencing {
    pub fn new(fence: Option<Fence>) -> Self {
        Self { fence, attempts: BTreeMap::new() }
    }

    /// The node lives: should it die again, it is fenced again.
    pub fn heard(&mut self, node: NodeId) {
        self.attempts.remove(&node);
    }

    /// What has to be waited for before a group is taken that these silent nodes may still have.
    pub fn before(&mut self, group: &str, silent: &[NodeId]) -> Option<Condition> {
        let fence = self.fence.as_ref()?;
        let runs: Vec<_> = silent
            .iter()
            .map(|&node| (attempt(self.attempts.entry(node).or_default()), fence(node, group)))
            .collect();
        if runs.is_empty() {
            return None;
        }
        Some(Box::pin(async move {
            for (attempt, run) in runs {
                attempt.get_or_init(|| run).await.clone()?;
            }
            Ok(())
        }))
    }
}

/// The one that runs or has succeeded, or a new one.
fn attempt(last: &mut Attempt) -> Attempt {
    if matches!(last.get(), Some(Err(_))) {
        *last = Attempt::default();
    }
    Arc::clone(last)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::FutureExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    const DEAD: NodeId = NodeId(1);
    const FIRST: &str = "first";
    const SECOND: &str = "second";

    /// A fence command that takes until it is let go.
    struct Command {
        /// The groups for which it was run.
        begun: Mutex<Vec<String>>,
        go: Semaphore,
        fails: AtomicBool,
    }

    fn fencing() -> (Arc<Command>, Fencing) {
        let command = Command { begun: Mutex::default(), go: Semaphore::new(0), fails: false.into() };
        let command = Arc::new(command);
        let here = Arc::clone(&command);
        let fence: Fence = Box::new(move |node, group| {
            assert_eq!(node, DEAD);
            let (command, group) = (Arc::clone(&here), group.to_owned());
            Box::pin(async move {
                command.begun.lock().expect("no panic").push(group);
                command.go.acquire().await.expect("open").forget();
                let fails = command.fails.load(Ordering::Relaxed);
                if fails { Err("no power".to_owned()) } else { Ok(()) }
            })
        });
        (command, Fencing::new(Some(fence)))
    }

    impl Command {
        fn begun(&self) -> Vec<String> {
            self.begun.lock().expect("no panic").clone()
        }
    }

    #[test]
    fn two_groups_of_a_dead_node_wait_for_one_run() {
        let (command, mut fencing) = fencing();
        let mut first = fencing.before(FIRST, &[DEAD]).expect("a condition");
        let mut second = fencing.before(SECOND, &[DEAD]).expect("a condition");
        assert_eq!((&mut first).now_or_never(), None);
        assert_eq!((&mut second).now_or_never(), None);
        command.go.add_permits(1);
        assert_eq!((&mut first).now_or_never(), Some(Ok(())));
        assert_eq!((&mut second).now_or_never(), Some(Ok(())));
        let third = fencing.before("third", &[DEAD]).expect("a condition");
        assert_eq!(third.now_or_never(), Some(Ok(())), "dead it stays");
        assert_eq!(command.begun(), [FIRST]);
    }

    #[test]
    fn a_node_that_was_heard_again_is_fenced_again() {
        let (command, mut fencing) = fencing();
        command.go.add_permits(2);
        for life in 1..=2 {
            let condition = fencing.before(FIRST, &[DEAD]).expect("a condition");
            assert_eq!(condition.now_or_never(), Some(Ok(())));
            assert_eq!(command.begun().len(), life);
            fencing.heard(DEAD);
        }
    }

    #[test]
    fn a_failure_is_shared_and_the_next_attempt_is_a_new_one() {
        let (command, mut fencing) = fencing();
        command.fails.store(true, Ordering::Relaxed);
        let mut first = fencing.before(FIRST, &[DEAD]).expect("a condition");
        let second = fencing.before(SECOND, &[DEAD]).expect("a condition");
        assert_eq!((&mut first).now_or_never(), None);
        command.go.add_permits(1);
        for condition in [first, second] {
            assert_eq!(condition.now_or_never(), Some(Err("no power".to_owned())));
        }
        command.fails.store(false, Ordering::Relaxed);
        command.go.add_permits(1);
        let again = fencing.before(SECOND, &[DEAD]).expect("a condition");
        assert_eq!(again.now_or_never(), Some(Ok(())));
        assert_eq!(command.begun(), [FIRST, SECOND]);
    }

    #[test]
    fn when_the_first_group_is_called_off_the_second_one_makes_the_run() {
        let (command, mut fencing) = fencing();
        let mut first = fencing.before(FIRST, &[DEAD]).expect("a condition");
        let second = fencing.before(SECOND, &[DEAD]).expect("a condition");
        assert_eq!((&mut first).now_or_never(), None);
        drop(first);
        command.go.add_permits(1);
        assert_eq!(second.now_or_never(), Some(Ok(())));
        assert_eq!(command.begun(), [FIRST, SECOND]);
    }

    #[test]
    fn nothing_is_waited_for_where_nothing_is_to_be_fenced() {
        assert!(fencing().1.before(FIRST, &[]).is_none());
        assert!(Fencing::new(None).before(FIRST, &[DEAD]).is_none());
    }
}
