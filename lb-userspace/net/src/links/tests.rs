use rtnetlink::packet_route::link::VlanProtocol;

use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

/// An interface that is up, as the kernel would describe it.
fn message(index: u32, name: &str, attributes: impl IntoIterator<Item = LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Address(MAC.to_vec()),
    ];
    message.attributes.extend(attributes);
    message
}

fn of_kind(kind: InfoKind, data: Option<InfoData>) -> LinkAttribute {
    LinkAttribute::LinkInfo([LinkInfo::Kind(kind)].into_iter().chain(data.map(LinkInfo::Data)).collect())
}

fn vlan(index: u32, name: &str, below: u32, number: u16, protocol: VlanProtocol) -> LinkMessage {
    let about = InfoData::Vlan(vec![InfoVlan::Protocol(protocol), InfoVlan::Id(number)]);
    message(index, name, [LinkAttribute::Link(below), of_kind(InfoKind::Vlan, Some(about))])
}

fn links(messages: &[LinkMessage]) -> Links {
    messages.iter().filter_map(link).collect()
}

#[test]
fn frames_leave_by_what_is_below_the_vlans_with_their_tags() {
    let found = links(&[
        message(2, "eth0", []),
        vlan(3, "eth0.120", 2, 120, VlanProtocol::Ieee8021Q),
        vlan(4, "outer", 2, 100, VlanProtocol::Ieee8021Ad),
        vlan(5, "inner", 4, 200, VlanProtocol::Ieee8021Q),
        vlan(6, "third", 5, 300, VlanProtocol::Ieee8021Q),
    ]);
    let plain = Exit { interface: 2, device: 2, mac: Mac::new(MAC), vlan: None, tpid: TPID, mtu: 1500 };
    assert_eq!(found.exit(2, 2), Ok(plain));
    assert_eq!(found.exit(3, 2), Ok(Exit { interface: 3, vlan: Some(Vlan::single(120)), ..plain }));
    let double = Exit { interface: 5, vlan: Some(Vlan::double(100, 200)), tpid: 0x88a8, ..plain };
    assert_eq!(found.exit(5, 2), Ok(double));
    assert_eq!(found.exit(6, 2), Err("third stands on more than two VLANs".to_owned()));
    let on_main = Exit { interface: 3, device: 3, ..plain };
    assert_eq!((found.exit(3, 3), found.exit_of_main(3)), (Ok(on_main), Ok(on_main)), "it has the program");
    let names: Vec<&str> = found.vlans_on(2).iter().map(|link| &*link.name).collect();
    assert_eq!(names, ["eth0.120", "outer", "inner", "third"]);
    assert_eq!((found.vlans_on(3), found.named("inner").map(|link| link.index)), (vec![], Some(5)));
}

#[test]
fn what_frames_cannot_leave_by_is_told() {
    let mut down = message(2, "eth0", []);
    down.header.flags = LinkFlags::empty();
    let mut unplugged = message(3, "eth1", []);
    unplugged.header.flags = LinkFlags::Up;
    let mut tunnel = message(4, "wg0", [of_kind(InfoKind::Wireguard, None)]);
    tunnel.header.link_layer_type = LinkLayerType::None;
    let found = links(&[down, unplugged, tunnel]);
    let why = |index| found.exit(index, 2).expect_err("there is no way");
    assert_eq!([why(2), why(3)], ["eth0 is down", "eth1 has no link"]);
    assert_eq!([why(4), why(9)], ["wg0 is no Ethernet interface", "interface 9 is gone"]);
}

#[test]
fn bonds_and_what_belongs_to_them_are_known() {
    let bond =
        |about| match link(&message(2, "bond0", [of_kind(InfoKind::Bond, Some(InfoData::Bond(about)))])) {
            Some(Link { kind: Kind::Bond(bond), .. }) => bond,
            other => panic!("{other:?}"),
        };
    let lacp = InfoBond::Mode(BondMode::Ieee8023Ad);
    assert_eq!(bond(vec![InfoBond::Mode(BondMode::ActiveBackup)]), Bond::Native("active-backup"));
    assert_eq!(bond(vec![lacp.clone()]), Bond::Native("802.3ad"));
    let by_vlan = InfoBond::XmitHashPolicy(BondXmitHashPolicy::VlanSrcMac);
    assert_eq!(bond(vec![lacp, by_vlan]), Bond::Generic("xmit_hash_policy vlan+srcmac"));
    assert_eq!(bond(vec![InfoBond::Mode(BondMode::BalanceAlb)]), Bond::Generic("mode balance-alb"));
    let port = |kind| {
        let infos = LinkAttribute::LinkInfo(vec![LinkInfo::PortKind(kind)]);
        let port = message(3, "eth0", [LinkAttribute::Controller(2), infos]);
        link(&port).and_then(|link| link.master)
    };
    assert_eq!(port(InfoPortKind::Bond), Some((2, Master::Bond)));
    assert_eq!(port(InfoPortKind::Bridge), Some((2, Master::Bridge)));
}

/// Bytes as Linux 6.1 sends them for `ip link add link eth0 name eth0.120 type vlan id 120`, cut to
/// what is read.
#[test]
fn a_vlan_is_read_from_the_kernels_own_bytes() {
    use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
    use rtnetlink::packet_route::RouteNetlinkMessage;

    let attribute = |kind: u16, value: &[u8]| {
        let length = value.len() as u16 + 4;
        let mut bytes = [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    // Family, type (Ethernet), index 7, flags UP | BROADCAST | RUNNING | MULTICAST | LOWER_UP.
    let header = [&[0, 0, 1, 0][..], &7_u32.to_ne_bytes(), &0x11043_u32.to_ne_bytes(), &[0; 4]].concat();
    let about = [attribute(1, &120_u16.to_ne_bytes()), attribute(5, &0x8100_u16.to_be_bytes())].concat();
    let info = [attribute(1, b"vlan\0"), attribute(2, &about)].concat();
    let bytes = [
        header,
        attribute(3, b"eth0.120\0"),
        attribute(4, &1500_u32.to_ne_bytes()),
        attribute(5, &2_u32.to_ne_bytes()),
        attribute(1, &MAC),
        attribute(18, &info),
    ]
    .concat();
    const NEW_LINK: [u8; 2] = 16_u16.to_ne_bytes();
    let length = (bytes.len() as u32 + 16).to_ne_bytes();
    let bytes = [&length[..], &NEW_LINK, &[0; 10], &bytes].concat();
    let found = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).expect("it can be read");
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) = found.payload else {
        panic!("{found:?}");
    };
    let found = link(&message).expect("an interface");
    let expected = Link {
        index: 7,
        name: "eth0.120".to_owned(),
        kind: Kind::Vlan { number: 120, tpid: 0x8100 },
        mac: Some(Mac::new(MAC)),
        mtu: 1500,
        up: true,
        carrier: true,
        below: Some(2),
        master: None,
        promiscuous: false,
    };
    assert_eq!(found, expected);
}
