//! What the kernel's verifier thinks of the programs, and what the compiler has made of them.

use aya_obj::Object;
use lb_common::stage::Stage;
use lb_datapath::inherited::PinnedMaps;
use lb_datapath::object::{self, INGRESS_PROGRAM, OBJECT, PROGRAM, TRACE_PROGRAM};
use lb_tests::BENCHMARK;
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

/// A program whose code the compiler has put into a function of its own makes each packet pay for a
/// call, see lb-ebpf/src/main.rs.
#[test]
fn no_program_is_but_a_call_of_its_own_code() {
    /// BPF_JMP | BPF_CALL.
    const CALL: u8 = 0x85;
    for object in [OBJECT, BENCHMARK] {
        let object = Object::parse(object).unwrap();
        for (name, program) in &object.programs {
            let instructions = &object.functions[&program.function_key()].instructions;
            assert!(instructions.len() > 2 || instructions[0].code != CALL, "{name} calls its own code");
        }
    }
}
