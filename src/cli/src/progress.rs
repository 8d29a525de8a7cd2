//! The line that tells what is being waited for.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One line with a spinner on standard error; nothing when that is no terminal.
#[derive(Clone)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A line that names steps.
    pub fn new(quiet: bool) -> Self {
        Self::with_template(quiet, "{spinner} {msg}")
    }

    /// A line that counts bytes.
    pub fn of_bytes(quiet: bool, what: &str) -> Self {
        let progress = Self::with_template(quiet, "{spinner} {msg} {binary_bytes} ({binary_bytes_per_sec})");
        progress.0.set_message(what.to_owned());
        progress
    }

    fn with_template(quiet: bool, template: &str) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(80));
        Self(bar)
    }

    /// Names the step.
    pub fn step(&self, text: &str) {
        self.0.set_message(format!("{}…", crate::human::printable(text)));
    }

    /// Counts bytes.
    pub fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// How many bytes were counted.
    pub fn bytes(&self) -> u64 {
        self.0.position()
    }

    /// Removes the line.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}
