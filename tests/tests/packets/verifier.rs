//! What the kernel's verifier thinks of the program.

use lb_datapath::inherited::PinnedMaps;
use lb_datapath::object::{self, PROGRAM};
use lb_tests::harness::SMALL;

/// The kernel refuses a program that takes it a million steps to verify. Kernels differ in how many they take: Linux 6.1
/// half as many again as 6.18.
#[test]
fn the_verifier_has_steps_left() {
    let mut ebpf = object::load(&SMALL, &PinnedMaps::default()).unwrap();
    let program = object::load_program(&mut ebpf, PROGRAM).unwrap();
    let steps = program.info().unwrap().verified_instruction_count();
    println!("verified in {steps:?} steps");
    assert!(steps.is_none_or(|steps| steps < 900_000), "{steps:?} steps");
}
