//! Metrics of the SSH server. Labels are words of ours, never names.

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use sparks_ops::latency;

/// Labels: what became of it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Result {
    /// One word.
    pub result: &'static str,
}

/// Labels: what kind of session.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Kind {
    /// `relay`, `jump`, or `tunnel` for what comes by way of the HTTP server.
    pub kind: &'static str,
}

/// Metrics of the SSH server.
#[derive(Clone)]
pub struct Metrics {
    /// Connections: `accepted`, `full`, `cut`, and `crowded` each time that a namespace has its share.
    pub connections: Family<Result, Counter>,
    /// Attempts to authenticate: `accepted`, or why not.
    pub logins: Family<Result, Counter>,
    /// Sessions now.
    pub sessions: Family<Kind, Gauge<i64, AtomicI64>>,
    /// From the accepted login until the guest has let the gateway in, by how that ended.
    pub connect: Family<Result, Histogram, fn() -> Histogram>,
    /// The same for Sparks that had to be woken and were.
    pub wake: Histogram,
}

impl Metrics {
    /// Registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            connections: Family::default(),
            logins: Family::default(),
            sessions: Family::default(),
            connect: Family::new_with_constructor(latency::histogram as fn() -> Histogram),
            wake: latency::histogram(),
        };
        let sub = registry.sub_registry_with_prefix("sparks_gateway_ssh");
        sub.register(
            "connections",
            "SSH connections: accepted, turned away because there are too many in all (full) or to their namespace (crowded), cut before they authenticated or reached a Spark",
            metrics.connections.clone(),
        );
        sub.register("logins", "Attempts to authenticate, by result", metrics.logins.clone());
        sub.register(
            "sessions",
            "SSH connections that are relayed, those of jump hosts, and those that come by way of HTTP",
            metrics.sessions.clone(),
        );
        sub.register(
            "connect_duration_seconds",
            "Time from the accepted login until the Spark's own SSH server was reached, by result",
            metrics.connect.clone(),
        );
        sub.register(
            "wake_duration_seconds",
            "The same, of Sparks that slept or were starting",
            metrics.wake.clone(),
        );
        metrics
    }

    /// Counts an attempt to authenticate.
    pub fn login(&self, result: &'static str) {
        self.logins.get_or_create(&Result { result }).inc();
    }

    /// Counts a connection.
    pub fn connection(&self, result: &'static str) {
        self.connections.get_or_create(&Result { result }).inc();
    }

    /// Counts a session for as long as the value lives.
    #[must_use]
    pub fn session(&self, kind: &'static str) -> Session {
        let gauge = self.sessions.get_or_create(&Kind { kind }).clone();
        gauge.inc();
        Session(gauge)
    }
}

/// A session that is counted.
pub struct Session(Gauge<i64, AtomicI64>);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.dec();
    }
}
