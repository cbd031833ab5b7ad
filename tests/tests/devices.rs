//! Bonds, VLAN devices, bridges and macvlans that the kernel makes: what `lb` takes them for, what
//! `lb check` says of them, and whether native XDP can be had where it says so.
//!
//! Kernels have them in modules that a machine may lack: `cargo xtask test --kernels` brings them
//! along.

use std::fs;
use std::net::Ipv4Addr;
use std::panic::resume_unwind;
use std::process::Command;
use std::thread;

use aya::programs::XdpMode;
use lb_common::packet::vlan::Vlan;
use lb_datapath::inherited::PinnedMaps;
use lb_datapath::object::{self, PROGRAM};
use lb_lab::lab::director::binary;
use lb_net::links::{Bond, Kind, Link, Links, Master};
use lb_tests::harness::SMALL;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::link::{BondMode, BondXmitHashPolicy, LinkMessage, MacVlanMode, VlanProtocol};
use rtnetlink::{
    LinkBond, LinkBridge, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVlan, new_connection,
};

/// Runs a test in a network namespace of its own, which ends with the test's thread.
fn apart(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (this needs root)");
            test();
        });
        there.join().unwrap_or_else(|panic| resume_unwind(panic));
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Makes an interface, or changes one.
fn link(message: LinkMessage, is_there: bool) {
    runtime().block_on(async {
        let (connection, handle, _) = new_connection().expect("a netlink socket");
        let task = tokio::spawn(connection);
        let done = match is_there {
            true => handle.link().set(message).execute().await,
            false => handle.link().add(message).execute().await,
        };
        task.abort();
        done.unwrap_or_else(|error| panic!("the kernel does not make or change the interface: {error}"));
    });
}

fn make(message: LinkMessage) {
    link(message, false);
}

fn change(
    interface: &str,
    change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
) {
    link(change(LinkUnspec::new_with_name(interface)).build(), true);
}

fn links() -> Links {
    runtime().block_on(Links::look()).expect("the kernel lists its interfaces")
}

fn link_of(name: &str) -> Link {
    links().named(name).unwrap_or_else(|| panic!("no interface {name}")).clone()
}

/// A veth, whose other end is `far-…`.
fn veth(name: &str) -> u32 {
    make(LinkVeth::new(name, &format!("far-{name}")).up().build());
    link_of(name).index
}

/// Whether the kernel attaches a program to the interface in native mode.
fn takes_native(index: u32) -> bool {
    let mut object = object::load(&SMALL, &PinnedMaps::default()).expect("the object");
    let program = object::load_program(&mut object.ebpf, PROGRAM).expect("the program");
    program.attach_to_if_index(index, XdpMode::Driver).is_ok()
}

/// Gives the interface an address in the network of the server of [`warnings`].
fn address(interface: u32) {
    runtime().block_on(async {
        let (connection, handle, _) = new_connection().expect("a netlink socket");
        let task = tokio::spawn(connection);
        let own = Ipv4Addr::new(192, 0, 2, 5).into();
        let done = handle.address().add(interface, own, 24).replace().execute().await;
        task.abort();
        done.unwrap_or_else(|error| panic!("the kernel does not take the address: {error}"));
    });
}

/// What `lb check` warns of with this interface in the configuration.
fn warnings(interface: &str) -> Vec<String> {
    address(link_of(interface).index);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lb.yaml");
    let services = "services: [{ vip: '192.0.2.10:80', servers: [{ address: 192.0.2.21 }] }]";
    fs::write(&file, format!("interface: {interface}\n{services}\n")).expect("a file");
    let output = Command::new(binary().expect("lb")).arg("check").arg(&file).output().expect("lb check");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let warnings = text.lines().filter_map(|line| line.strip_prefix("warning: "));
    warnings.filter(|text| text.contains(interface)).map(str::to_owned).collect()
}

/// What `lb` takes the interface for is as expected; if that is said to be `native`, the kernel
/// attaches a program there in native mode, and `lb check` says `mend` otherwise.
#[track_caller]
fn assert_is(name: &str, kind: &Kind, mend: Option<&str>) {
    let link = link_of(name);
    assert_eq!(&link.kind, kind, "{name}");
    assert_eq!(takes_native(link.index), mend.is_none(), "native XDP on {name}, {kind:?}");
    let warnings = warnings(name);
    match mend {
        None => assert_eq!(warnings, [""; 0], "{name}"),
        Some(mend) => {
            assert!(warnings.len() == 1 && warnings[0].contains(mend), "{name}: {warnings:?}");
        }
    }
}

#[test]
#[ignore = "needs the module bonding: run by `cargo xtask test --kernels`"]
fn bonds_are_native_where_lb_says_so() {
    let layer2 = BondXmitHashPolicy::Layer2;
    let by_vlan = BondXmitHashPolicy::VlanSrcMac;
    for (mode, policy, kind) in [
        (BondMode::BalanceRr, layer2, Bond::Native("balance-rr")),
        (BondMode::ActiveBackup, layer2, Bond::Native("active-backup")),
        (BondMode::BalanceXor, layer2, Bond::Native("balance-xor")),
        (BondMode::Ieee8023Ad, BondXmitHashPolicy::Layer34, Bond::Native("802.3ad")),
        (BondMode::Ieee8023Ad, by_vlan, Bond::Generic("xmit_hash_policy vlan+srcmac")),
        (BondMode::BalanceXor, by_vlan, Bond::Generic("xmit_hash_policy vlan+srcmac")),
        (BondMode::Broadcast, layer2, Bond::Generic("mode broadcast")),
        (BondMode::BalanceTlb, layer2, Bond::Generic("mode balance-tlb")),
        (BondMode::BalanceAlb, layer2, Bond::Generic("mode balance-alb")),
    ] {
        apart(|| {
            make(LinkBond::new("bond7").mode(mode).xmit_hash_policy(policy).up().build());
            let bond = link_of("bond7").index;
            for port in ["port0", "port1"] {
                make(LinkVeth::new(port, &format!("far-{port}")).build());
                change(port, |link| link.controller(bond));
                change(port, LinkMessageBuilder::up);
            }
            let mend = matches!(kind, Bond::Generic(_)).then_some("use mode 802.3ad, active-backup");
            assert_is("bond7", &Kind::Bond(kind), mend);
            assert_eq!(link_of("port1").master, Some((bond, Master::Bond)));
            let warnings = warnings("port1");
            assert!(warnings.len() == 1 && warnings[0].contains("set `interface: bond7`"), "{warnings:?}");
        });
    }
}

#[test]
#[ignore = "needs the module 8021q: run by `cargo xtask test --kernels`"]
fn packets_leave_a_vlan_device_by_what_it_stands_on() {
    apart(|| {
        let eth = veth("eth7");
        change("far-eth7", LinkMessageBuilder::up);
        make(LinkVlan::new("eth7.120", eth, 120).up().build());
        let outer = VlanProtocol::Ieee8021Ad;
        make(LinkVlan::new("eth7.200", eth, 200).protocol(outer).up().build());
        let middle = link_of("eth7.200").index;
        make(LinkVlan::new("eth7.200.5", middle, 5).up().build());
        assert_is(
            "eth7.120",
            &Kind::Vlan { number: 120, tpid: 0x8100 },
            Some("set `interface: eth7`, and `vlan: 120`"),
        );
        let links = links();
        for (name, vlan, tpid) in [
            ("eth7", None, 0x8100),
            ("eth7.120", Some(Vlan::single(120)), 0x8100),
            ("eth7.200", Some(Vlan::single(200)), 0x88a8),
            ("eth7.200.5", Some(Vlan::double(200, 5)), 0x88a8),
        ] {
            let link = links.named(name).expect("it was made");
            let exit = links.exit(link.index, u32::MAX).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((exit.device, exit.vlan, exit.tpid), (eth, vlan, tpid), "{name}");
        }
        // The far end puts its tags beside the frames, which is told where there are VLANs.
        let warnings = warnings("eth7");
        assert!(warnings.iter().any(|text| text.contains("ethtool -K far-eth7 txvlan off")), "{warnings:?}");
    });
}

#[test]
#[ignore = "needs the modules bridge and macvlan: run by `cargo xtask test --kernels`"]
fn bridges_and_macvlans_are_generic_as_lb_says() {
    apart(|| {
        let eth = veth("eth7");
        make(LinkMacVlan::new("own7", eth, MacVlanMode::Bridge).up().build());
        assert_is("own7", &Kind::Macvlan, Some("set `interface` to the network card itself"));
        assert_is("eth7", &Kind::Veth, None);
    });
    apart(|| {
        veth("eth7");
        make(LinkBridge::new("br7").up().build());
        let bridge = link_of("br7").index;
        change("eth7", |link| link.controller(bridge));
        assert_is("br7", &Kind::Bridge, Some("belongs to no bridge"));
        assert_eq!(link_of("eth7").master, Some((bridge, Master::Bridge)));
        let warnings = warnings("eth7");
        assert!(warnings.len() == 1 && warnings[0].contains("give eth7 addresses"), "{warnings:?}");
    });
}
