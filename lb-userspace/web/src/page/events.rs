//! The event log.

use lb_api::events::Record;
use lb_api::status::Tone;
use lb_api::words;
use maud::{Markup, html};

use super::state;

/// The newest first, which is where one looks.
pub(super) fn list<'a>(newest_first: impl Iterator<Item = &'a Record>) -> Markup {
    html! {
        ol class="events" reversed {
            @for record in newest_first {
                li data-event=(record.event) {
                    time datetime=(record.time) { (record.time) }
                    @match Tone::from(record.level) {
                        Tone::Bad => { (state(Tone::Bad, "error")) " " }
                        Tone::Warning => { (state(Tone::Warning, "warning")) " " }
                        Tone::Plain | Tone::Good => {}
                    }
                    (words::printable(&record.text))
                }
            }
        }
    }
}
