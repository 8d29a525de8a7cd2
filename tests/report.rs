//! Tables of what was measured, for people and for the record.

use std::{path::Path, process::Command, time::Duration};

/// The head of a table of [`Row`]s.
pub const HEAD: [&str; 2] = ["| what | n | min | p50 | p99 | max | |", "|---|---|---|---|---|---|---|"];

/// One row: the order statistics of one series.
pub struct Row {
    what: String,
    sorted: Vec<Duration>,
    note: String,
}

/// The median in milliseconds.
#[must_use]
pub fn median(series: &[Duration]) -> f64 {
    percentile(series, 50)
}

/// A percentile in milliseconds.
#[must_use]
pub fn percentile(series: &[Duration], percent: usize) -> f64 {
    let mut sorted = series.to_vec();
    sorted.sort();
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1e3)
}

impl Row {
    /// A row of this series.
    #[must_use]
    pub fn new(what: &str, series: &[Duration]) -> Self {
        let mut sorted = series.to_vec();
        sorted.sort();
        Self { what: what.into(), sorted, note: String::new() }
    }

    /// With a remark behind it.
    #[must_use]
    pub fn note(mut self, note: String) -> Self {
        self.note = note;
        self
    }

    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// As a line of a table, in milliseconds.
    #[must_use]
    pub fn line(&self) -> String {
        let at = |percent| percentile(&self.sorted, percent);
        let (n, what, note) = (self.sorted.len(), &self.what, &self.note);
        format!("| {what} | {n} | {:.1} | {:.1} | {:.1} | {:.1} | {note} |", at(0), at(50), at(99), at(100))
    }
}

/// The heading: the commit, the machine, and the cluster.
#[must_use]
pub fn heading() -> Vec<String> {
    let commit = said("git", &["describe", "--always", "--dirty"]);
    let kubelet =
        said("kubectl", &["get", "nodes", "-o", "jsonpath={.items[0].status.nodeInfo.kubeletVersion}"]);
    vec![
        format!("# Measured at {commit}"),
        String::new(),
        format!("{}; Kubernetes {kubelet}", machine()),
        String::new(),
    ]
}

/// Prints the tables and writes them below `results`, under the day and the commit.
///
/// # Errors
/// When they can't be written.
pub fn print_and_store(text: &str, results: &Path, suffix: &str) -> std::io::Result<()> {
    print!("{text}");
    std::fs::create_dir_all(results)?;
    let (day, commit) =
        (jiff::Timestamp::now().strftime("%Y-%m-%d"), said("git", &["rev-parse", "--short", "HEAD"]));
    let path = results.join(format!("{day}-{commit}{suffix}.md"));
    std::fs::write(&path, text)?;
    println!("stored in {}", path.display());
    Ok(())
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
