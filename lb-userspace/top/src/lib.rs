//! `lb top`: services, servers, events, cluster and connections of the running director, live on a
//! terminal.
//!
//! - `state`: what is shown, and what a key or a snapshot changes in it: pure, with `rows` (filter,
//!   order), `rates` (differences of snapshots) and `listing` (which connections are asked for)
//! - `draw`: the state on the terminal: pure
//! - `ask`: the threads that ask the director, and give it orders
//! - [`run`]: the terminal, and the loop

mod ask;
mod draw;
mod listing;
mod rates;
mod rows;
mod state;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use crossterm::event::{self, Event, KeyEventKind};
use ratatui::DefaultTerminal;

use self::listing::Ask;
use self::state::{Effect, Input, State};

/// How soon a key is seen.
const LOOK: Duration = Duration::from_millis(100);

/// Shows the director that listens on `socket`, until `q`. The terminal is as before afterwards,
/// also after a panic.
///
/// # Errors
/// No director listens there, or the terminal cannot be used.
pub fn run(socket: &Path) -> Result<()> {
    // Before the screen is taken: what is wrong is read by whoever has typed the command.
    let first = ask::snapshot(socket)?;
    let (orders, wanted) = mpsc::channel();
    let (lists, asked) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let (path, tell_too) = (socket.to_owned(), tell.clone());
    start("list", move || ask::list(&path, &asked, &tell_too))?;
    let path = socket.to_owned();
    start("ask", move || ask::follow(&path, &wanted, &tell))?;
    let mut state = State::new(no_color());
    state.update(Input::Snapshot(Box::new(first)));
    with_terminal(|terminal| show(terminal, &mut state, &told, &orders, &lists))
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new().name(name.into()).spawn(work).context("cannot start a thread")?;
    Ok(())
}

/// Gives `work` the terminal's screen and keys, and the terminal back to the shell as it was, also
/// after a panic.
pub fn with_terminal(work: impl FnOnce(&mut DefaultTerminal) -> Result<()>) -> Result<()> {
    let mut terminal = ratatui::try_init().context("cannot use this terminal")?;
    let outcome = work(&mut terminal);
    ratatui::restore();
    outcome
}

/// Colour is for people who did not opt out (<https://no-color.org>).
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

fn show(
    terminal: &mut DefaultTerminal,
    state: &mut State,
    told: &mpsc::Receiver<Input>,
    orders: &mpsc::Sender<lb_api::wire::Request>,
    lists: &mpsc::Sender<Ask>,
) -> Result<()> {
    loop {
        terminal.draw(|frame| draw::draw(state, frame)).context("cannot draw on this terminal")?;
        let mut inputs = Vec::new();
        if event::poll(LOOK).context("cannot read keys of this terminal")? {
            match event::read().context("cannot read keys of this terminal")? {
                Event::Key(key) if key.kind == KeyEventKind::Press => inputs.push(Input::Key(key)),
                // A terminal of another size is drawn anew.
                _ => {}
            }
        }
        inputs.extend(told.try_iter());
        for input in inputs {
            match state.update(input) {
                Some(Effect::Quit) => return Ok(()),
                Some(Effect::Order(order)) => {
                    orders.send(*order).context("the thread that asks has ended")?;
                }
                Some(Effect::List(ask)) => {
                    lists.send(*ask).context("the thread that lists connections has ended")?;
                }
                None => {}
            }
        }
    }
}
