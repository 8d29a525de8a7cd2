//! What the agent measures.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

/// What failed, and why in one word.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    operation: &'static str,
    reason: String,
}

/// The operations that are measured.
pub mod operation {
    /// The disks of a Volume are made.
    pub const CREATE: &str = "create";
    /// They become the root of a pod.
    pub const ATTACH: &str = "attach";
    /// A guest lets go of its root.
    pub const QUIESCE: &str = "quiesce";
    /// A guest is told what to run.
    pub const RUN: &str = "run";
    /// The limit of a disk is set.
    pub const RESIZE: &str = "resize";
    /// An image is copied into the pool.
    pub const IMPORT: &str = "import";
    /// The disks of a Volume go into the trash, or out of it for good.
    pub const TRASH: &str = "trash";
    /// The status is written.
    pub const STATUS: &str = "status";
    /// From the sight of a change to the written status.
    pub const TOTAL: &str = "total";
    /// An object can't be read.
    pub const WATCH: &str = "watch";
}

/// All metrics; clones share them.
#[derive(Clone)]
pub struct Metrics {
    /// Size of the pool.
    pub pool_size: Gauge,
    /// What is free in it.
    pub pool_free: Gauge,
    /// Pods that stand in a Volume.
    pub attached: Gauge,
    /// Open connections to guests.
    pub guest_connections: Gauge,
    /// Subvolumes that no Volume named and that went into the trash.
    pub orphans: Counter,
    latency: Family<Operation, Histogram, fn() -> Histogram>,
    failures: Family<Failure, Counter>,
}

impl Metrics {
    /// Makes them known to the registry.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("sparks_node");
        let metrics = Self {
            pool_size: Gauge::default(),
            pool_free: Gauge::default(),
            attached: Gauge::default(),
            guest_connections: Gauge::default(),
            orphans: Counter::default(),
            latency: Family::new_with_constructor(sparks_ops::latency::histogram),
            failures: Family::default(),
        };
        let bytes = || Unit::Bytes;
        registry.register_with_unit("pool_size", "Size of the pool", bytes(), metrics.pool_size.clone());
        registry.register_with_unit(
            "pool_free",
            "Free bytes in the pool",
            bytes(),
            metrics.pool_free.clone(),
        );
        registry.register("attached_pods", "Pods that stand in a Volume", metrics.attached.clone());
        registry.register(
            "guest_connections",
            "Open connections to guests",
            metrics.guest_connections.clone(),
        );
        registry.register(
            "orphans",
            "Disks without a Volume that went into the trash",
            metrics.orphans.clone(),
        );
        let help = "Time that operations took";
        registry.register_with_unit("operation_duration", help, Unit::Seconds, metrics.latency.clone());
        registry.register("operation_failures", "Operations that failed", metrics.failures.clone());
        metrics
    }

    /// Notes how long an operation took.
    pub fn took(&self, operation: &'static str, time: std::time::Duration) {
        self.latency.get_or_create(&Operation { operation }).observe(time.as_secs_f64());
    }

    /// Notes that an operation failed.
    pub fn failed(&self, operation: &'static str, reason: impl AsRef<str>) {
        let reason = reason.as_ref().to_owned();
        self.failures.get_or_create(&Failure { operation, reason }).inc();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_metrics_carry_the_agents_prefix() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.took(operation::ATTACH, std::time::Duration::from_micros(350));
        metrics.failed(operation::CREATE, "PoolFull");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains(r#"sparks_node_operation_duration_seconds_count{operation="attach"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"sparks_node_operation_failures_total{operation="create",reason="PoolFull"} 1"#),
            "{text}"
        );
    }
}
