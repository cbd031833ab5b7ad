//! How packets are forwarded, as the rest of the controller sees it. Nobody else reaches into the
//! data path and its maps.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use lb_api::events::{Level, Record};
use lb_api::findings::Findings;
use lb_common::forward::nat::Route;
use lb_common::mac::Mac;
use lb_common::packet::partial_checksum::Seen;
use lb_common::program::probe::Answer;
use lb_common::server::{Counts, ServerEntry, ServerId};
use lb_common::service::ServiceId;
use lb_common::service::admission::Admission;
use lb_common::service::binding::{Binding, Key};
use lb_datapath::attach::{Attachment, Mode};
use lb_datapath::counters::Counters;
use lb_datapath::executor::clients::ClientAccounts;
use lb_datapath::fragments::FragmentThread;
use lb_datapath::inherited::Inherited;
use lb_datapath::mapped::Mapped;
use lb_datapath::maps::read_totals;
use lb_datapath::object::Sizes;
use lb_datapath::plan::{State, Target};
use lb_datapath::resize::{Copied, Copier};
use lb_datapath::sources::Keeper;
use lb_datapath::sweep::Sweeper;
use lb_datapath::table::{Census, Table};
use lb_datapath::trace::Trace;
use lb_datapath::{Applied, DataPath, object, program_log};
use lb_model::{Config, ServiceKey, Totals};
use lb_system::clock::now_ns;
use lb_system::vital_signs::Pulse;

use super::accounts::Accounts;
use super::interface::Role;
use super::synchronisation::Connections;

pub(super) struct Forwarder {
    data_path: DataPath,
    /// The program that is attached.
    entry: &'static str,
    sweeper: Sweeper,
    /// Gives ports back that stood in the place of clients.
    sources: Option<Keeper>,
    /// Holds fragments that come too early.
    holder: Option<FragmentThread>,
    accounts: Accounts,
    findings: Findings,
}

impl Forwarder {
    /// # Errors
    /// The sweep's thread cannot be started.
    pub(super) fn start(data_path: DataPath, findings: Findings) -> Result<Self> {
        let keeper = data_path.executor.maps().keeper()?;
        let tally = data_path.executor.maps().tally();
        let sweeper = Sweeper::start(Arc::clone(&data_path.table), Some(keeper), Some(tally))?;
        let (entry, accounts) = (object::PROGRAM, Accounts::default());
        Ok(Self { data_path, entry, sweeper, sources: None, holder: None, accounts, findings })
    }

    /// Gives ports back that stood in the place of clients, from now on. Comes after connections
    /// have been copied: of what the table does not know the ports are free.
    pub(super) fn give_sources_back(&mut self) -> Result<()> {
        self.sources = Some(Keeper::start(self.data_path.sources()?)?);
        Ok(())
    }

    /// The rules about clients of each service, with its number.
    pub(super) fn admissions(&self) -> impl Iterator<Item = (&ServiceKey, ServiceId, Admission)> {
        self.data_path.executor.admissions()
    }

    /// What clients of services with such rules have done.
    pub(super) fn client_accounts(&self) -> ClientAccounts {
        self.data_path.executor.client_accounts()
    }

    /// Writes what the program reports itself into the log.
    pub(super) fn follow_program_log(&mut self) -> Result<()> {
        program_log::follow(&mut self.data_path.ebpf)
    }

    /// Has the kernel verify the programs that these services need, which takes its time. `loaded`
    /// is called after each, by several threads.
    pub(super) fn load_programs(&mut self, desired: &State, loaded: &(dyn Fn() + Sync)) -> Result<()> {
        self.data_path.load_programs(desired, loaded)
    }

    /// The same of those that are still missing.
    pub(super) fn load_for(&mut self, desired: &State, loaded: &(dyn Fn() + Sync)) -> Result<()> {
        self.data_path.load_for(desired, loaded)
    }

    /// Attaches the program to an interface, in the first of the modes that can be had.
    pub(super) fn attach(
        &mut self,
        role: Role,
        interface: &str,
        index: u32,
        modes: &[Mode],
    ) -> Result<Attachment> {
        let entry = match role {
            Role::Main => self.entry,
            Role::Other => object::INGRESS_PROGRAM,
        };
        let program = object::loaded_program(&mut self.data_path.ebpf, entry)?;
        let attachment = Attachment::new(program, interface, index, modes)?;
        if role == Role::Other {
            return Ok(attachment);
        }
        match self.data_path.hold_fragments(index) {
            Ok(Some(holder)) => self.holder = Some(holder),
            Ok(None) => {}
            Err(error) => tracing::warn!("fragments that come before their first one get lost: {error:#}"),
        }
        Ok(attachment)
    }

    /// The connection table, and what the program knows of the servers of its entries.
    pub(super) fn entries(&self) -> (Arc<Table>, Arc<Mapped<ServerEntry>>) {
        (Arc::clone(&self.data_path.table), Arc::clone(&self.data_path.executor.maps().servers))
    }

    /// The connection table, for the synchronisation with other directors.
    pub(super) fn connections(&self) -> Result<Connections> {
        let (maps, leases) = (self.data_path.executor.maps(), self.data_path.leases());
        let (table, servers) = (Arc::clone(&self.data_path.table), Arc::clone(&maps.servers));
        let (keys, bindings) = (maps.control.read(0).hash_keys, maps.bindings.try_clone()?);
        Ok(Connections::new(table, servers, keys, leases, bindings, maps.ports()?))
    }

    /// The program of this name is the one to attach from now on.
    pub(super) fn set_entry(&mut self, name: &'static str) -> Result<()> {
        object::loaded_program(&mut self.data_path.ebpf, name)?;
        self.entry = name;
        Ok(())
    }

    /// Puts that program in the place of the one that is attached.
    pub(super) fn exchange_entry(&mut self, attachment: &Attachment) -> Result<()> {
        attachment.replace_program(object::program(&mut self.data_path.ebpf, self.entry)?)
    }

    /// What the program tells of single packets.
    pub(super) fn trace(&mut self) -> &mut Trace {
        self.data_path.executor.trace()
    }

    pub(super) fn server_id(&self, service: &ServiceKey, target: Target) -> Option<ServerId> {
        self.data_path.executor.server_id(service, target)
    }

    pub(super) fn set_vips(&mut self, config: &Config) -> Result<()> {
        self.data_path.executor.set_vips(&Vec::from_iter(config.grouped_vips()))
    }

    pub(super) fn mac(&self) -> Mac {
        self.data_path.executor.mac()
    }

    pub(super) fn set_mac(&self, mac: Mac) {
        self.data_path.executor.set_mac(mac);
    }

    /// The other directors have these MACs.
    pub(super) fn set_directors(&mut self, macs: BTreeSet<Mac>) -> Result<()> {
        self.data_path.executor.set_directors(macs)
    }

    /// Packets come in by these interfaces, too, see [`Executor::set_ingresses`].
    ///
    /// [`Executor::set_ingresses`]: lb_datapath::executor::Executor::set_ingresses
    pub(super) fn set_ingresses(&mut self, main: u32, others: &[(u32, Mac)]) -> Result<()> {
        self.data_path.executor.set_ingresses(main, others)
    }

    /// These packets answer the controller's own checks.
    pub(super) fn set_answers(&mut self, answers: &BTreeSet<Answer>) -> Result<()> {
        self.data_path.executor.set_answers(answers)
    }

    /// The AF_XDP socket of a queue, of the interface with this place among those that packets come
    /// in by.
    pub(super) fn set_xsk(&mut self, place: u32, queue: u32, socket: BorrowedFd<'_>) -> Result<()> {
        self.data_path.executor.set_xsk(place, queue, socket)
    }

    /// Packets in mid-connection that no entry knows wait for at most `time`.
    pub(super) fn hold_strays(&self, time: Duration) {
        self.data_path.executor.hold_strays(time);
    }

    /// What the maps hold.
    pub(super) fn applied(&self) -> &State {
        self.data_path.applied()
    }

    /// Brings the maps to `desired`; returns what they held before.
    pub(super) fn apply(&mut self, desired: State) -> State {
        let before = self.data_path.applied().clone();
        let Applied { changes, purge, errors } = self.data_path.apply(desired);
        for change in &changes {
            tracing::debug!("{change}");
        }
        errors.iter().for_each(|error| self.note_failure(error));
        purge.into_iter().for_each(|(service, server)| self.purge(service, server));
        before
    }

    /// Has the connections removed of servers that an earlier `lb` left and the configuration does
    /// not name.
    pub(super) fn purge_unclaimed(&mut self) {
        let unclaimed = self.data_path.executor.take_unclaimed();
        unclaimed.into_iter().for_each(|(service, server)| self.purge(service, server));
    }

    fn purge(&mut self, service: ServiceKey, server: ServerId) {
        self.accounts.purge(service, server);
        self.sweeper.purge(server);
    }

    /// Adds up what purged servers have carried, and frees their numbers. True if there were any.
    /// Totals of services of which `is_known` does not hold are forgotten.
    pub(super) fn settle_purged(&mut self, is_known: impl Fn(&ServiceKey) -> bool) -> bool {
        let purged = self.sweeper.purged();
        for server in &purged {
            let totals = self.read_totals(*server);
            self.accounts.purged(*server, totals);
            self.data_path.executor.purged(*server);
        }
        if !purged.is_empty() {
            self.accounts.retain(&is_known);
        }
        !purged.is_empty()
    }

    pub(super) fn table(&self) -> &Arc<Table> {
        &self.data_path.table
    }

    /// Copies connections of `from`, the table of an earlier program, into this one's. `goes_on` is
    /// called again and again.
    pub(super) fn copy(&self, from: &Table, newer: bool, goes_on: &dyn Fn()) -> Copied {
        let maps = self.data_path.executor.maps();
        let to = &self.data_path.table;
        Copier { from, to, control: maps.control.read(0), servers: &maps.servers, goes_on }.copy(newer)
    }

    /// The sweep's threads, by their names, give signs of life.
    pub(super) fn pulses(&self) -> [(&'static str, Pulse); 2] {
        self.sweeper.pulses()
    }

    /// Slots of the connection table that are in use, and entries that have expired so far.
    pub(super) fn census(&self) -> Census {
        self.sweeper.census()
    }

    /// Brings over the bound clients of the `lb` before, if they are in a map of another size.
    /// `goes_on` is called for each.
    pub(super) fn copy_bindings(
        &mut self,
        inherited: &Inherited,
        sizes: &Sizes,
        goes_on: &dyn Fn(),
    ) -> Result<()> {
        inherited.copy_bindings(sizes, self.data_path.executor.bindings(), goes_on)
    }

    /// The clients that are bound to servers now.
    pub(super) fn bindings(&self) -> Vec<(Key, Binding)> {
        let found = self.data_path.executor.maps().bindings.list(now_ns());
        found.unwrap_or_else(|error| {
            tracing::warn!("{error:#}");
            Vec::new()
        })
    }

    /// Whether the server has as many connections as it may.
    pub(super) fn is_full(&self, service: &ServiceKey, target: Target) -> bool {
        let executor = &self.data_path.executor;
        let id = executor.server_id(service, target);
        id.is_some_and(|id| {
            let limits = executor.maps().limits.read(usize::from(id.0));
            !limits.thresholds.get().is_none() && limits.full.get() != 0
        })
    }

    /// What has come of fragments that were held: sent, passed to the host, given up.
    pub(super) fn held_fragments(&self) -> [u64; 3] {
        self.holder.as_ref().map(|holder| holder.counts().read()).unwrap_or_default()
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.data_path.executor.maps().counters
    }

    /// The last server that sent a packet on instead of serving it.
    pub(super) fn came_back(&self) -> Mac {
        self.data_path.executor.maps().came_back.read(0)
    }

    /// The last packet with a checksum that was left to hardware.
    pub(super) fn partial_checksum(&self) -> Seen {
        self.data_path.executor.maps().partial_checksum.read(0)
    }

    /// Packets of servers get back to clients by these routes, where there are new ones.
    pub(super) fn set_routes(&mut self, routes: Option<Vec<Route>>) {
        if let Some(routes) = routes
            && let Err(error) = self.data_path.executor.set_routes(&routes)
        {
            self.note_failure(&error);
        }
    }

    /// Connections that the server has now.
    pub(super) fn counts(&self, service: &ServiceKey, target: Target) -> Counts {
        let id = self.data_path.executor.server_id(service, target);
        id.map(|id| self.data_path.table.counts(id)).unwrap_or_default()
    }

    /// What the server has carried.
    pub(super) fn totals(&self, service: &ServiceKey, target: Target) -> Totals {
        let id = self.data_path.executor.server_id(service, target);
        id.map(|id| self.read_totals(id)).unwrap_or_default()
    }

    /// What the director's host and departed servers have carried, those included that are being
    /// purged.
    pub(super) fn departed_totals(&self, service: &ServiceKey) -> Totals {
        let mut totals = self.accounts.departed(service, |server| self.read_totals(server));
        totals.add(self.totals(service, Target::Local));
        totals
    }

    /// Listings in ipvsadm's way count from here on, of one service or of all.
    pub(super) fn zero(&mut self, service: Option<&ServiceKey>) {
        let Self { data_path, accounts, .. } = self;
        let read = |server| read_totals(&data_path.executor.maps().stats, server);
        let services = &data_path.applied().services;
        let (one, all) = (service.into_iter(), service.is_none().then(|| services.keys()));
        for key in one.chain(all.into_iter().flatten()) {
            let servers = services.get(key).into_iter().flat_map(|applied| &applied.servers);
            for target in servers.map(|server| server.target).chain([Target::Local]) {
                if let Some(server) = data_path.executor.server_id(key, target) {
                    accounts.zero(server, read(server));
                }
            }
            accounts.zero_departed(key, read);
        }
    }

    /// Where such listings begin to count the server.
    pub(super) fn zeroed(&self, service: &ServiceKey, target: Target) -> Totals {
        let id = self.data_path.executor.server_id(service, target);
        id.map(|id| self.accounts.zeroed(id)).unwrap_or_default()
    }

    /// The same of whom [`Self::departed_totals`] counts.
    pub(super) fn zeroed_departed(&self, service: &ServiceKey) -> Totals {
        let mut totals = self.accounts.zeroed_departed(service);
        totals.add(self.zeroed(service, Target::Local));
        totals
    }

    /// Established connections and totals of each server that the service has or is about to lose.
    pub(super) fn carried(&self, service: &ServiceKey) -> Vec<(u32, Totals)> {
        let applied = self.applied().services.get(service);
        let servers = applied.into_iter().flat_map(|service| &service.servers);
        let ids = servers.filter_map(|server| self.data_path.executor.server_id(service, server.target));
        ids.map(|id| (self.data_path.table.counts(id).active(), self.read_totals(id))).collect()
    }

    /// Whether no connection goes to the server.
    pub(super) fn is_idle(&self, service: &ServiceKey, address: IpAddr) -> bool {
        let counts = self.counts(service, Target::Real(address));
        counts.active() == 0 && counts.inactive() == 0
    }

    /// Something of the data path stays as it was.
    pub(super) fn note_failure(&self, error: &anyhow::Error) {
        let text = format!("the data path could not be changed: {error:#}");
        self.findings.note(Record::new(Level::Error, "data_path_failed", text));
    }

    fn read_totals(&self, server: ServerId) -> Totals {
        read_totals(&self.data_path.executor.maps().stats, server)
    }
}
