//! What is wrong with services and servers, in the first lines of a listing that is longer than a
//! screen.

use lb_api::status::Status;

use super::Tone;

/// A listing of fewer lines is seen at a glance.
const SCREEN: usize = 20;

/// Nothing where all is well, or all is in sight.
pub(super) fn of(status: &Status, colour: bool) -> String {
    let lines: usize = status.services.iter().map(|service| 1 + service.servers.len()).sum();
    if lines <= SCREEN {
        return String::new();
    }
    let troubles = status.troubles();
    let lines = troubles.of_services().into_iter().chain(troubles.of_servers());
    lines.map(|(tone, line)| Tone::from(tone).paint(&line, colour) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::samples;

    #[test]
    fn what_is_wrong_comes_first_where_it_is_not_in_sight() {
        let mut status = samples::cluster();
        status.services[0].on_fallback = true;
        assert_eq!(of(&status, false), "");
        status.services = vec![status.services[0].clone(); 7];
        status.services[1].fallback_ready = false;
        let wanted = "NOBODY SERVES: web\nON FALLBACK: web, web, web, web, web, web\n";
        assert_eq!(of(&status, false), wanted);
        assert!(of(&status, true).starts_with("\x1b[1;31mNOBODY SERVES: web\x1b[0m\n"));
    }
}
