//! The program on an interface, off it, and what is left when nobody took it off.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use lb_datapath::attach::pins::Pins;
use lb_datapath::attach::{Attachment, Mode};
use lb_datapath::inherited::PinnedMaps;
use lb_datapath::object::{self, Sizes};
use lb_lab::lab::{Lab, Node, cleanup, unique_name};
use nix::net::if_::if_nametoindex;

fn node() -> Result<(Lab, Node)> {
    let lab = Lab::new(&unique_name("attach"))?;
    let node = lab.node("ha1", "10.0.0.1/24".parse()?)?;
    Ok((lab, node))
}

/// Attaches a program of its own to an interface of the node. The program lives on by its
/// attachment.
fn attach(node: &Node, interface: &str) -> Result<Attachment> {
    attach_in(&Mode::ALL, node, interface)
}

/// The same in the first of these modes that can be had.
fn attach_in(modes: &[Mode], node: &Node, interface: &str) -> Result<Attachment> {
    node.run(|| {
        let sizes = Sizes {
            connections: 1000,
            connections_v6: 1000,
            services: 16,
            servers: 16,
            schedule_words: 64,
            bindings: 64,
        };
        let mut object = object::load(&sizes, &PinnedMaps::default())?;
        let program = object::load_program(&mut object.ebpf, object::PROGRAM)?;
        Attachment::new(program, interface, if_nametoindex(interface)?, modes)
    })?
}

/// Number of the program on an interface.
fn program(node: &Node, interface: &str) -> Result<Option<u32>> {
    let shown = node.ip(&format!("-details link show dev {interface}"))?;
    let Some((_, after)) = shown.split_once("prog/xdp id ") else { return Ok(None) };
    Ok(Some(after.split_whitespace().next().context("a number")?.parse()?))
}

fn is_attached(attachment: &Attachment) -> bool {
    attachment.check().expect("a descriptor").is_attached()
}

fn pins(node: &Node) -> usize {
    cleanup::pins(&node.state().namespace(node.name())).len()
}

#[test]
fn a_program_that_was_left_is_replaced_in_either_mode() -> Result<()> {
    let (_lab, node) = node()?;
    // lo has no native XDP.
    for (interface, mode) in [("eth0", Mode::Native), ("lo", Mode::Generic)] {
        let first = attach(&node, interface)?;
        assert_eq!((first.mode(), first.is_pinned(), is_attached(&first)), (mode, true, true));
        drop(first);
        let left = program(&node, interface)?;
        assert!(left.is_some(), "it stays on {interface}");

        let second = attach(&node, interface)?;
        assert_eq!((second.mode(), second.is_pinned(), is_attached(&second)), (mode, true, true));
        let now = program(&node, interface)?;
        assert!(now.is_some() && now != left, "{left:?}, then {now:?}");
        second.detach()?;
        assert_eq!((program(&node, interface)?, pins(&node)), (None, 0));
    }
    Ok(())
}

#[test]
fn an_interface_with_a_dot_in_its_name_can_be_left_too() -> Result<()> {
    let (_lab, node) = node()?;
    node.ip("link add eth0.100 type veth peer name other")?;
    drop(attach(&node, "eth0.100")?);
    assert!(program(&node, "eth0.100")?.is_some());
    attach(&node, "eth0.100")?.detach()?;
    assert_eq!(pins(&node), 0);
    Ok(())
}

#[test]
fn a_program_whose_interface_is_gone_is_attached_no_more() -> Result<()> {
    let (_lab, node) = node()?;
    let attachment = attach(&node, "eth0")?;
    assert!(is_attached(&attachment));
    node.ip("link delete eth0")?;
    assert!(!is_attached(&attachment));
    Ok(())
}

#[test]
fn a_program_that_went_with_its_renamed_interface_is_not_taken_for_this_ones() -> Result<()> {
    let (_lab, node) = node()?;
    drop(attach(&node, "eth0")?);
    node.ip("link set eth0 down")?;
    node.ip("link set eth0 name old")?;
    node.ip("link add eth0 type veth peer name other")?;
    let attachment = attach(&node, "eth0")?;
    assert!(is_attached(&attachment) && program(&node, "eth0")?.is_some());
    assert_eq!((program(&node, "old")?, pins(&node)), (None, 1));
    Ok(())
}

#[test]
fn a_program_that_was_left_in_another_mode_makes_room() -> Result<()> {
    let (_lab, node) = node()?;
    for (left, wanted) in [(Mode::Native, Mode::Generic), (Mode::Generic, Mode::Native)] {
        drop(attach_in(&[left], &node, "eth0")?);
        assert_eq!(pins(&node), 1);
        let attachment = attach_in(&[wanted], &node, "eth0")?;
        assert_eq!((attachment.mode(), is_attached(&attachment), pins(&node)), (wanted, true, 1));
        attachment.detach()?;
    }
    Ok(())
}

#[test]
fn native_mode_alone_is_refused_where_the_driver_cannot() -> Result<()> {
    let (_lab, node) = node()?;
    let error = attach_in(&[Mode::Native], &node, "lo").expect_err("lo has no native XDP");
    assert!(error.to_string().contains("`xdp_mode: auto`"), "{error:#}");
    Ok(())
}

/// Each `lb` that starts on a machine sweeps pins away whose interface is gone, while another one
/// may change its mode: the maps beside that one's link stay.
#[test]
fn who_changes_its_mode_is_not_swept_away_by_others() -> Result<()> {
    const CHANGES: usize = 8;
    let (_lab, node) = node()?;
    let maps = node.run(|| Pins::of("eth0").map(|pins| pins.maps()))??;
    let over = AtomicBool::new(false);
    let (swept, changed) = thread::scope(|scope| {
        let sweeper = scope.spawn(|| -> Result<u32> {
            let pins = node.run(|| Pins::of("eth0"))??;
            let mut swept = 0;
            while !over.load(Ordering::Relaxed) {
                pins.sweep();
                swept += 1;
            }
            Ok(swept)
        });
        let change = || -> Result<()> {
            for number in 0..CHANGES {
                let attachment = attach_in(&[Mode::ALL[number % 2]], &node, "eth0")?;
                fs::create_dir_all(&maps)?;
                attachment.detach()?;
                ensure!(maps.is_dir(), "the maps are gone at change {number}");
            }
            Ok(())
        };
        let changed = change();
        over.store(true, Ordering::Relaxed);
        (sweeper.join(), changed)
    });
    changed?;
    assert!(swept.expect("no panic")? as usize > CHANGES, "others have swept all the time");
    fs::remove_dir(maps).context("the maps")
}
