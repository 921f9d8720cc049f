//! Times and what they are made of.

use std::path::Path;
use std::time::{Duration, Instant};

use images::{Context, Result};
use serde::Serialize;
use xtask::process::Process;

/// Several runs of one thing, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The middle one; of an even number the mean of the two in the middle.
    pub median: f64,
    /// The fastest.
    pub min: f64,
    /// The slowest.
    pub max: f64,
    /// All, in the order in which they ran.
    pub runs: Vec<f64>,
}

impl Sample {
    /// Of at least one run.
    pub fn of(runs: Vec<f64>) -> Sample {
        let mut sorted = runs.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Sample { median, min: sorted[0], max: sorted[sorted.len() - 1], runs }
    }

    /// Runs `once` so many times, each with what `before` has prepared for it outside of the time.
    pub fn take<T>(runs: usize, mut before: impl FnMut() -> Result<T>, mut once: impl FnMut(T) -> Result<()>) -> Result<Sample> {
        let mut all = Vec::new();
        for _ in 0..runs.max(1) {
            let prepared = before()?;
            settle()?;
            let start = Instant::now();
            once(prepared)?;
            all.push(start.elapsed().as_secs_f64());
        }
        Ok(Sample::of(all))
    }
}

/// Waits until what others wrote is on the disk, so that nobody pays for the one before.
pub fn settle() -> Result<()> {
    Process::new("sync", "/").capture().map(drop)
}

/// The peak of a process's resident memory in KiB: its `VmHWM`, asked every millisecond until it ends. What it says goes to `log`.
pub fn peak_memory(process: &Process, log: &Path) -> Result<u64> {
    let running = process.start(log)?;
    let status = format!("/proc/{}/status", running.pid());
    let mut peak = 0;
    while running.ended()?.is_none() {
        peak = peak.max(high_water(&fs_err::read_to_string(&status).unwrap_or_default()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(1));
    }
    let ended = running.ended()?.is_some_and(|status| status.success());
    if ended { Ok(peak) } else { process.capture().map(|_| peak).context(|| "measuring memory") }
}

/// `VmHWM` of a `/proc/PID/status` (proc(5)), KiB. A process that has ended has none.
pub fn high_water(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let odd = Sample::of(vec![3.0, 1.0, 9.0]);
        assert_eq!((odd.median, odd.min, odd.max), (3.0, 1.0, 9.0));
        assert_eq!(odd.runs, [3.0, 1.0, 9.0]);
        assert_eq!(Sample::of(vec![4.0, 1.0, 2.0, 100.0]).median, 3.0);
        assert_eq!(Sample::of(vec![5.0]).median, 5.0);
    }

    #[test]
    fn every_run_gets_what_was_prepared_for_it_outside_of_its_time() {
        let mut number = 0;
        let mut seen = Vec::new();
        let prepare = || {
            number += 1;
            std::thread::sleep(Duration::from_millis(30));
            Ok(number)
        };
        let sample = Sample::take(3, prepare, |prepared| {
            seen.push(prepared);
            Ok(())
        });
        assert_eq!(seen, [1, 2, 3]);
        assert!(sample.unwrap().max < 0.03, "the preparation was timed");
    }

    #[test]
    fn memory_is_read_from_the_status_file() {
        assert_eq!(high_water("Name:\txtask\nVmPeak:\t  9 kB\nVmHWM:\t  104448 kB\nVmRSS:\t 1 kB\n"), Some(104_448));
        assert_eq!(high_water("Name:\txtask\nState:\tZ (zombie)\n"), None);
        assert!(peak_memory(&Process::new("sleep", "/").arg("0.05"), &std::env::temp_dir().join("bench-peak.log")).unwrap() > 100);
    }
}
