//! One node and what it hears, rule by rule. Intervals are the defaults: heartbeats every 50 ms,
//! dead after 200 ms.

use super::super::message::GroupStatus;
use super::*;

mod absence;
mod anycast;
mod changes;
mod handover;
mod settings;
mod splitbrain;
mod takeover;

const GROUP: GroupId = GroupId(0);
const READY: LocalReadiness = LocalReadiness {
    data_path: true,
    link: true,
    servers: 2,
    references: 1,
    behind: 0,
    unlearned: 0,
    usable: 0,
};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A machine, the clock of its test, and the peers that the test plays.
struct Story {
    machine: Machine,
    now: Duration,
    outputs: Vec<Output>,
    peers: Vec<Voice>,
}

/// A peer as the test plays it.
#[derive(Clone)]
struct Voice {
    talks: bool,
    next: Duration,
    message: Heartbeat,
}

impl Story {
    /// Node `me` of `nodes`, just started, ready to serve, with its leftovers removed; the peers
    /// are silent.
    fn starts(me: u8, nodes: u8) -> Self {
        let mut settings = Settings::new(NodeId(me), nodes, 7);
        settings.references = 1;
        let failback = Failback::Auto { delay: ms(5000) };
        settings.groups = vec![GroupSettings {
            id: GROUP,
            preference: (0..nodes).map(NodeId).collect(),
            failback,
            anycast: None,
        }];
        Self::with(settings)
    }

    fn with(settings: Settings) -> Self {
        settings.check().unwrap();
        let groups = || settings.groups.iter().map(|group| group.id);
        let peers = (0..settings.nodes).map(|node| Voice::new(NodeId(node), groups())).collect();
        let groups: Vec<GroupId> = groups().collect();
        let now = Duration::from_secs(1000);
        let mut story = Self { machine: Machine::new(settings, now), now, outputs: Vec::new(), peers };
        story.input(Input::Readiness(READY));
        for group in groups {
            story.input(Input::ReleaseDone { group });
        }
        story
    }

    /// Node `me` is active, and the others stand by.
    fn active(me: u8, nodes: u8) -> Self {
        let mut story = Self::starts(me, nodes);
        story.others().for_each(|peer| story.peer(peer).talks = false);
        story.pass(1300);
        assert_eq!(story.role(), Role::Acquiring);
        story.input(Input::TakeoverDone { group: GROUP });
        for peer in story.others() {
            story.says(peer, Role::Standby);
        }
        story.forget();
        story
    }

    /// Node `me` stands by while `holder` is active.
    fn standby(me: u8, nodes: u8, holder: u8) -> Self {
        let mut story = Self::starts(me, nodes);
        for peer in story.others() {
            story.peer(peer).message.groups[0].term = 1;
            story.says(peer, if peer == holder { Role::Active } else { Role::Standby });
        }
        story.pass(1000);
        assert_eq!(story.role(), Role::Standby);
        story.forget();
        story
    }

    fn others(&self) -> impl Iterator<Item = u8> + use<> {
        let me = self.machine.settings().me.0;
        (0..self.machine.settings().nodes).filter(move |&node| node != me)
    }

    fn peer(&mut self, peer: u8) -> &mut Voice {
        &mut self.peers[usize::from(peer)]
    }

    fn group_of(&mut self, peer: u8) -> &mut GroupStatus {
        &mut self.peer(peer).message.groups[0]
    }

    /// The peer is in this role from now on, says so at once and then every interval.
    fn says(&mut self, peer: u8, role: Role) {
        self.group_of(peer).role = role;
        self.peer(peer).talks = true;
        self.speaks(peer);
    }

    fn speaks(&mut self, peer: u8) {
        let next = self.now + ms(50);
        let voice = self.peer(peer);
        voice.message.sequence += 1;
        voice.next = next;
        let message = voice.message.clone();
        self.input(Input::Heartbeat(message));
    }

    fn falls_silent(&mut self, peer: u8) {
        self.peer(peer).talks = false;
    }

    fn input(&mut self, input: Input) {
        self.outputs.extend(self.machine.handle(input, self.now));
    }

    /// Somebody else announces an address of the group.
    fn conflict(&mut self, rival: Option<NodeId>) {
        self.input(Input::Conflict { group: GROUP, rival, came: self.now });
    }

    fn command(&mut self, command: Command) {
        self.input(Input::Command(command));
    }

    fn local(&mut self, change: impl FnOnce(&mut LocalReadiness)) {
        let mut local = READY;
        change(&mut local);
        self.input(Input::Readiness(local));
    }

    /// Time goes on, with timers on time and heartbeats of those who talk.
    fn pass(&mut self, millis: u64) {
        let end = self.now + ms(millis);
        loop {
            let timer = self.machine.next_timeout().unwrap();
            let talker =
                self.peers.iter().filter(|voice| voice.talks).map(|voice| (voice.next, voice.message.from));
            match talker.min() {
                Some((next, peer)) if next <= timer && next <= end => {
                    self.now = next;
                    self.speaks(peer.0);
                }
                _ if timer <= end => {
                    self.now = self.now.max(timer);
                    self.input(Input::Timer);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// Time goes on without a single call.
    fn is_frozen_for(&mut self, millis: u64) {
        self.now += ms(millis);
        self.input(Input::Timer);
    }

    fn role(&self) -> Role {
        self.machine.role(GROUP)
    }

    fn forget(&mut self) {
        self.outputs.clear();
    }

    fn takes(&self) -> Vec<Cause> {
        let take = |output: &Output| match output {
            Output::Acquire { why, .. } => Some(why.clone()),
            _ => None,
        };
        self.outputs.iter().filter_map(take).collect()
    }

    fn releases(&self) -> Vec<Cause> {
        let release = |output: &Output| match output {
            Output::Release { why, .. } => Some(why.clone()),
            _ => None,
        };
        self.outputs.iter().filter_map(release).collect()
    }

    fn events(&self) -> Vec<Event> {
        let event = |output: &Output| match output {
            Output::Event(event) => Some(event.clone()),
            _ => None,
        };
        self.outputs.iter().filter_map(event).collect()
    }

    fn has_event(&self, event: &Event) -> bool {
        self.events().contains(event)
    }

    /// Ends of the leases that were given out.
    fn leases(&self) -> Vec<Duration> {
        let lease = |output: &Output| match output {
            Output::RenewLease { until, .. } => Some(*until),
            _ => None,
        };
        self.outputs.iter().filter_map(lease).collect()
    }

    fn announces(&self) -> usize {
        self.outputs.iter().filter(|output| matches!(output, Output::Announce { .. })).count()
    }

    fn hushes(&self) -> usize {
        self.outputs.iter().filter(|output| matches!(output, Output::PauseAnnouncements { .. })).count()
    }

    /// The last heartbeat sent.
    fn told(&self) -> Heartbeat {
        let sent = |output: &Output| match output {
            Output::Send(message) => Some(message.clone()),
            _ => None,
        };
        self.outputs.iter().rev().find_map(sent).expect("a heartbeat was sent")
    }
}

impl Voice {
    fn new(from: NodeId, groups: impl Iterator<Item = GroupId>) -> Self {
        let readiness =
            Readiness { data_path: true, link: true, maintenance: false, servers: 2, references: 1 };
        let status =
            |group| GroupStatus { group, role: Role::Standby, term: 0, offered_to: None, yielded: false };
        let message = Heartbeat {
            from,
            session: 1,
            sequence: 0,
            readiness,
            hears: u16::MAX,
            config_digest: 0,
            groups: groups.map(status).collect(),
            standing: None,
        };
        Self { talks: false, next: Duration::ZERO, message }
    }
}
