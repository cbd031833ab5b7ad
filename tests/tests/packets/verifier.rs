//! What the kernel's verifier thinks of the programs.

use lb_common::stage::Stage;
use lb_datapath::inherited::PinnedMaps;
use lb_datapath::object::{self, INGRESS_PROGRAM, PROGRAM, TRACE_PROGRAM};
use lb_tests::harness::SMALL;

/// Steps that each program may take. The kernel refuses one that takes a million. Kernels differ in
/// how many they take: Linux 6.1 half as many again as 6.18.
const MOST_STEPS: u32 = 150_000;

#[test]
fn the_verifier_has_steps_left() {
    let mut ebpf = object::load(&SMALL, &PinnedMaps::default()).unwrap();
    let mut over = Vec::new();
    for name in [PROGRAM, TRACE_PROGRAM, INGRESS_PROGRAM].into_iter().chain(Stage::ALL.map(Stage::program)) {
        let program = object::load_program(&mut ebpf, name).unwrap();
        let steps = program.info().unwrap().verified_instruction_count();
        println!("{name}: verified in {steps:?} steps");
        if steps.is_some_and(|steps| steps > MOST_STEPS) {
            over.push(name);
        }
    }
    assert!(over.is_empty(), "more than {MOST_STEPS} steps: {over:?}");
}
