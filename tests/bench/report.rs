//! Tables for people and for the record.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

/// One row: the order statistics of one series.
pub struct Row {
    what: String,
    sorted: Vec<Duration>,
    note: String,
}

/// Everything that was measured.
pub struct Report {
    /// Durations.
    pub rows: Vec<Row>,
    /// Resident KiB and number of processes by program.
    pub memory: BTreeMap<&'static str, (u64, usize)>,
}

/// The median in milliseconds.
pub fn median(series: &[Duration]) -> f64 {
    let mut sorted = series.to_vec();
    sorted.sort();
    percentile(&sorted, 50)
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1e3)
}

impl Row {
    /// A row of this series.
    pub fn new(what: &str, series: &[Duration]) -> Self {
        let mut sorted = series.to_vec();
        sorted.sort();
        Self { what: what.into(), sorted, note: String::new() }
    }

    /// With a remark behind it.
    pub fn note(mut self, note: String) -> Self {
        self.note = note;
        self
    }

    fn line(&self) -> String {
        let at = |percent| percentile(&self.sorted, percent);
        let (n, what, note) = (self.sorted.len(), &self.what, &self.note);
        format!("| {what} | {n} | {:.1} | {:.1} | {:.1} | {:.1} | {note} |", at(0), at(50), at(99), at(100))
    }
}

impl Report {
    /// Prints the tables and writes them below `results`, under the day and the commit.
    pub fn print_and_store(&self, results: &Path) -> anyhow::Result<()> {
        let (text, commit) = (self.text(), said("git", &["rev-parse", "--short", "HEAD"]));
        print!("{text}");
        std::fs::create_dir_all(results)?;
        let path = results.join(format!("{}-{commit}.md", jiff::Timestamp::now().strftime("%Y-%m-%d")));
        std::fs::write(&path, text)?;
        println!("stored in {}", path.display());
        Ok(())
    }

    fn text(&self) -> String {
        let mut lines = vec![
            format!("# Measured at {}", said("git", &["describe", "--always", "--dirty"])),
            String::new(),
            format!(
                "{}; Kubernetes {}",
                machine(),
                said(
                    "kubectl",
                    &["get", "nodes", "-o", "jsonpath={.items[0].status.nodeInfo.kubeletVersion}"]
                )
            ),
            String::new(),
            "Milliseconds, from the POST (or PATCH) until an open watch shows Ready.".into(),
            String::new(),
            "| what | n | min | p50 | p99 | max | |".into(),
            "|---|---|---|---|---|---|---|".into(),
        ];
        lines.extend(self.rows.iter().map(Row::line));
        lines.extend(["", "| resident memory | MiB | processes |", "|---|---|---|"].map(String::from));
        #[allow(clippy::cast_precision_loss)]
        let memory = self
            .memory
            .iter()
            .map(|(what, (kib, count))| format!("| {what} | {:.1} | {count} |", *kib as f64 / 1024.0));
        lines.extend(memory);
        lines.join("\n") + "\n"
    }
}

fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory =
        info.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() >> 20;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cpus} CPUs, {memory} GiB, Linux {}", kernel.trim().split('-').next().unwrap_or_default())
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}
