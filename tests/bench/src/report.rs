//! The figures, and the table of them.

use std::fmt::Write as _;

use images::Result;
use serde::Serialize;

use crate::bundle::Figures;
use crate::floor::Floor;
use crate::gateway::Gateway;
use crate::measure::Sample;
use crate::nix::Doors;
use crate::node::Node;
use crate::ours::Ours;
use crate::peers::Measured;

/// Cold: times the floor.
pub const COLD_BAR: f64 = 1.3;
/// Nothing changed, seconds.
pub const NO_OP_BAR: f64 = 0.050;
/// One CA changed, seconds.
pub const CA_BAR: f64 = 0.150;
/// Memory, KiB.
pub const MEMORY_BAR: u64 = 256 << 10;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// 2; moves with the shape of this document.
    pub format: u32,
    /// On what: name → value.
    pub machine: Vec<(String, String)>,
    /// Runs of each measurement.
    pub runs: usize,
    /// The alert gateway under load, where it was measured.
    pub gateway: Option<Gateway>,
    /// The bundle, where it was measured.
    pub bundle: Option<Figures>,
    /// The whole stack under load, where it was measured.
    pub node: Option<Node>,
    /// Both doors when nothing has changed, where they were measured.
    pub doors: Option<Doors>,
    /// In the order of measuring.
    pub images: Vec<Image>,
    /// What is not here, and why or what brings it.
    pub not_run: Vec<(String, String)>,
}

/// One image.
#[derive(Debug, Serialize)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// Bytes of packages and tarball.
    pub packed: u64,
    /// Bytes of all layers.
    pub layers: u64,
    /// The floor.
    pub floor: Floor,
    /// Ours.
    pub ours: Ours,
    /// The others.
    pub peers: Vec<Measured>,
}

/// A line of the table and a bar of the plot.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// What was done.
    pub what: &'static str,
    /// By whom.
    pub who: String,
    /// How long.
    pub sample: Sample,
    /// In words: what has to hold and whether it does. Empty where nothing has to.
    pub verdict: String,
}

impl Report {
    /// Without images yet.
    pub fn new(runs: usize) -> Result<Report> {
        Ok(Report {
            format: 2,
            machine: machine()?,
            runs,
            gateway: None,
            bundle: None,
            node: None,
            doors: None,
            images: Vec::new(),
            not_run: Vec::new(),
        })
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.machine {
            let _ = writeln!(text, "{name:<10} {value}");
        }
        text.extend(self.gateway.as_ref().map(Gateway::table));
        text.extend(self.bundle.as_ref().map(Figures::table));
        text.extend(self.node.as_ref().map(Node::table));
        text.extend(self.doors.as_ref().map(Doors::table));
        for image in &self.images {
            let _ = writeln!(text, "\n{}", image.heading());
            let _ = writeln!(text, "  {:<14} {:<30} {:>9} {:>19} {:>8} {:>8}  ", "", "", "median", "min … max", "× floor", "× peer");
            for line in image.lines() {
                let _ = writeln!(text, "  {:<14} {:<30} {}", line.what, line.who, image.figures(&line).trim_end());
            }
        }
        if !self.not_run.is_empty() {
            text.push('\n');
        }
        for (name, why) in &self.not_run {
            let _ = writeln!(text, "not run: {name} ({why})");
        }
        text
    }
}

impl Image {
    /// Name and sizes.
    pub fn heading(&self) -> String {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let memory = self.ours.peak_kib as f64 / 1024.0;
        let bar = judge(self.ours.peak_kib <= MEMORY_BAR, "256 MiB");
        format!(
            "{}: {:.1} MB packed, {:.1} MB of layers; ours held at most {memory:.0} MiB ({bar})",
            self.name,
            mb(self.packed),
            mb(self.layers)
        )
    }

    /// The fastest peer at something, seconds.
    pub fn best_peer(&self, what: &str) -> Option<f64> {
        let medians = self.peers.iter().filter_map(|peer| peer.of(what)).map(|sample| sample.median);
        medians.min_by(f64::total_cmp)
    }

    /// All lines, in the order of reading.
    pub fn lines(&self) -> Vec<Line> {
        let line = |what, who: &str, sample: &Sample, verdict: String| Line { what, who: who.into(), sample: sample.clone(), verdict };
        let (floor, ours) = (&self.floor, &self.ours);
        let mut lines = vec![
            line("floor", &format!("decode ({})", short(floor.schedule)), &floor.decode, String::new()),
            line("floor", "SHA-256 of the layers", &floor.hash, String::new()),
            line("floor", "write of the layers", &floor.write, String::new()),
            line("floor", "sum", &Sample::of(vec![floor.seconds()]), String::new()),
        ];
        if let Some(sample) = &floor.whole_buffer {
            lines.push(line("(floor)", "libdeflate, whole in memory", sample, String::new()));
        }
        let timed = [
            ("cold", Some(&ours.cold), judge(ours.cold.median <= COLD_BAR * floor.seconds(), "1.3 × floor")),
            ("no-op", Some(&ours.no_op), judge(ours.no_op.median < NO_OP_BAR, "50 ms")),
            ("CA changed", Some(&ours.ca), judge(ours.ca.median < CA_BAR, "150 ms")),
            ("one upgraded", Some(&ours.upgrade), format!("{}: only its layer was made again", ours.upgraded)),
        ];
        for (what, sample, verdict) in timed {
            lines.extend(sample.map(|sample| line(what, "ours", sample, verdict)));
            let theirs = self.peers.iter().filter_map(|peer| Some((peer.name.as_str(), peer.of(what)?)));
            lines.extend(theirs.map(|(name, sample)| line(what, name, sample, String::new())));
        }
        lines
    }

    fn figures(&self, line: &Line) -> String {
        let Sample { median, min, max, .. } = line.sample;
        let floor = if line.what == "cold" { format!("{:.2}", median / self.floor.seconds()) } else { String::new() };
        let peer = match self.best_peer(line.what).filter(|_| line.who == "ours") {
            Some(best) => format!("{:.2}", median / best),
            None => String::new(),
        };
        format!("{:>9} {:>19} {floor:>8} {peer:>8}  {}", seconds(median), format!("{} … {}", seconds(min), seconds(max)), line.verdict)
    }
}

/// Seconds, or milliseconds where that reads better.
pub fn seconds(value: f64) -> String {
    if value < 1.0 { format!("{:.0} ms", value * 1000.0) } else { format!("{value:.2} s") }
}

/// Whether a bar holds, in words.
pub fn judge(holds: bool, bar: &str) -> String {
    if holds { format!("within {bar}") } else { format!("OVER THE BAR of {bar}") }
}

fn short(schedule: &str) -> &str {
    schedule.split(',').next().unwrap_or(schedule)
}

/// What runs: processor, cores, memory, kernel.
fn machine() -> Result<Vec<(String, String)>> {
    let first = |file: &str, key: &str| {
        let text = fs_err::read_to_string(file).unwrap_or_default();
        text.lines().find_map(|line| Some(line.strip_prefix(key)?.trim().trim_start_matches(':').trim().to_owned())).unwrap_or_default()
    };
    let cpu = first("/proc/cpuinfo", "model name");
    let sha = if first("/proc/cpuinfo", "flags").contains("sha_ni") { "SHA instructions" } else { "no SHA instructions" };
    let load = fs_err::read_to_string("/proc/loadavg")?;
    Ok(vec![
        ("processor".into(), format!("{cpu}, {} cores, {sha}", std::thread::available_parallelism()?)),
        ("memory".into(), first("/proc/meminfo", "MemTotal")),
        ("kernel".into(), fs_err::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned()),
        ("load".into(), format!("{} in the minute before", load.split(' ').next().unwrap_or_default())),
    ])
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn one(value: f64) -> Sample {
        Sample::of(vec![value])
    }

    /// An image that holds cold, memory and CA, and is too slow in doing nothing.
    pub fn sample() -> Report {
        let floor =
            Floor { decode: one(0.8), schedule: "one thread a member, largest first", hash: one(0.1), write: one(0.1), whole_buffer: None };
        let ours = Ours {
            cold: Sample::of(vec![1.2, 1.1, 1.9]),
            no_op: one(0.06),
            ca: one(0.09),
            upgrade: one(0.5),
            upgraded: "libpq5".into(),
            peak_kib: 100 << 10,
        };
        let peer = |name: &str, cold| Measured { name: name.into(), cold: one(cold), no_op: None, ca: Some(one(0.9)) };
        let image = Image {
            name: "postgres".into(),
            packed: 50_000_000,
            layers: 200_000_000,
            floor,
            ours,
            peers: vec![peer("umoci", 6.0), peer("docker", 12.0)],
        };
        Report {
            format: 2,
            gateway: None,
            bundle: None,
            node: None,
            doors: None,
            machine: vec![("processor".into(), "a <fast> one".into())],
            runs: 3,
            images: vec![image],
            not_run: vec![("buildah".into(), "apt-get install buildah".into())],
        }
    }

    #[test]
    fn every_figure_stands_beside_the_floor_the_best_peer_and_its_bar() {
        let table = sample().table();
        let cold = table.lines().find(|line| line.contains("cold") && line.contains("ours")).unwrap();
        let words: Vec<&str> = cold.split_whitespace().collect();
        assert_eq!(words, ["cold", "ours", "1.20", "s", "1.10", "s", "…", "1.90", "s", "1.20", "0.20", "within", "1.3", "×", "floor"]);
        assert!(table.contains("OVER THE BAR of 50 ms"), "{table}");
        assert!(table.contains("at most 100 MiB (within 256 MiB)"), "{table}");
        assert!(table.contains("not run: buildah (apt-get install buildah)"), "{table}");
    }

    #[test]
    fn a_bar_that_is_missed_is_said() {
        let mut report = sample();
        report.images[0].ours.cold = one(1.31);
        report.images[0].ours.peak_kib = MEMORY_BAR + 1;
        let table = report.table();
        assert!(table.contains("OVER THE BAR of 1.3 × floor"), "{table}");
        assert!(table.contains("OVER THE BAR of 256 MiB"), "{table}");
    }

    #[test]
    fn without_a_peer_there_is_no_ratio() {
        let mut report = sample();
        report.images[0].peers.clear();
        assert_eq!(report.images[0].best_peer("cold"), None);
        assert!(report.table().contains("within 1.3 × floor"));
    }
}
