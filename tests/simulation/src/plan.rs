//! What is simulated.

use std::time::Duration;

use lb_model::ConnectionSync;

/// Messages about connections in a simulated second, of all directors to all others, that are
/// simulated unless other rates are asked for: a minute or two for each size on two cores.
const AFFORDABLE: u64 = 1_200_000;

/// New connections a second at each director.
const RATES: [u32; 6] = [0, 4, 40, 400, 4_000, 40_000];

/// Of each connection all other directors hear so often: it is established, the client has sent its
/// FIN, both sides have.
pub const MESSAGES: u64 = 3;

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// New connections a second at each director; `None`: as many as are affordable.
    pub rates: Option<Vec<u32>>,
    /// How long each rate is measured. Digests are told every ten seconds, so that a multiple of
    /// these has its share of them.
    pub measured: Duration,
    /// Connections of each director that stay.
    pub connections: u32,
    /// Percent of datagrams that get lost.
    pub loss: f64,
    pub seed: u64,
    /// Processors that are used; figures but for processor time do not depend on it.
    pub threads: usize,
}

impl Plan {
    /// The rates that are simulated with so many directors: idle first.
    pub fn rates(&self, directors: usize) -> Vec<u32> {
        let pairs = (directors * (directors - 1)) as u64;
        let is_affordable = |rate: &u32| u64::from(*rate) * MESSAGES * pairs <= AFFORDABLE;
        let mut rates = match &self.rates {
            Some(rates) => rates.clone(),
            None => RATES.into_iter().filter(is_affordable).collect(),
        };
        rates.push(0);
        rates.sort_unstable();
        rates.dedup();
        rates
    }

    /// Bytes a second that a director sends at most.
    pub fn sync_rate() -> u64 {
        ConnectionSync::default().rate
    }
}
