//! Nanoseconds per packet by BPF_PROG_TEST_RUN.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_userspace::config::{Protocol, Scheduler, ServiceKey, Stray, Timeouts};
use lb_userspace::dataplane::DataPath;
use lb_userspace::dataplane::mapped::Mapped;
use lb_userspace::dataplane::object::{self, Sizes};
use lb_userspace::plan::{Server, Service, Settings, State, Target};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

fn frame(dst: [u8; 4], flags: u8) -> Vec<u8> {
    let mut f = Vec::new();
    f.extend(MAC);
    f.extend([2, 0, 0, 0, 0, 100]);
    f.extend([8, 0]);
    f.extend([0x45, 0, 0, 46, 0, 1, 0x40, 0, 64, 6, 0, 0, 211, 58, 250, 100]);
    f.extend(dst);
    f.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    f.extend([0; 6]);
    f
}

fn main() {
    let sizes = Sizes::for_connections(1 << 20);
    let ebpf = object::load_object(object::BENCH_OBJECT, &sizes).unwrap();
    let mut dp = DataPath::new(ebpf, sizes, MAC, [0x1234_5678_9abc_def1, 0x0fed_cba9_8765_4321]).unwrap();
    let walk: Mapped<[u64; 8]> = Mapped::new("WALK", dp.ebpf.take_map("WALK").unwrap()).unwrap();
    let key =
        ServiceKey { vip: IpAddr::V4(Ipv4Addr::new(211, 58, 250, 6)), port: 80, protocol: Protocol::Tcp };
    let servers = (1..=16)
        .map(|i| Server {
            target: Target::Real(IpAddr::V4(Ipv4Addr::new(10, 0, 0, i))),
            weight: 1,
            mac: Some([2, 0, 0, 0, 1, i]),
            usable: true,
        })
        .collect();
    let mut state = State::default();
    state.services.insert(
        key,
        Service {
            settings: Settings { stray: Stray::Pass, timeouts: Timeouts::default() },
            scheduler: Scheduler::Rr,
            servers,
        },
    );
    dp.apply(state);
    for name in ["director", "floor_pass", "floor_swap", "floor_lru", "floor_lru_insert"] {
        object::load_program(&mut dp.ebpf, name).unwrap();
    }
    let macs = {
        let f = frame([0; 4], 0);
        [
            u64::from_le_bytes(f[0..8].try_into().unwrap()),
            u32::from_le_bytes(f[8..12].try_into().unwrap()) as u64,
        ]
    };
    let mut run = |name: &str, data: &[u8], flows: u64, base: u64, expected: u64, repeat: u32| {
        walk.write(
            0,
            [
                0,
                flows - 1,
                base,
                expected,
                0,
                macs[0],
                macs[1],
                if repeat as u64 == flows { 1 } else { 0x9e3779b97f4a7c15 },
            ],
        );
        let p: &mut Xdp = dp.ebpf.program_mut(name).unwrap().try_into().unwrap();
        let mut out = vec![0; 2048];
        let t = Instant::now();
        let r = p
            .test_run(TestRunOptions {
                data_in: Some(data),
                data_out: Some(&mut out),
                repeat,
                ..Default::default()
            })
            .unwrap();
        let ns = t.elapsed().as_nanos() as f64 / repeat as f64;
        let w = walk.read(0);
        println!(
            "{name:18} flows {flows:8} {ns:7.1} ns (kernel {:?}) wrong {} ret {}",
            r.duration, w[4], r.return_value
        );
    };
    let vip = [211, 58, 250, 6];
    let syn = frame(vip, 2);
    let ack = frame(vip, 0x10);
    for _ in 0..3 {
        run("floor_pass", &ack, 1, 0, 2, 1_000_000);
        run("floor_swap", &ack, 1, 0, 3, 1_000_000);
        run("director", &frame([1, 2, 3, 4], 0x10), 1, 0, 2, 1_000_000);
    }
    let mut base = 0;
    for flows in [1u64, 1024, 16384, 131072, 1 << 20] {
        run("floor_lru_insert", &ack, flows, base, 3, flows as u32);
        for _ in 0..2 {
            run("floor_lru", &ack, flows, base, 3, 2_000_001);
        }
        run("director", &syn, flows, base, 3, flows as u32);
        run("director", &ack, flows, base, 3, flows as u32);
        for _ in 0..3 {
            run("director", &ack, flows, base, 3, 2_000_001);
        }
        base += flows;
    }
    let _ = dp.executor.maps();
}
