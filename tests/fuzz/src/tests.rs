use super::*;

#[test]
fn a_property_that_does_not_hold_is_found_and_comes_again() {
    let run = || {
        let config = Config { rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Config::default() };
        let failed = hold(config, 0..1000_u32, |number| {
            if number < 300 { Ok(()) } else { Err(TestCaseError::fail("too large")) }
        });
        failed.expect_err("two of three numbers are").input
    };
    assert_eq!((run(), run()), ("300".into(), "300".into()));
}

/// Panics in tasks are detected, although the runtime only ends the task.
#[test]
fn a_panic_in_a_task_is_found() {
    let runtime = script::runtime();
    let config = Config { cases: 1, failure_persistence: None, ..Config::default() };
    let failed = hold(config, 0..1000_u32, |_| {
        let task = runtime.spawn(async { panic!("on purpose, inside a task") });
        let _ = runtime.block_on(task);
        Ok(())
    });
    assert_eq!(failed.expect_err("a panic").why, "a task has panicked");
}
