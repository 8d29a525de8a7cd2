//! Metrics of the HTTP server.

use http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What is counted. Names of Sparks are no labels: there is no bound on them.
#[derive(Clone, Default)]
pub struct Metrics {
    requests: Family<Class, Counter>,
    failures: Family<Reason, Counter>,
    refused: Counter,
    /// Connections of clients now, those that changed to another protocol included.
    pub(super) connections: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Class {
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("sparks_gateway_http");
        registry.register("requests", "Answers by class of status", metrics.requests.clone());
        registry.register("failures", "Answers of the gateway's own, by reason", metrics.failures.clone());
        registry.register("connections", "Connections of clients", metrics.connections.clone());
        registry.register(
            "refused_connections",
            "Connections closed because their source has too many",
            metrics.refused.clone(),
        );
        metrics
    }

    pub(super) fn answered(&self, status: StatusCode) {
        let class = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&Class { class }).inc();
    }

    pub(super) fn failed(&self, reason: &'static str) {
        self.failures.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }
}
