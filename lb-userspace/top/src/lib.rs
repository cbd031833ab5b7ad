//! `lb top`: services, servers, events and cluster of the running director, live on a terminal.
//!
//! - `state`: what is shown, and what a key or a snapshot changes in it: pure, with `rows` (filter,
//!   order) and `rates` (differences of snapshots)
//! - `draw`: the state on the terminal: pure
//! - `ask`: the thread that asks the director, and gives it orders
//! - [`run`]: the terminal, and the loop

mod ask;
mod draw;
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
    let (tell, told) = mpsc::channel();
    let path = socket.to_owned();
    thread::Builder::new()
        .name("ask".into())
        .spawn(move || ask::follow(&path, &wanted, &tell))
        .context("cannot start a thread")?;
    let mut state = State::new(no_color());
    state.update(Input::Snapshot(Box::new(first)));
    with_terminal(|terminal| show(terminal, &mut state, &told, &orders))
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
                None => {}
            }
        }
    }
}
