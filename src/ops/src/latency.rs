//! Latency histograms with the buckets that all servers share.

use std::time::Instant;

use prometheus_client::metrics::histogram::Histogram;

/// Bucket bounds in seconds, from 250 µs to about 65 s, each twice the one before: an attach takes a third of a
/// millisecond, an import some seconds.
#[must_use]
pub fn histogram() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(0.000_25, 2.0, 19))
}

/// Observes the time from its making to its drop, so that early returns count too.
pub struct Timer {
    histogram: Histogram,
    started: Instant,
}

impl Timer {
    /// Starts now.
    #[must_use]
    pub fn start(histogram: &Histogram) -> Self {
        Self { histogram: histogram.clone(), started: Instant::now() }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.histogram.observe(self.started.elapsed().as_secs_f64());
    }
}
