//! Sparks without a cluster.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sparks_api::{Spark, SparkPhase, SparkSpec, SparkStatus, SshStatus};
use sparks_gateway::{
    directory::{Awake, Entry, Fingerprint, Key, Trust, WakeError, fingerprint, is_of_a_pod},
    ssh::sparks::Sparks,
};
use tokio::sync::watch;

/// Sparks without a cluster.
#[derive(Clone, Default)]
pub struct FakeSparks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    sparks: Mutex<HashMap<Key, Entry>>,
    changed: watch::Sender<()>,
    pub lookups: AtomicUsize,
    pub uses: AtomicUsize,
}

pub fn spark_key(name: &str) -> Key {
    let (name, namespace) = name.split_once('.').unwrap();
    Key::new(namespace, name)
}

impl FakeSparks {
    /// A Spark that runs.
    pub fn add(&self, name: &str, lines: &[String], ip: IpAddr, host_key: &str) {
        let key = spark_key(name);
        let mut spark = Spark::new(&key.name, SparkSpec::default());
        spark.metadata.namespace = Some(key.namespace.clone());
        let ssh = SshStatus {
            host_key: Some(host_key.into()),
            authorized_keys: lines.to_vec(),
            user: Some("dev".into()),
            ..Default::default()
        };
        spark.status = Some(SparkStatus {
            phase: SparkPhase::Running,
            pod_ip: Some(ip.to_string()),
            ssh: Some(ssh),
            ..Default::default()
        });
        self.0.sparks.lock().unwrap().insert(key, Entry::new(spark, None));
    }

    /// Changes a Spark, and tells those who wait for it.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Spark)) {
        let mut sparks = self.0.sparks.lock().unwrap();
        let entry = sparks.get_mut(&spark_key(name)).unwrap();
        let mut spark = Spark::clone(&entry.spark);
        change(&mut spark);
        *entry = Entry::new(spark, None);
        self.0.changed.send_replace(());
    }

    /// How often a Spark was looked for.
    pub fn lookups(&self) -> usize {
        self.0.lookups.load(Ordering::Relaxed)
    }

    /// How often one was to be woken, or said to be in use.
    pub fn uses(&self) -> usize {
        self.0.uses.load(Ordering::Relaxed)
    }

    pub fn fall_asleep(&self, name: &str) {
        self.change(name, |spark| {
            let status = spark.status.as_mut().unwrap();
            status.phase = SparkPhase::Sleeping;
            status.sleeping_since = Some(Time("2026-01-01T00:00:00Z".parse().unwrap()));
        });
    }

    fn any(&self, authority: bool, fits: impl Fn(&Fingerprint) -> bool) -> bool {
        let sparks = self.0.sparks.lock().unwrap();
        let mut lines = sparks.values().flat_map(|entry| entry.keys.iter());
        lines.any(|line| line.options.cert_authority == authority && fits(&fingerprint(&line.key)))
    }
}

impl Sparks for FakeSparks {
    fn entry(&self, key: &Key) -> Option<Entry> {
        self.0.lookups.fetch_add(1, Ordering::Relaxed);
        self.0.sparks.lock().unwrap().get(key).cloned()
    }

    fn trusts(&self, key: &Fingerprint) -> Trust {
        Trust { login: self.any(false, |own| own == key), authority: self.any(true, |own| own == key) }
    }

    fn up(&self, key: &Key) -> Option<Awake> {
        let spark = self.entry(key)?.spark;
        let status = spark.status.clone().filter(|status| status.phase == SparkPhase::Running)?;
        // The guests of these tests have addresses of this machine.
        let ip = status.pod_ip?.parse().ok().filter(|ip: &IpAddr| ip.is_loopback())?;
        spark.spec.lifecycle.running.then_some(Awake { spark, ip, woken: false })
    }

    async fn awake(&self, key: &Key) -> Result<Awake, WakeError> {
        self.0.uses.fetch_add(1, Ordering::Relaxed);
        let mut changed = self.0.changed.subscribe();
        let mut woken = false;
        loop {
            let entry = self.entry(key).ok_or_else(|| WakeError::Unknown { spark: key.to_string() })?;
            if !entry.spark.spec.lifecycle.running {
                return Err(WakeError::Stopped { name: key.name.clone(), namespace: key.namespace.clone() });
            }
            let status = entry.spark.status.clone().unwrap_or_default();
            if let Some(ip) = status.pod_ip.as_deref().filter(|_| status.phase != SparkPhase::Sleeping) {
                let ip: IpAddr = ip.parse().unwrap();
                // The guests of these tests have addresses of this machine.
                if !ip.is_loopback() && !is_of_a_pod(ip) {
                    return Err(WakeError::Astray { spark: key.to_string(), address: ip });
                }
                return Ok(Awake { spark: entry.spark, ip, woken });
            }
            woken = true;
            changed.changed().await.unwrap();
        }
    }

    fn active(&self, _: &Key) {
        self.0.uses.fetch_add(1, Ordering::Relaxed);
    }
}
