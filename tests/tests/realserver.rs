//! `lb realserver` on a machine that is none yet.

use std::path::{Path, PathBuf};
use std::process::Output;

use lb_lab::cluster::{Talk, VIP};
use lb_lab::lab::{Node, director, unique_name};
use lb_lab::scenario::traffic::{Answer, Spread};

const VIP6: &str = "2001:db8::10";

struct Machine<'a> {
    node: &'a Node,
    record: PathBuf,
}

impl<'a> Machine<'a> {
    /// A machine without the VIP, which answers ARP for all its addresses.
    fn plain(talk: &'a Talk) -> Self {
        let node = talk.www1.node();
        node.lose_vip(VIP).expect("it had the VIP");
        node.answer_arp_for_all().expect("sysctl");
        Self { node, record: talk.lab.state().folder().join("realserver.json") }
    }

    fn realserver(&self, words: &[&str]) -> Output {
        let lb = director::binary().expect("the lb under test");
        let mut command = self.node.command(lb.to_str().expect("UTF-8"));
        command.arg("realserver").args(words).arg("--record").arg(&self.record);
        command.output().expect("it runs")
    }

    #[track_caller]
    fn succeeds(&self, words: &[&str]) -> String {
        let output = self.realserver(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    #[track_caller]
    fn fails(&self, words: &[&str]) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } = self.realserver(words);
        assert!(!status.success(), "{words:?}");
        (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
    }

    fn setting(&self, name: &str) -> String {
        let file = Path::new("/proc/sys/net/ipv4/conf/all").join(name);
        self.node.run(|| std::fs::read_to_string(file)).expect("its namespace").expect("a setting")
    }
}

#[test]
fn a_plain_machine_becomes_a_real_server_and_a_plain_one_again() {
    let talk = Talk::new(&unique_name("realserver")).expect("the cluster comes up");
    let machine = Machine::plain(&talk);
    let vip = VIP.to_string();

    let (code, said) = machine.fails(&["check", "--vip", &vip]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("wrong  lo has no 211.58.250.6\n       ip address add 211.58.250.6/32 dev lo"),
        "{said}"
    );
    assert!(said.contains("wrong  net.ipv4.conf.all.arp_ignore is 0"), "{said}");
    let (code, said) = machine.fails(&["setup", "--no-unit"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("which VIPs? Give each by --vip"), "{said}");

    let said = machine.succeeds(&["setup", "--vip", &vip, "--vip", VIP6, "--no-unit"]);
    let silent = said.find("arp_ignore=1").expect("it says what it does");
    assert!(silent < said.find("ip address add").expect("it says what it does"), "{said}");
    let again = machine.succeeds(&["setup", "--no-unit"]);
    assert_eq!(
        again,
        format!("This machine is a real server for {vip}, {VIP6}.\n"),
        "nothing was left to do"
    );
    assert!(!machine.succeeds(&["check"]).contains("wrong"));

    let _director = talk.start_serving().expect("both servers serve");
    assert_eq!(Spread::of_requests(&talk.client, 4).by(Answer::Www1), 2);
    let answers = talk.client.who_has(VIP).expect("arping works");
    assert_eq!(Vec::from_iter(answers), [talk.ha1.mac()], "the server is silent");

    let said = machine.succeeds(&["undo"]);
    assert!(said.contains("ip address del 211.58.250.6/32 dev lo"), "{said}");
    assert!(!machine.node.has_address(VIP).expect("ip works"));
    assert_eq!([machine.setting("arp_ignore"), machine.setting("arp_announce")], ["0\n", "0\n"]);
    assert!(machine.succeeds(&["undo"]).contains("Nothing to undo"));
}

#[test]
fn what_somebody_has_changed_since_is_left_alone() {
    let talk = Talk::new(&unique_name("realserverleft")).expect("the cluster comes up");
    let machine = Machine::plain(&talk);
    machine.succeeds(&["setup", "--vip", &VIP.to_string(), "--no-unit"]);
    machine.node.lose_vip(VIP).expect("it had the VIP");
    machine.node.sysctl("net/ipv4/conf/all/arp_announce", "1").expect("sysctl");
    let said = machine.succeeds(&["undo"]);
    assert!(said.contains("left alone, for it is not as setup made it: 211.58.250.6 on lo"), "{said}");
    assert_eq!([machine.setting("arp_ignore"), machine.setting("arp_announce")], ["0\n", "1\n"]);
}
