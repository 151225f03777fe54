//! Samples, and how they are shown.

use std::fmt;
use std::time::{Duration, Instant};

/// Times of one thing, sorted.
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn new(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "nothing was measured");
        times.sort_unstable();
        Self(times)
    }
    /// Does it so often, and takes the time of each.
    pub fn of(count: usize, mut act: impl FnMut()) -> Self {
        let time = |()| {
            let begin = Instant::now();
            act();
            begin.elapsed()
        };
        Self::new(std::iter::repeat_n((), count).map(time).collect())
    }
    /// The value that this share of them does not exceed.
    pub fn at(&self, share: f64) -> Duration {
        let place = (self.0.len() as f64 * share).ceil() as usize;
        self.0[place.clamp(1, self.0.len()) - 1]
    }
    pub fn p50(&self) -> Duration {
        self.at(0.5)
    }
    pub fn p99(&self) -> Duration {
        self.at(0.99)
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (p99 {})", time(self.p50()), time(self.p99()))
    }
}

pub fn time(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    match us {
        0.0..100.0 => format!("{us:.1} µs"),
        100.0..1_000.0 => format!("{us:.0} µs"),
        1_000.0..100_000.0 => format!("{:.2} ms", us / 1e3),
        _ => format!("{:.0} ms", us / 1e3),
    }
}

pub fn ratio(ours: Duration, limit: Duration) -> String {
    format!("{:.1} ×", ours.as_secs_f64() / limit.as_secs_f64())
}

/// The rows, in the order measured; shown as Markdown.
pub struct Table(Vec<[String; 5]>);

impl Table {
    pub fn new() -> Self {
        Self(Vec::new())
    }
    pub fn row(&mut self, what: &str, ours: impl ToString, reach: &str, limit: impl ToString, ratio: impl ToString) {
        self.0.push([what.into(), ours.to_string(), reach.into(), limit.to_string(), ratio.to_string()]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | measured | reach | limit, in the same run | ratio |\n|---|---|---|---|---|")?;
        self.0.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}

/// One line about the machine.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(": ")?.1)).unwrap_or("unknown CPU");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}, load {load} at the start", kernel.trim())
}
