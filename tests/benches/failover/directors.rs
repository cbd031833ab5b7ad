//! `lb` on ha1 and ha2. Each run begins and ends with ha1 active and ha2 standing by.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use lb_lab::cluster::Talk;
use lb_lab::cluster::pair::{Pair, Settings};
use lb_lab::lab::{Link, unique_name};
use lb_lab::scenario::open_loop::Outage;
use lb_lab::scenario::traffic::Answer;

/// How long the machine is left to what is measured, before anybody is asked how far it has come.
const QUIET: Duration = Duration::from_millis(500);

/// The interfaces by which the directors hear each other.
const HEARTBEATS: [&str; 2] = ["eth0", "eth1"];

pub(crate) struct Directors {
    // Before the lab that it runs in.
    pair: Pair,
    talk: Talk,
}

impl Directors {
    pub(crate) fn start(settings: Settings) -> Result<Self> {
        let talk = Talk::new(&unique_name("failover"))?;
        let pair = Pair::start(&talk, settings)?;
        Ok(Self { pair, talk })
    }

    pub(crate) fn shown(&self) -> String {
        self.pair.shown()
    }

    /// `lb` on ha1 is killed.
    pub(crate) fn kill(&mut self) -> Result<Outage> {
        let outage = self.take_over(|pair, _| pair.ha1.kill())?;
        self.pair.ha1.restart()?;
        self.back_to_ha1(outage)
    }

    /// ha1 loses the link by which clients and servers are reached.
    pub(crate) fn link_down(&mut self) -> Result<Outage> {
        let outage = self.take_over(|_, talk| talk.ha1.set_link("eth0", Link::Down))?;
        self.talk.ha1.set_link("eth0", Link::Up)?;
        self.back_to_ha1(outage)
    }

    /// The link is back, and ha1 takes the address back by itself.
    pub(crate) fn link_back(&mut self) -> Result<Outage> {
        self.talk.ha1.set_link("eth0", Link::Down)?;
        self.pair.wait_for_take_over()?;
        let Self { pair, talk } = self;
        Outage::during(&talk.client, Answer::SERVERS, || {
            talk.ha1.set_link("eth0", Link::Up)?;
            pair.wait_until_held_by("ha1")
        })
    }

    /// The two do not hear each other any more, and both serve: ha1 goes on, and ha2 takes over.
    pub(crate) fn cut(&mut self) -> Result<Outage> {
        let outage =
            self.take_over(|_, talk| HEARTBEATS.iter().try_for_each(|path| talk.cut_heartbeats(path)));
        self.heal()?;
        self.back_to_ha1(outage?)
    }

    /// They hear each other again, one of them gives way, and ha1 has the address in the end.
    pub(crate) fn healed(&mut self) -> Result<Outage> {
        HEARTBEATS.iter().try_for_each(|path| self.talk.cut_heartbeats(path))?;
        self.pair.wait_for_take_over()?;
        Outage::during(&self.talk.client, Answer::SERVERS, || {
            self.heal()?;
            self.pair.wait_until_held_by("ha1")
        })
    }

    fn heal(&self) -> Result<()> {
        HEARTBEATS.iter().try_for_each(|path| self.talk.heal_heartbeats(path))
    }

    /// `lb` on ha1 stands still, and goes on when ha2 has taken over.
    pub(crate) fn freeze(&mut self) -> Result<Outage> {
        let outage = self.take_over(|pair, _| {
            pair.ha1.freeze();
            Ok(())
        });
        // Also after a failure: what is shown then is asked of both.
        self.pair.ha1.thaw();
        self.back_to_ha1(outage?)
    }

    /// An operator moves the address from ha1 to ha2.
    pub(crate) fn hand_over(&mut self) -> Result<Outage> {
        let outage = self.take_over(|pair, _| pair.ha1.failover())?;
        self.pair.wait_until_held_by("ha2")?;
        self.pair.ha1.failback()?;
        self.back_to_ha1(outage)
    }

    /// ha1 was stopped; it starts and takes back by itself.
    pub(crate) fn fail_back(&mut self) -> Result<Outage> {
        self.pair.ha1.stop()?;
        self.pair.wait_for_take_over()?;
        let Self { pair, talk } = self;
        Outage::during(&talk.client, Answer::SERVERS, || {
            pair.ha1.restart()?;
            pair.wait_until_held_by("ha1")
        })
    }

    fn take_over(&self, happens: impl FnOnce(&Pair, &Talk) -> Result<()>) -> Result<Outage> {
        Outage::during(&self.talk.client, Answer::SERVERS, || {
            happens(&self.pair, &self.talk)?;
            thread::sleep(QUIET);
            self.pair.wait_for_take_over()
        })
    }

    fn back_to_ha1(&self, outage: Outage) -> Result<Outage> {
        self.pair.wait_until_held_by("ha1")?;
        Ok(outage)
    }
}
