//! Metrics of the controller.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use sparks_ops::latency;

/// Labels: the kind that was reconciled.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Kind {
    /// `Spark`, `Checkpoint`, `SparkPool` or `Volume`.
    pub kind: &'static str,
}

/// Labels: how a Spark was started.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct StartKind {
    /// `warm` or `cold`.
    pub pod: &'static str,
}

/// Metrics of the controller.
#[derive(Clone)]
pub struct Metrics {
    /// How long a pass takes.
    pub reconcile: Family<Kind, Histogram, fn() -> Histogram>,
    /// Passes that failed.
    pub errors: Family<Kind, Counter>,
    /// From the first sight of the wish until Ready.
    pub start: Family<StartKind, Histogram, fn() -> Histogram>,
    /// Claims of a warm pod that another write won.
    pub lost_races: Counter,
}

impl Metrics {
    /// Registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconcile: Family::new_with_constructor(latency::histogram as fn() -> Histogram),
            errors: Family::default(),
            start: Family::new_with_constructor(latency::histogram as fn() -> Histogram),
            lost_races: Counter::default(),
        };
        let sub = registry.sub_registry_with_prefix("sparks_controller");
        sub.register("reconcile_duration_seconds", "Time of one reconcile pass", metrics.reconcile.clone());
        sub.register("reconcile_errors", "Reconcile passes that failed", metrics.errors.clone());
        sub.register(
            "start_duration_seconds",
            "Time from the wish until a Spark is Ready",
            metrics.start.clone(),
        );
        sub.register("lost_races", "Claims of a warm pod that another write won", metrics.lost_races.clone());
        metrics
    }
}
