//! What the directors' processes take, in a series over the run, and whether that grows without
//! bounds: by how much at most, and by its trend.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::lab::Director;

/// What a process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Of its own memory: pages of maps come into sight as they are swept.
    pub kilobytes: u64,
    pub descriptors: u64,
    pub threads: u64,
}

/// One of the three figures.
struct Figure {
    name: &'static str,
    of: fn(&Taken) -> u64,
    /// It may be so much more than at first.
    most: fn(u64) -> u64,
    /// It may rise by so much from the first third of a series to the last one.
    rise: u64,
}

const FIGURES: [Figure; 3] = [
    Figure {
        name: "KiB",
        of: |taken| taken.kilobytes,
        most: |first| first * 3 / 2 + 32 * 1024,
        rise: 8 * 1024,
    },
    Figure { name: "descriptors", of: |taken| taken.descriptors, most: |first| first + 24, rise: 6 },
    Figure { name: "threads", of: |taken| taken.threads, most: |first| first + 4, rise: 1 },
];

/// A series of fewer looks has no trend.
const ENOUGH: usize = 12;

/// What a director took, over all its processes.
#[derive(Debug, Clone)]
pub struct Growth {
    pub director: String,
    /// With the process, after each episode.
    series: Vec<(i32, Taken)>,
}

impl Growth {
    pub(super) fn of(director: &Director) -> Self {
        Self { director: director.node().name().to_owned(), series: Vec::new() }
    }

    /// Of a cluster that is at rest.
    pub(super) fn measure(&mut self, director: &Director) {
        let pid = director.process().pid();
        self.series.extend(taken(Path::new(&format!("/proc/{pid}"))).map(|taken| (pid, taken)));
    }

    /// What has grown without bounds.
    pub fn troubles(&self) -> Vec<String> {
        let (Some((_, first)), Some((_, last))) = (self.series.first(), self.series.last()) else {
            return vec![format!("it was never measured: {}", self.director)];
        };
        let mut troubles = Vec::new();
        for Figure { name, of, most, rise } in FIGURES {
            if of(last) > most(of(first)) {
                troubles.push(format!("it grows beyond {} {name}: {self}", most(of(first))));
            }
            let rising = self.all_series().find_map(|series| {
                let values: Vec<u64> = series.iter().map(of).collect();
                rises(&values, rise)
            });
            if let Some([first, middle, last]) = rising {
                let director = &self.director;
                troubles.push(format!(
                    "it grows steadily: {director}, from {first} over {middle} to {last} {name} (medians of a series' \
                     thirds)"
                ));
            }
        }
        troubles
    }

    /// All looks, and those of each process: what a process gathers does not show where it is
    /// restarted often.
    fn all_series(&self) -> impl Iterator<Item = Vec<Taken>> {
        let taken = |series: &[(i32, Taken)]| series.iter().map(|(_, taken)| *taken).collect();
        let processes = self.series.chunk_by(|(one, _), (other, _)| one == other);
        [taken(&self.series)].into_iter().chain(processes.map(taken))
    }
}

/// `None`: the process is gone.
fn taken(process: &Path) -> Option<Taken> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let descriptors = fs::read_dir(process.join("fd")).ok()?.count() as u64;
    Some(Taken { kilobytes: number("RssAnon:")?, descriptors, threads: number("Threads:")? })
}

/// The medians of the series' thirds, if they rise from one to the next, and by more than this in
/// all: what grows once, or goes up and down, has no trend.
fn rises(series: &[u64], by_more_than: u64) -> Option<[u64; 3]> {
    if series.len() < ENOUGH {
        return None;
    }
    let third = series.len() / 3;
    let parts = [&series[..third], &series[third..2 * third], &series[2 * third..]];
    let medians = parts.map(|part| {
        let mut sorted = part.to_vec();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    });
    let [first, middle, last] = medians;
    (first < middle && middle < last && last - first > by_more_than).then_some(medians)
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { director, series } = self;
        let (Some((_, first)), Some((_, last))) = (series.first(), series.last()) else {
            return write!(f, "{director}: not measured");
        };
        let figures = FIGURES.map(|Figure { name, of, .. }| format!("{} to {} {name}", of(first), of(last)));
        write!(f, "{director}: {}, in {} looks", figures.join(", "), series.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Taken = Taken { kilobytes: 40_000, descriptors: 60, threads: 15 };

    fn growth(series: impl IntoIterator<Item = (i32, Taken)>) -> Growth {
        Growth { director: "ha1".to_owned(), series: series.into_iter().collect() }
    }

    #[test]
    fn growth_within_bounds_is_none() {
        let troubles = |last| growth([(1, FIRST), (1, last)]).troubles().len();
        assert_eq!(troubles(Taken { kilobytes: 60_000, descriptors: 80, threads: 17 }), 0);
        assert_eq!(troubles(Taken { kilobytes: 200_000, ..FIRST }), 1);
        assert_eq!(troubles(Taken { descriptors: 100, ..FIRST }), 1);
        assert_eq!(troubles(Taken { threads: 30, ..FIRST }), 1);
        assert_eq!(growth([]).troubles().len(), 1, "nobody has looked");
    }

    #[test]
    fn what_grows_steadily_is_found_before_it_is_too_much() {
        let leak = |each: u64| {
            growth(
                (0..30).map(|look| (1, Taken { descriptors: FIRST.descriptors + look * each / 4, ..FIRST })),
            )
        };
        assert_eq!(leak(1).troubles().len(), 0, "one in four episodes, and no more");
        let troubles = leak(2).troubles();
        assert!(troubles.len() == 1 && troubles[0].contains("descriptors"), "{troubles:?}");
        let memory = (0..30).map(|look| (1, Taken { kilobytes: FIRST.kilobytes + look * 600, ..FIRST }));
        assert_eq!(growth(memory).troubles().len(), 1);
    }

    #[test]
    fn what_grows_once_or_goes_up_and_down_has_no_trend() {
        let once =
            (0..30).map(|look| (1, Taken { kilobytes: 40_000 + 20_000 * u64::from(look > 4), ..FIRST }));
        assert_eq!(growth(once).troubles(), Vec::<String>::new());
        let waves = (0..30).map(|look| (1, Taken { descriptors: 60 + look % 10, ..FIRST }));
        assert_eq!(growth(waves).troubles(), Vec::<String>::new());
    }

    /// Each of three processes gathers what it does not give back, and begins anew in time.
    #[test]
    fn a_restart_hides_no_growth() {
        let looks = (0..45).map(|look| (look / 15, Taken { descriptors: 60 + look as u64 % 15, ..FIRST }));
        let troubles = growth(looks).troubles();
        assert!(troubles.len() == 1 && troubles[0].contains("steadily"), "{troubles:?}");
    }

    #[test]
    fn a_process_is_measured() {
        let this = taken(Path::new("/proc/self")).expect("this process");
        assert!(this.kilobytes > 0 && this.descriptors > 2 && this.threads > 0, "{this:?}");
        assert_eq!(taken(Path::new("/proc/0")), None);
    }
}
