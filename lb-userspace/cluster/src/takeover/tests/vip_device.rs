//! The device that has the VIPs of groups that every director serves.

use lb_api::events::Record;
use lb_model::Anycast;

use super::*;
use crate::takeover::vip_device::{self, Orders, VipDevices};

const DEVICE: &str = "lb-any";
const NUMBER: GroupNumber = GroupNumber(3);
const BOTH: [(&str, u8); 2] = [("192.0.2.53", 32), ("2001:db8::53", 128)];

fn dns(vips: &[(&str, u8)], withdraw_wait: Duration) -> Group {
    let kind = GroupKind::Anycast(Anycast { device: DEVICE.to_owned(), withdraw_wait });
    Group { number: NUMBER, kind, ..group("dns", vips, None) }
}

/// The thread in a namespace of its own.
struct Bench {
    cable: Cable,
    devices: VipDevices,
    orders: Orders,
    outcomes: Receiver<Outcome>,
    findings: Findings,
}

impl Bench {
    fn new(purpose: &str) -> Self {
        let (cable, findings) = (Cable::new(purpose), Findings::default());
        let (sender, outcomes) = channel();
        let (orders, pending) = vip_device::orders();
        let tell = move |outcome| drop(sender.send(outcome));
        let devices = VipDevices::new((orders.clone(), pending), findings.clone(), tell);
        cable.run(0, |_| devices.begin()).expect("a thread");
        Self { cable, devices, orders, outcomes, findings }
    }

    /// Takes the group, whether or not it is there.
    fn take(&self) {
        self.orders.take(NUMBER);
        assert_eq!(self.outcomes.recv_timeout(PATIENCE), Ok(Outcome::Taken(NUMBER)));
    }

    fn shown(&self) -> String {
        let words = ["-n", &self.cable.names[0], "-oneline", "address", "show", "dev", DEVICE];
        let output = Command::new("ip").args(words).output().expect("ip");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What was told since the last call: each event with its VIP. All of it is about the group.
    fn told(&self) -> Vec<(String, Option<String>)> {
        let records = self.findings.take_noted();
        assert!(records.iter().all(|record| record.group.as_deref() == Some("dns")), "{records:?}");
        records.into_iter().map(|Record { event, vip, .. }| (event, vip)).collect()
    }
}

fn of(event: &str, vips: &[&str]) -> Vec<(String, Option<String>)> {
    vips.iter().map(|vip| (event.to_owned(), Some((*vip).to_owned()))).collect()
}

#[test]
fn each_vip_is_told_of_when_it_comes_and_when_it_goes_and_at_no_other_time() {
    let bench = Bench::new("vipdevice");
    bench.orders.set_groups(vec![dns(&BOTH, Duration::from_secs(60))]);
    bench.take();
    assert_eq!(bench.told(), of("vip_announced", &["192.0.2.53", "2001:db8::53"]));
    let addresses = bench.shown();
    assert!(addresses.contains("192.0.2.53/32") && addresses.contains("2001:db8::53/128"), "{addresses}");

    bench.orders.set_groups(vec![dns(&BOTH, Duration::ZERO)]);
    bench.take();
    assert_eq!(bench.told(), []);

    bench.orders.set_groups(vec![dns(&[("192.0.2.53", 32), ("192.0.2.54", 32)], Duration::ZERO)]);
    bench.take();
    let changed = [of("vip_withdrawn", &["2001:db8::53"]), of("vip_announced", &["192.0.2.54"])];
    assert_eq!(bench.told(), changed.concat());

    bench.orders.release(NUMBER);
    assert_eq!(bench.outcomes.recv_timeout(PATIENCE), Ok(Outcome::Released(NUMBER)));
    assert_eq!(bench.told(), of("vip_withdrawn", &["192.0.2.53", "192.0.2.54"]));
    assert!(!bench.shown().contains("192.0.2."), "{}", bench.shown());

    bench.take();
    bench.told();
    assert!(bench.devices.end());
    let told = bench.findings.take_noted();
    assert!(told.iter().all(|record| record.event == "vip_withdrawn") && told.len() == 2, "{told:?}");
}

#[test]
fn a_device_that_was_set_down_is_put_up_again_and_told_of() {
    let bench = Bench::new("devicedown");
    bench.orders.set_groups(vec![dns(&BOTH, Duration::ZERO)]);
    bench.take();
    bench.told();
    ip(&format!("-n {} link set {DEVICE} down", bench.cable.names[0]));
    // With the device, the kernel takes its IPv6 address away: the thread may put it back before
    // anybody has looked.
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut told = Vec::new();
    while told.is_empty() || !bench.shown().contains("2001:db8::53/128") {
        assert!(std::time::Instant::now() < deadline, "it stays down: {told:?} {}", bench.shown());
        std::thread::sleep(Duration::from_millis(50));
        told.extend(bench.told());
    }
    assert_eq!(told, [("vip_device_down".to_owned(), None)]);
    assert!(bench.findings.status().is_empty(), "nobody has removed an address");
    assert!(bench.outcomes.try_recv().is_err(), "it never was without the group");
    assert!(bench.devices.end());
}

#[test]
fn with_its_device_a_group_goes_and_that_is_told() {
    let bench = Bench::new("devicegone");
    bench.orders.set_groups(vec![dns(&BOTH, Duration::ZERO)]);
    bench.take();
    bench.told();
    ip(&format!("-n {} link delete {DEVICE}", bench.cable.names[0]));
    let outcome = bench.outcomes.recv_timeout(PATIENCE).expect("it is noticed");
    assert!(matches!(&outcome, Outcome::Failed(NUMBER, why) if why.contains(DEVICE)), "{outcome:?}");
    assert_eq!(bench.told(), of("vip_withdrawn", &["192.0.2.53", "2001:db8::53"]));
    bench.take();
    assert_eq!(bench.told(), of("vip_announced", &["192.0.2.53", "2001:db8::53"]));
    assert!(bench.devices.end());
}
