//! Forks of a Spark with data.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sparks_api::{Spark, SparkPhase, SparkPool, SparkStatus};

use crate::{
    contender::Contender,
    watched::Watched,
    world::{self, COLD_NAMESPACE, NAMESPACE},
};

/// A Spark to fork, a pool, and a watch.
pub struct Forks {
    client: Client,
    sparks: Watched<Spark>,
    steps: Mutex<Steps>,
}

/// Durations of the steps of forks, as their status has them.
#[derive(Clone, Default)]
pub struct Steps {
    /// Until pod and Volume were written.
    pub claim: Vec<Duration>,
    /// Making the disks.
    pub snapshot: Vec<Duration>,
    /// Attach and pivot.
    pub attach: Vec<Duration>,
}

/// Whether a Spark is ready.
pub fn is_up(spark: &Spark) -> bool {
    spark.status.as_ref().is_some_and(SparkStatus::is_up)
}

fn is_stopped(spark: &Spark) -> bool {
    spark.status.as_ref().is_some_and(|status| status.phase == SparkPhase::Stopped)
}

fn fork_of_source() -> Value {
    json!({"from": {"spark": "source"}, "service": {"command": ["sleep", "infinity"]}})
}

impl Forks {
    /// Makes a Spark with 256 MiB of data, and an empty pool.
    pub async fn prepare(client: Client, image: &str) -> anyhow::Result<Self> {
        let sparks = Watched::open(Api::namespaced(client.clone(), NAMESPACE)).await;
        let forks = Self { client, sparks, steps: Mutex::default() };
        let command = ["sh", "-c", "test -f /data || head -c 256M /dev/urandom > /data; exec sleep infinity"];
        let spec = json!({"image": image, "service": {"command": command}, "forkPolicy": {"namespaces": [COLD_NAMESPACE]}});
        forks.post("source", spec).await?;
        forks.sparks.until("source", is_up).await?;
        let spec = json!({"apiVersion": "sparks.loop.work/v1alpha1", "kind": "SparkPool", "metadata": {"name": "warm"}, "spec": {"size": 1}});
        forks.pools().create(&PostParams::default(), &serde_json::from_value(spec)?).await?;
        // The source has written its data by then.
        forks.fill(1).await?;
        Ok(forks)
    }

    /// The steps of the forks since the last time that this was asked.
    pub fn take_steps(&self) -> Steps {
        std::mem::take(&mut *self.steps.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From the PATCH that wants a stopped Spark to run until it is Ready.
    pub async fn wakes(&self, count: usize) -> anyhow::Result<Vec<Duration>> {
        self.fill(2).await?;
        self.start("sleeper").await?;
        let mut measured = Vec::new();
        for _ in 0..count {
            self.set_running("sleeper", false).await?;
            self.sparks.until("sleeper", is_stopped).await?;
            self.fill(2).await?;
            let start = Instant::now();
            self.set_running("sleeper", true).await?;
            let (at, _) = self.sparks.until("sleeper", is_up).await?;
            measured.push(at - start);
        }
        self.delete(&["sleeper".into()]).await?;
        Ok(measured)
    }

    /// Forks without ever starting it, until its status says so.
    pub async fn fork_stopped(&self, name: &str) -> anyhow::Result<Duration> {
        let mut spec = fork_of_source();
        spec["lifecycle"] = json!({"running": false});
        let start = Instant::now();
        self.post(name, spec).await?;
        let (at, _) = self.sparks.until(name, is_stopped).await?;
        Ok(at - start)
    }

    async fn post(&self, name: &str, spec: Value) -> anyhow::Result<()> {
        world::post_spark(&self.client, NAMESPACE, name, spec).await
    }

    async fn set_running(&self, name: &str, running: bool) -> anyhow::Result<()> {
        let api: Api<Spark> = Api::namespaced(self.client.clone(), NAMESPACE);
        let patch = json!({"spec": {"lifecycle": {"running": running}}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    fn pools(&self) -> Api<SparkPool> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

impl Contender for Forks {
    const PROGRAMS: &[(&str, &str)] =
        &[("sparks-controll", "controller"), ("sparks-node", "node agent"), ("sparks-gateway", "gateway")];

    async fn resize(&self, size: usize) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"spec": {"size": size}}));
        self.pools().patch("warm", &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// The pods themselves are asked, because the pool's status waits for the end of a burst.
    async fn is_full(&self, size: usize) -> anyhow::Result<bool> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let pods = api.list(&Default::default()).await?.items;
        let is_warm =
            |pod: &&Pod| pod.labels().contains_key("sparks.loop.work/pool") && world::pod_is_ready(pod);
        Ok(pods.iter().all(world::pod_is_ready) && pods.iter().filter(is_warm).count() == size)
    }

    async fn start(&self, name: &str) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.post(name, fork_of_source()).await?;
        let (at, spark) = self.sparks.until(name, is_up).await?;
        let timings = spark.status.and_then(|status| status.timings).unwrap_or_default();
        anyhow::ensure!(timings.warm, "{name} found no warm pod");
        let micros = |micros: Option<i64>| Duration::from_micros(micros.unwrap_or_default().unsigned_abs());
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.claim.push(micros(timings.claim_micros));
        steps.snapshot.push(micros(timings.snapshot_micros));
        steps.attach.push(micros(timings.attach_micros));
        Ok(at - start)
    }

    async fn delete(&self, names: &[String]) -> anyhow::Result<()> {
        let api: Api<Spark> = Api::namespaced(self.client.clone(), NAMESPACE);
        for name in names {
            api.delete(name, &DeleteParams::default()).await?;
        }
        for name in names {
            self.sparks.until_gone(name).await?;
        }
        Ok(())
    }
}
