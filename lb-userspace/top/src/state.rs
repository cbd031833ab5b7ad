//! What is shown, and what a key or a snapshot changes in it.

use std::net::IpAddr;
use std::time::Instant;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use lb_api::connections::Connection;
use lb_api::events::Record;
use lb_api::status::{ServerStatus, ServiceStatus, Status};
use lb_api::wire::{Request, ServerRequest};
use lb_api::words;

use crate::listing::{self, Ask, Listed, Listing, Whose};
use crate::rates::Rates;
use crate::rows::{self, Sort};

/// What the director said at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub status: Status,
    /// Oldest first.
    pub events: Vec<Record>,
    pub at: Instant,
}

/// What happens.
#[derive(Debug)]
pub(crate) enum Input {
    Key(KeyEvent),
    Snapshot(Box<Snapshot>),
    /// The director does not answer.
    Trouble(String),
    /// What came of an order, in lines.
    Outcome(Result<Vec<String>, String>),
    /// What came of a listing of connections.
    Listed(Box<Listed>),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Quit,
    Order(Box<Request>),
    /// Have connections listed.
    List(Box<Ask>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Services,
    Servers,
    Events,
    Cluster,
    Connections,
}

impl View {
    pub(crate) const ALL: [Self; 5] =
        [Self::Services, Self::Servers, Self::Events, Self::Cluster, Self::Connections];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Services => "Services",
            Self::Servers => "Servers",
            Self::Events => "Events",
            Self::Cluster => "Cluster",
            Self::Connections => "Connections",
        }
    }

    fn step(self, by: usize) -> Self {
        Self::ALL[(self as usize + by) % Self::ALL.len()]
    }
}

/// What lies over the view.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Help,
    /// The filter is typed.
    Filter,
    /// All that is known of the selected server or connection, or the whole selected event.
    Details,
    /// Is the order meant?
    Confirm(Box<Request>),
    /// What came of an order; `false`: it was refused.
    Outcome(bool, Vec<String>),
}

#[derive(Debug)]
pub(crate) struct State {
    pub snapshot: Option<Box<Snapshot>>,
    /// Why there is no newer snapshot.
    pub trouble: Option<String>,
    pub rates: Rates,
    pub view: View,
    /// The service whose servers are looked at.
    pub inside: Option<String>,
    /// Of services, servers and events.
    pub filter: String,
    pub sort: Sort,
    pub listing: Listing,
    /// The selected row of the view.
    pub row: usize,
    pub over: Option<Over>,
    /// An order is under way.
    pub waiting: bool,
    pub no_color: bool,
}

impl State {
    pub(crate) fn new(no_color: bool) -> Self {
        Self {
            snapshot: None,
            trouble: None,
            rates: Rates::default(),
            view: View::Services,
            inside: None,
            filter: String::new(),
            sort: Sort::default(),
            listing: Listing::default(),
            row: 0,
            over: None,
            waiting: false,
            no_color,
        }
    }

    pub(crate) fn update(&mut self, input: Input) -> Option<Effect> {
        let effect = self.take(input);
        effect.or_else(|| self.ask())
    }

    fn take(&mut self, input: Input) -> Option<Effect> {
        match input {
            Input::Key(key) => return self.key(key),
            Input::Snapshot(snapshot) => {
                self.rates.take(&snapshot.status, snapshot.at);
                // The selection stays with its server, not with its row.
                let selected = self.selected_server().map(|(service, server)| key(service, server));
                self.snapshot = Some(snapshot);
                self.trouble = None;
                self.follow(selected);
            }
            Input::Trouble(trouble) => self.trouble = Some(trouble),
            Input::Outcome(outcome) => {
                self.waiting = false;
                self.over = Some(match outcome {
                    Ok(lines) => Over::Outcome(true, lines),
                    Err(why) => Over::Outcome(false, why.lines().map(str::to_owned).collect()),
                });
            }
            Input::Listed(listed) => self.listed(*listed),
        }
        None
    }

    /// Connections are asked for while they are looked at, and nothing lies over them.
    fn ask(&mut self) -> Option<Effect> {
        if self.view != View::Connections || self.over.is_some() {
            return None;
        }
        let now = self.now()?;
        self.listing.due(now).map(|ask| Effect::List(Box::new(ask)))
    }

    fn listed(&mut self, listed: Listed) {
        let Some(now) = self.now() else { return };
        let selected = self.selected_connection().cloned();
        self.listing.take(listed, now);
        if self.view != View::Connections {
            return;
        }
        let place = |selected: Connection| {
            let found = rows::connections(&self.listing);
            found.iter().position(|one| listing::is_same(one, &selected))
        };
        let row = selected.and_then(place);
        // Not another connection's details in their place.
        if row.is_none() && self.over == Some(Over::Details) {
            self.over = None;
        }
        self.row = row.unwrap_or(self.row).min(self.rows().saturating_sub(1));
    }

    /// When the last snapshot was taken: the clock of what is shown.
    pub(crate) fn now(&self) -> Option<Instant> {
        self.snapshot.as_ref().map(|snapshot| snapshot.at)
    }

    pub(crate) fn status(&self) -> Option<&Status> {
        self.snapshot.as_ref().map(|snapshot| &snapshot.status)
    }

    /// Rows of the view.
    pub(crate) fn rows(&self) -> usize {
        let Some(snapshot) = &self.snapshot else { return 0 };
        match self.view {
            View::Services => rows::services(self, &snapshot.status).len(),
            View::Servers => rows::servers(self, &snapshot.status).len(),
            View::Events => rows::events(self, &snapshot.events).len(),
            View::Cluster => 0,
            View::Connections => rows::connections(&self.listing).len(),
        }
    }

    pub(crate) fn selected_server(&self) -> Option<(&ServiceStatus, &ServerStatus)> {
        let status = self.status().filter(|_| self.view == View::Servers)?;
        rows::servers(self, status).get(self.row).copied()
    }

    pub(crate) fn selected_event(&self) -> Option<&Record> {
        let snapshot = self.snapshot.as_ref().filter(|_| self.view == View::Events)?;
        rows::events(self, &snapshot.events).get(self.row).copied()
    }

    pub(crate) fn selected_connection(&self) -> Option<&Connection> {
        let listing = Some(&self.listing).filter(|_| self.view == View::Connections)?;
        rows::connections(listing).get(self.row).copied()
    }

    fn follow(&mut self, selected: Option<(String, IpAddr, u16)>) {
        if let Some((selected, status)) = selected.zip(self.status()) {
            let mut rows = rows::servers(self, status).into_iter();
            if let Some(row) = rows.position(|(service, server)| key(service, server) == selected) {
                self.row = row;
            }
        }
        self.row = self.row.min(self.rows().saturating_sub(1));
    }

    fn key(&mut self, key: KeyEvent) -> Option<Effect> {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Effect::Quit);
        }
        match self.over.take() {
            None => self.plain_key(key.code),
            Some(Over::Filter) => {
                self.filter_key(key.code);
                None
            }
            Some(Over::Confirm(order)) => match key.code {
                KeyCode::Char('y' | 'Y') => {
                    self.waiting = true;
                    Some(Effect::Order(order))
                }
                KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => None,
                // Neither yes nor no.
                _ => {
                    self.over = Some(Over::Confirm(order));
                    None
                }
            },
            // Any key closes what is only read.
            Some(Over::Help | Over::Details | Over::Outcome(..)) => None,
        }
    }

    /// The view's filter as it is typed.
    pub(crate) fn typed(&self) -> &str {
        match self.view {
            View::Connections => &self.listing.typed,
            View::Services | View::Servers | View::Events | View::Cluster => &self.filter,
        }
    }

    fn filter_key(&mut self, code: KeyCode) {
        let typed = match self.view {
            View::Connections => &mut self.listing.typed,
            View::Services | View::Servers | View::Events | View::Cluster => &mut self.filter,
        };
        match code {
            KeyCode::Enter => {}
            KeyCode::Esc => typed.clear(),
            KeyCode::Backspace => {
                typed.pop();
                self.over = Some(Over::Filter);
            }
            KeyCode::Char(character) => {
                typed.push(character);
                self.over = Some(Over::Filter);
            }
            _ => self.over = Some(Over::Filter),
        }
        // The director filters connections, and is asked for what was typed to its end.
        if self.view == View::Connections && self.over.is_none() {
            self.listing.keep();
        }
        self.row = 0;
    }

    fn plain_key(&mut self, code: KeyCode) -> Option<Effect> {
        let last = self.rows().saturating_sub(1);
        match code {
            KeyCode::Char('q') => return Some(Effect::Quit),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.over = Some(Over::Help),
            KeyCode::Char('/') => self.over = Some(Over::Filter),
            KeyCode::Char('s') => self.sort_anew(),
            KeyCode::Tab => self.look_at(self.view.step(1)),
            KeyCode::BackTab => self.look_at(self.view.step(View::ALL.len() - 1)),
            KeyCode::Char(digit @ '1'..='5') => {
                let index = digit.to_digit(10).unwrap_or(1) as usize - 1;
                self.look_at(View::ALL[index]);
            }
            KeyCode::Down | KeyCode::Char('j') => self.row = (self.row + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.row = self.row.saturating_sub(1),
            KeyCode::PageDown => self.row = (self.row + 10).min(last),
            KeyCode::PageUp => self.row = self.row.saturating_sub(10),
            KeyCode::Home | KeyCode::Char('g') => self.row = 0,
            KeyCode::End | KeyCode::Char('G') => self.row = last,
            KeyCode::Enter | KeyCode::Right => self.drill(),
            KeyCode::Esc | KeyCode::Left => self.leave(),
            KeyCode::Char('c') => self.look_at_connections(),
            KeyCode::Char(key @ ('n' | 'b' | 'r')) if self.view == View::Connections => self.list_key(key),
            KeyCode::Char('d' | 'e' | 'p') if !self.waiting => {
                self.over = self.order(code).map(|order| Over::Confirm(Box::new(order)));
            }
            _ => {}
        }
        None
    }

    fn sort_anew(&mut self) {
        match self.view {
            View::Connections => self.listing.sort = self.listing.sort.next(),
            View::Services | View::Servers | View::Events | View::Cluster => self.sort = self.sort.next(),
        }
    }

    fn list_key(&mut self, key: char) {
        match key {
            'n' => self.listing.step_on(),
            'b' => self.listing.step_back(),
            _ => return self.listing.ask_anew(),
        }
        self.row = 0;
    }

    fn look_at(&mut self, view: View) {
        (self.view, self.inside, self.row) = (view, None, 0);
        self.listing.begin(None);
    }

    /// At the connections of the selected service or server.
    fn look_at_connections(&mut self) {
        let Some(status) = self.status() else { return };
        let whose = match self.view {
            View::Services => rows::services(self, status).get(self.row).map(|one| Whose::service(one)),
            View::Servers => {
                let selected = self.selected_server();
                selected.map(|(service, server)| Whose::server(service, server, self.inside.clone()))
            }
            View::Events | View::Cluster | View::Connections => None,
        };
        if whose.is_some() {
            self.look_at(View::Connections);
            self.listing.begin(whose);
        }
    }

    /// Into the selected service; or all that is known of a server, an event or a connection.
    fn drill(&mut self) {
        match self.view {
            View::Services => {
                let Some(status) = self.status() else { return };
                let Some(name) = rows::services(self, status).get(self.row).map(|one| one.name.clone())
                else {
                    return;
                };
                self.look_at(View::Servers);
                self.inside = Some(name);
                self.filter.clear();
            }
            View::Servers | View::Events | View::Connections if self.rows() > 0 => {
                self.over = Some(Over::Details);
            }
            View::Servers | View::Events | View::Cluster | View::Connections => {}
        }
    }

    /// Out of what was looked into; then the filter goes.
    fn leave(&mut self) {
        if let Some(whose) = self.listing.whose.take() {
            self.return_from(whose);
        } else if self.view == View::Connections {
            self.listing.clear();
            self.row = 0;
        } else if self.inside.is_some() {
            self.look_at(View::Services);
        } else {
            self.filter.clear();
        }
    }

    /// From connections to whose they are.
    fn return_from(&mut self, Whose { service, server, inside, .. }: Whose) {
        match server {
            None => {
                self.look_at(View::Services);
                let services = self.status().map(|status| rows::services(self, status));
                let row = services.and_then(|found| found.iter().position(|one| one.name == service));
                self.row = row.unwrap_or(0);
            }
            Some((_, address)) => {
                self.look_at(View::Servers);
                self.inside = inside;
                self.follow(Some((service, address.ip(), address.port())));
            }
        }
    }

    /// The order that a key gives for the selected server.
    fn order(&self, code: KeyCode) -> Option<Request> {
        let (service, server) = self.selected_server()?;
        let address = words::address(server.address, server.port);
        match code {
            KeyCode::Char('d') => {
                let about = ServerRequest::about(address).because(Some("lb top".to_owned()));
                Some(Request::Drain(about))
            }
            KeyCode::Char('e') => Some(Request::Enable(ServerRequest::about(address))),
            _ => Some(Request::Probe { service: service.name.clone(), server: server.address.to_string() }),
        }
    }
}

fn key(service: &ServiceStatus, server: &ServerStatus) -> (String, IpAddr, u16) {
    (service.name.clone(), server.address, server.port)
}
