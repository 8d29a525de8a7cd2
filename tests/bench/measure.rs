//! What is measured.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use sparks_api::{Spark, SparkPool, SparkStatus};

use crate::watched::Watched;

const NAMESPACE: &str = "sparks-bench";
/// Warm pods after the forks in a row.
const AFTERWARDS: usize = 30;
/// Has no pool.
const COLD_NAMESPACE: &str = "sparks-bench-cold";

/// A cluster with a Spark to fork, a full pool, and watches.
pub struct Bench {
    client: Client,
    sparks: Watched<Spark>,
    cold_sparks: Watched<Spark>,
    pods: Watched<Pod>,
    pools: Watched<SparkPool>,
}

/// Durations of forks and of their steps, as the Sparks' status has them.
#[derive(Default)]
pub struct Forks {
    /// As the watch showed it.
    pub total: Vec<Duration>,
    /// Until pod and Volume were written.
    pub claim: Vec<Duration>,
    /// Making the disks.
    pub snapshot: Vec<Duration>,
    /// Attach and pivot.
    pub attach: Vec<Duration>,
}

/// Durations of a burst.
pub struct Burst {
    /// Each fork's.
    pub each: Vec<Duration>,
    /// Until the last one was ready.
    pub all: Vec<Duration>,
}

fn is_up(spark: &Spark) -> bool {
    spark.status.as_ref().is_some_and(SparkStatus::is_up)
}

fn pod_is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

impl Bench {
    /// Makes the namespaces, the pool and a Spark with 256 MiB of data.
    pub async fn prepare(client: Client, image: &str, pool: usize) -> anyhow::Result<Self> {
        for namespace in [NAMESPACE, COLD_NAMESPACE] {
            make_namespace(&client, namespace).await?;
        }
        let api: Api<Spark> = Api::namespaced(client.clone(), NAMESPACE);
        let bench = Self {
            sparks: Watched::open(api.clone()).await,
            cold_sparks: Watched::open(Api::namespaced(client.clone(), COLD_NAMESPACE)).await,
            pods: Watched::open(Api::namespaced(client.clone(), COLD_NAMESPACE)).await,
            pools: Watched::open(Api::namespaced(client.clone(), NAMESPACE)).await,
            client,
        };
        let command = ["sh", "-c", "test -f /data || head -c 256M /dev/urandom > /data; exec sleep infinity"];
        let spec = json!({"image": image, "service": {"command": command}, "forkPolicy": {"namespaces": [COLD_NAMESPACE]}});
        bench.post(NAMESPACE, "source", &spec).await?;
        bench.sparks.until("source", is_up).await?;
        let pools: Api<SparkPool> = Api::namespaced(bench.client.clone(), NAMESPACE);
        let spec = json!({"apiVersion": "sparks.loop.work/v1alpha1", "kind": "SparkPool", "metadata": {"name": "warm"}, "spec": {"size": pool}});
        pools.create(&PostParams::default(), &serde_json::from_value(spec)?).await?;
        // The source has written its data by then.
        bench.full_pool().await?;
        Ok(bench)
    }

    /// Deletes the namespaces.
    pub async fn clean_up(&self) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for namespace in [NAMESPACE, COLD_NAMESPACE] {
            namespaces.delete(namespace, &DeleteParams::default()).await?;
        }
        Ok(())
    }

    /// Forks one after the other, with plain pods before and behind them.
    pub async fn forks_and_pods(&self, forks: usize, pods: usize) -> anyhow::Result<(Forks, Vec<Duration>)> {
        let (mut measured, mut plain) = (Forks::default(), Vec::new());
        for i in 0..pods / 2 {
            plain.push(self.plain_pod(&format!("before-{i}")).await?);
        }
        self.full_pool().await?;
        let names: Vec<_> = (0..forks).map(|i| format!("fork-{i}")).collect();
        for name in &names {
            self.fork(name, &mut measured).await?;
        }
        // What comes needs fewer warm pods.
        self.resize_pool(AFTERWARDS).await?;
        self.delete(names).await?;
        self.full_pool().await?;
        for i in pods / 2..pods {
            plain.push(self.plain_pod(&format!("behind-{i}")).await?);
        }
        Ok((measured, plain))
    }

    async fn fork(&self, name: &str, measured: &mut Forks) -> anyhow::Result<()> {
        let start = Instant::now();
        self.post(
            NAMESPACE,
            name,
            &json!({"from": {"spark": "source"}, "service": {"command": ["sleep", "infinity"]}}),
        )
        .await?;
        let (at, spark) = self.sparks.until(name, is_up).await?;
        measured.total.push(at - start);
        let timings = spark.status.and_then(|status| status.timings).unwrap_or_default();
        anyhow::ensure!(timings.warm, "{name} found no warm pod");
        let micros = |micros: Option<i64>| Duration::from_micros(micros.unwrap_or_default().unsigned_abs());
        measured.claim.push(micros(timings.claim_micros));
        measured.snapshot.push(micros(timings.snapshot_micros));
        measured.attach.push(micros(timings.attach_micros));
        Ok(())
    }

    /// An ordinary pod of the image that all pods of Sparks have, on the same node.
    async fn plain_pod(&self, name: &str) -> anyhow::Result<Duration> {
        let pool_pod = self.any_pool_pod().await?;
        let image = pool_pod.spec.as_ref().and_then(|s| s.containers.first()).and_then(|c| c.image.clone());
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "plain", "image": image}]}
        });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), COLD_NAMESPACE);
        let start = Instant::now();
        api.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
        let (at, _) = self.pods.until(name, pod_is_ready).await?;
        api.delete(name, &DeleteParams { grace_period_seconds: Some(0), ..Default::default() }).await?;
        self.pods.until_gone(name).await?;
        Ok(at - start)
    }

    async fn any_pool_pod(&self) -> anyhow::Result<Pod> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let pods =
            api.list(&kube::api::ListParams::default().labels("sparks.loop.work/role").limit(1)).await?;
        pods.items.into_iter().next().ok_or_else(|| anyhow::anyhow!("there is no pod of a Spark"))
    }

    /// From the PATCH that wants a stopped Spark to run until it is Ready.
    pub async fn wakes(&self, count: usize) -> anyhow::Result<Vec<Duration>> {
        self.full_pool().await?;
        self.post(
            NAMESPACE,
            "sleeper",
            &json!({"from": {"spark": "source"}, "service": {"command": ["sleep", "infinity"]}}),
        )
        .await?;
        self.sparks.until("sleeper", is_up).await?;
        let mut measured = Vec::new();
        for _ in 0..count {
            self.set_running("sleeper", false).await?;
            self.sparks
                .until("sleeper", |s| {
                    s.status.as_ref().is_some_and(|s| s.phase == sparks_api::SparkPhase::Stopped)
                })
                .await?;
            self.full_pool().await?;
            let start = Instant::now();
            self.set_running("sleeper", true).await?;
            let (at, _) = self.sparks.until("sleeper", is_up).await?;
            measured.push(at - start);
        }
        self.delete(vec!["sleeper".into()]).await?;
        Ok(measured)
    }

    /// This many forks at once, three times.
    pub async fn burst(&self, count: usize) -> anyhow::Result<Burst> {
        let mut burst = Burst { each: Vec::new(), all: Vec::new() };
        for round in 0..3 {
            self.full_pool().await?;
            let names: Vec<_> = (0..count).map(|i| format!("burst-{round}-{i}")).collect();
            let start = Instant::now();
            let one = |name: String| async move {
                self.post(
                    NAMESPACE,
                    &name,
                    &json!({"from": {"spark": "source"}, "service": {"command": ["sleep", "infinity"]}}),
                )
                .await?;
                self.sparks.until(&name, is_up).await.map(|(at, _)| at - start)
            };
            let times = try_join_all(names.iter().cloned().map(one)).await?;
            burst.all.extend(times.iter().max());
            burst.each.extend(times);
            self.delete(names).await?;
        }
        Ok(burst)
    }

    /// Forks in a namespace without a pool.
    pub async fn cold(&self, count: usize) -> anyhow::Result<Vec<Duration>> {
        let mut measured = Vec::new();
        self.full_pool().await?;
        let api: Api<Spark> = Api::namespaced(self.client.clone(), COLD_NAMESPACE);
        for i in 0..count {
            let name = format!("cold-{i}");
            let spec = json!({"from": {"spark": "source", "namespace": NAMESPACE}, "service": {"command": ["sleep", "infinity"]}});
            let start = Instant::now();
            self.post(COLD_NAMESPACE, &name, &spec).await?;
            let (at, _) = self.cold_sparks.until(&name, is_up).await?;
            measured.push(at - start);
            api.delete(&name, &DeleteParams::default()).await?;
            self.cold_sparks.until_gone(&name).await?;
            self.nothing_cold().await?;
        }
        Ok(measured)
    }

    async fn resize_pool(&self, size: usize) -> anyhow::Result<()> {
        let api: Api<SparkPool> = Api::namespaced(self.client.clone(), NAMESPACE);
        api.patch("warm", &PatchParams::default(), &Patch::Merge(json!({"spec": {"size": size}}))).await?;
        Ok(())
    }

    async fn full_pool(&self) -> anyhow::Result<()> {
        let (_, pool) = self.pools.until("warm", |_| true).await?;
        let size = usize::try_from(pool.spec.size)?;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let is_warm = |pod: &&Pod| pod.labels().contains_key("sparks.loop.work/pool") && pod_is_ready(pod);
        let ends = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        // What was deleted before shall be gone, and not be measured with what comes. The pods themselves are asked,
        // because the pool's status waits for the end of a burst.
        loop {
            let pods = api.list(&Default::default()).await?.items;
            if !pods.iter().any(ends) && pods.iter().filter(is_warm).count() == size {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    }

    /// Waits until the namespace without a pool has no pods.
    async fn nothing_cold(&self) -> anyhow::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), COLD_NAMESPACE);
        while !api.list_metadata(&Default::default()).await?.items.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn post(&self, namespace: &str, name: &str, spec: &serde_json::Value) -> anyhow::Result<()> {
        let api: Api<Spark> = Api::namespaced(self.client.clone(), namespace);
        let mut spark = Spark::new(name, serde_json::from_value(spec.clone())?);
        spark.annotations_mut().insert("sparks.loop.work/bench".into(), "true".into());
        api.create(&PostParams::default(), &spark).await?;
        Ok(())
    }

    async fn set_running(&self, name: &str, running: bool) -> anyhow::Result<()> {
        let api: Api<Spark> = Api::namespaced(self.client.clone(), NAMESPACE);
        api.patch(
            name,
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"lifecycle": {"running": running}}})),
        )
        .await?;
        Ok(())
    }

    async fn delete(&self, names: Vec<String>) -> anyhow::Result<()> {
        let api: Api<Spark> = Api::namespaced(self.client.clone(), NAMESPACE);
        for name in &names {
            api.delete(name, &DeleteParams::default()).await?;
        }
        Ok(())
    }
}

async fn make_namespace(client: &Client, name: &str) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    if api.get_opt(name).await?.is_some() {
        api.delete(name, &DeleteParams::default()).await?;
        while api.get_opt(name).await?.is_some() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    api.create(&PostParams::default(), &serde_json::from_value(namespace)?).await?;
    // Pods are refused until the controller manager has made the account.
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client.clone(), name);
    while accounts.get_opt("default").await?.is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
