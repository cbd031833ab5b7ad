//! What the kernel's verifier thinks of the programs, and what the compiler has made of them.

use aya_obj::Object;
use caps::CapSet;
use lb_common::mac::Mac;
use lb_common::program::stage::{HOST_IPV6, Stage};
use lb_common::service::admission::Admission;
use lb_datapath::DataPath;
use lb_datapath::inherited::PinnedMaps;
use lb_datapath::lease::Start;
use lb_datapath::object::{self, INGRESS_PROGRAM, OBJECT, PROGRAM, TRACE_PROGRAM};
use lb_datapath::plan::{Service, State};
use lb_tests::BENCHMARK;
use lb_tests::harness::{SMALL, WEB, WEB_UDP, WEB6, rr};

use crate::admission::{NONE, limited, only};
use crate::nat;

/// Steps that each program may take. The kernel refuses one that takes a million. Kernels differ in
/// how many they take: Linux 6.1 half as many again as 6.18.
const MOST_STEPS: u32 = 150_000;

#[test]
fn the_verifier_has_steps_left() {
    let mut object = object::load(&SMALL, &PinnedMaps::default()).unwrap();
    let mut over = Vec::new();
    let entries = [PROGRAM, TRACE_PROGRAM, INGRESS_PROGRAM, HOST_IPV6];
    for name in entries.into_iter().chain(Stage::ALL.map(Stage::program)) {
        let program = object::load_program(&mut object.ebpf, name).unwrap();
        let steps = program.info().unwrap().verified_instruction_count();
        println!("{name}: verified in {steps:?} steps");
        if steps.is_some_and(|steps| steps > MOST_STEPS) {
            over.push(name);
        }
    }
    assert!(over.is_empty(), "more than {MOST_STEPS} steps: {over:?}");
}

/// With what every director needs.
fn started() -> DataPath {
    let object = object::load(&SMALL, &PinnedMaps::default()).unwrap();
    let mac = Mac::new([2, 0, 0, 0, 0, 5]);
    let mut data_path = DataPath::new(object, SMALL, mac, [1, 2], Start::Active, None).unwrap();
    data_path.load_programs(&State::default(), &|| {}).unwrap();
    data_path
}

fn lacking(data_path: &DataPath) -> Vec<Stage> {
    let lacks = |stage: &Stage| data_path.ebpf.program(stage.program()).unwrap().fd().is_err();
    Stage::ALL.into_iter().filter(lacks).collect()
}

/// Most directors are ready sooner, because the kernel looks at what their services need.
#[test]
fn what_only_some_services_need_is_loaded_with_the_first_of_them() {
    let mut data_path = started();
    let mut state = State::default();
    state.services.insert(WEB, rr([1]));
    assert!(data_path.apply(state.clone()).errors.is_empty());
    let translation = [Stage::Translate, Stage::TranslateBack, Stage::RelatedBack];
    let is_lacking =
        |stage: &Stage| stage.is_for_ipv6() || translation.contains(stage) || *stage == Stage::Admit;
    assert_eq!(lacking(&data_path), Vec::from_iter(Stage::ALL.into_iter().filter(is_lacking)));

    let servers = vec![nat::masq([10, 1, 0, 1].into())];
    state.services.insert(WEB, Service { servers, ..rr([]) });
    assert!(data_path.apply(state.clone()).errors.is_empty());
    let is_lacking = |stage: &Stage| stage.is_for_ipv6() || *stage == Stage::Admit;
    assert_eq!(lacking(&data_path), Vec::from_iter(Stage::ALL.into_iter().filter(is_lacking)));

    state.services.insert(WEB6, rr([1]));
    assert!(data_path.apply(state.clone()).errors.is_empty());
    assert_eq!(lacking(&data_path), [Stage::Admit, Stage::AdmitIpv6]);

    state.services.insert(WEB, limited(rr([1]), Admission { client_new: only(1), ..NONE }));
    assert!(data_path.apply(state).errors.is_empty());
    assert_eq!(lacking(&data_path), []);
}

/// The kernel refuses, because this thread may load none.
#[test]
fn a_program_that_is_refused_stops_no_other_change_and_no_other_program() {
    let mut data_path = started();
    let is_guarded = |data_path: &DataPath| data_path.executor.maps().control.read(0).guarded.get() != 0;
    let mut state = State::default();
    state.services.insert(WEB, limited(rr([1]), Admission { client_new: only(1), ..NONE }));
    let rights = caps::read(None, CapSet::Effective).unwrap();
    caps::clear(None, CapSet::Effective).unwrap();
    let applied = data_path.apply(state.clone());
    caps::set(None, CapSet::Effective, &rights).unwrap();
    assert_eq!(applied.errors.len(), 1, "{:?}", applied.errors);
    assert!(data_path.applied().services.contains_key(&WEB), "all else is as wanted");
    assert!(!is_guarded(&data_path), "no packet goes to a program that is not there");
    let again = data_path.apply(state.clone());
    assert!(again.errors.is_empty() && !is_guarded(&data_path), "it is left alone for a while");
    // With what nobody has tried yet it is tried, too.
    let servers = vec![nat::masq([10, 1, 0, 1].into())];
    state.services.insert(WEB_UDP, Service { servers, ..rr([]) });
    let applied = data_path.apply(state);
    assert!(applied.errors.is_empty(), "{:?}", applied.errors);
    assert!(is_guarded(&data_path));
    assert!(lacking(&data_path).iter().all(|stage| stage.is_for_ipv6()));
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
