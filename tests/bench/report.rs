//! The tables of this benchmark.

use std::{collections::BTreeMap, path::Path};

use sparks_tests::report::{HEAD, heading, print_and_store};
pub use sparks_tests::report::{Row, median};

/// Everything that was measured.
pub struct Report {
    /// Durations.
    pub rows: Vec<Row>,
    /// Resident KiB and number of processes by program.
    pub memory: BTreeMap<&'static str, (u64, usize)>,
}

impl Report {
    /// Prints the tables and writes them below `results`, under the day and the commit.
    pub fn print_and_store(&self, results: &Path) -> anyhow::Result<()> {
        Ok(print_and_store(&self.text(), results, "")?)
    }

    fn text(&self) -> String {
        let mut lines = heading();
        lines.extend(
            ["Milliseconds, from the POST (or PATCH) until an open watch shows Ready.", ""].map(String::from),
        );
        lines.extend(HEAD.map(String::from));
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
