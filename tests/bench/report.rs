//! The tables of this benchmark.

use std::{collections::BTreeMap, path::Path};

use sparks_tests::report::{HEAD, Row, heading, median, percentile, print_and_store};

use crate::{
    processor::Processor,
    siblings::Siblings,
    turns::{Bursts, Turns},
};

/// Everything that was measured, of what was asked for.
#[derive(Default)]
pub struct Report {
    /// One after the other.
    pub turns: Option<Turns>,
    /// At once.
    pub bursts: Option<Bursts>,
    /// Processor time.
    pub processor: Option<Processor>,
    /// With many other forks of the source.
    pub siblings: Option<Siblings>,
    /// Wakes of a stopped Spark.
    pub wakes: Option<Vec<std::time::Duration>>,
    /// Forks without a pool.
    pub cold: Option<Vec<std::time::Duration>>,
    /// Resident KiB and number of processes by program.
    pub memory: BTreeMap<&'static str, (u64, usize)>,
}

/// A number that is to be small.
struct Bar {
    what: String,
    value: f64,
    most: f64,
}

impl Report {
    /// Prints the tables and writes them below `results`, under the day and the commit.
    pub fn print_and_store(&self, results: &Path) -> anyhow::Result<()> {
        Ok(print_and_store(&self.text(), results, "")?)
    }

    fn text(&self) -> String {
        let mut lines = heading();
        let units = "Milliseconds, from the POST (or PATCH) until an open watch shows Ready. A claim is one of agent-sandbox, for a warm pod without data.";
        lines.extend([units, ""].map(String::from));
        lines.extend(HEAD.map(String::from));
        lines.extend(self.rows().iter().map(Row::line));
        lines.extend(self.bars_table());
        lines.extend(self.processor.iter().flat_map(processor_table));
        lines.extend(["", "| resident memory | MiB | processes |", "|---|---|---|"].map(String::from));
        let memory = self
            .memory
            .iter()
            .map(|(what, (kib, count))| format!("| {what} | {:.1} | {count} |", *kib as f64 / 1024.0));
        lines.extend(memory);
        lines.join("\n") + "\n"
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        if let Some(turns) = &self.turns {
            let times =
                format!("{:.0} times faster than the plain pod", median(&turns.pods) / median(&turns.forks));
            rows.extend([
                Row::new("plain pod, POST to Ready", &turns.pods),
                Row::new("claim, POST to Ready, warm", &turns.claims),
                Row::new("fork, POST to Ready, warm", &turns.forks).note(times),
                Row::new("  of it: the controller's claim", &turns.steps.claim),
                Row::new("  of it: the snapshot", &turns.steps.snapshot),
                Row::new("  of it: attach and pivot", &turns.steps.attach),
            ]);
        }
        if let Some(bursts) = &self.bursts {
            let size = bursts.size;
            rows.extend([
                Row::new(&format!("{size} claims at once, each"), &bursts.claims),
                Row::new(&format!("{size} forks at once, each"), &bursts.forks),
                Row::new(&format!("{size} claims at once, all"), &bursts.all_claims),
                Row::new(&format!("{size} forks at once, all"), &bursts.all_forks),
            ]);
        }
        if let Some(siblings) = &self.siblings {
            let (count, cost) = (siblings.made.len(), siblings.api_server);
            rows.extend([
                Row::new("stopped fork, ten a second, POST to Stopped", &siblings.made)
                    .note(format!("{cost:.1} ms of processor of the API server each")),
                Row::new("fork without these", &siblings.without),
                Row::new(&format!("fork with these {count}"), &siblings.with),
            ]);
        }
        rows.extend(self.wakes.as_ref().map(|wakes| Row::new("wake of a stopped Spark, warm", wakes)));
        rows.extend(self.cold.as_ref().map(|cold| Row::new("fork without a warm pod", cold)));
        rows.retain(|row| !row.is_empty());
        rows
    }

    fn bars(&self) -> Vec<Bar> {
        let mut bars = Vec::new();
        let mut bar = |what: &str, value: f64, most| bars.push(Bar { what: what.into(), value, most });
        if let Some(turns) = self.turns.as_ref().filter(|turns| !turns.claims.is_empty()) {
            let ratio = |percent| percentile(&turns.forks, percent) / percentile(&turns.claims, percent);
            bar("fork to claim, p50", ratio(50), 0.8);
            bar("fork to claim, p99", ratio(99), 1.0);
        }
        if let Some(bursts) = self.bursts.as_ref().filter(|bursts| !bursts.claims.is_empty()) {
            let ratio = median(&bursts.forks) / median(&bursts.claims);
            bar(&format!("fork to claim, {} at once, p50 of each", bursts.size), ratio, 0.35);
        }
        if let Some(processor) = &self.processor {
            bar("processor time of a fork, ms", processor.fork.total(), 45.0);
        }
        if let Some(siblings) = &self.siblings {
            let ratio = median(&siblings.with) / median(&siblings.without);
            bar(&format!("fork with {} siblings to one without, p50", siblings.made.len()), ratio, 1.15);
        }
        bars
    }

    fn bars_table(&self) -> Vec<String> {
        let bars = self.bars();
        if bars.is_empty() {
            return Vec::new();
        }
        let head = ["", "| what is wanted | measured | at most | |", "|---|---|---|---|"].map(String::from);
        head.into_iter().chain(bars.iter().map(Bar::line)).collect()
    }
}

impl Bar {
    fn line(&self) -> String {
        let word = if self.value <= self.most { "" } else { "missed" };
        format!("| {} | {:.2} | {} | {word} |", self.what, self.value, self.most)
    }
}

fn processor_table(processor: &Processor) -> Vec<String> {
    let nothing = Default::default();
    let claim = processor.claim.as_ref().unwrap_or(&nothing);
    let mut lines =
        ["", "| processor time of one, ms | fork | claim |", "|---|---|---|"].map(String::from).to_vec();
    for (part, ms) in &processor.fork.0 {
        lines.push(format!("| {part} | {ms:.1} | {:.1} |", claim.0.get(part).copied().unwrap_or_default()));
    }
    lines.push(format!("| all together | {:.1} | {:.1} |", processor.fork.total(), claim.total()));
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn turns(forks: u64, claims: u64) -> Report {
        let series = |ms| vec![Duration::from_millis(ms); 3];
        let turns = Turns { forks: series(forks), claims: series(claims), ..Default::default() };
        Report { turns: Some(turns), ..Default::default() }
    }

    #[test]
    fn a_bar_that_is_missed_says_so() {
        assert!(turns(80, 100).bars_table().iter().all(|line| !line.contains("missed")));
        let missed = turns(81, 100).bars_table();
        assert!(missed[3].contains("p50 | 0.81 | 0.8 | missed"), "{missed:?}");
        assert!(!missed[4].contains("missed"), "{missed:?}");
    }

    #[test]
    fn what_was_not_measured_has_no_row() {
        assert!(Report::default().rows().is_empty() && Report::default().bars_table().is_empty());
        assert_eq!(turns(80, 100).rows().len(), 2);
    }
}
