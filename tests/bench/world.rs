//! The namespaces of a run, and what is made in them without a pool.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};
use sparks_api::Spark;

use crate::{forks::is_up, watched::Watched};

/// Has the source, the pool and the forks.
pub const NAMESPACE: &str = "sparks-bench";
/// Has no pool.
pub const COLD_NAMESPACE: &str = "sparks-bench-cold";
/// Has the claims of agent-sandbox.
pub const CLAIMS_NAMESPACE: &str = "sparks-bench-claims";

/// Whether a pod is ready and goes on.
pub fn pod_is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Makes the namespaces, empty.
pub async fn make_namespaces(client: &Client) -> anyhow::Result<()> {
    remove_namespaces(client).await?;
    let api: Api<Namespace> = Api::all(client.clone());
    for name in [NAMESPACE, COLD_NAMESPACE, CLAIMS_NAMESPACE] {
        let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        api.create(&PostParams::default(), &serde_json::from_value(namespace)?).await?;
        // Pods are refused until the controller manager has made the account.
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
        while accounts.get_opt("default").await?.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Removes the namespaces, and waits until they and all in them are gone.
pub async fn remove_namespaces(client: &Client) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    for name in [NAMESPACE, COLD_NAMESPACE, CLAIMS_NAMESPACE] {
        if api.get_opt(name).await?.is_some() {
            api.delete(name, &DeleteParams::default()).await?;
        }
    }
    for name in [NAMESPACE, COLD_NAMESPACE, CLAIMS_NAMESPACE] {
        while api.get_opt(name).await?.is_some() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

/// Makes a Spark.
pub async fn post_spark(client: &Client, namespace: &str, name: &str, spec: Value) -> anyhow::Result<()> {
    let api: Api<Spark> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &Spark::new(name, serde_json::from_value(spec)?)).await?;
    Ok(())
}

/// The namespace without a pool.
pub struct Cold {
    client: Client,
    sparks: Watched<Spark>,
    pods: Watched<Pod>,
}

impl Cold {
    /// Opens the watches.
    pub async fn open(client: Client) -> Self {
        let sparks = Watched::open(Api::namespaced(client.clone(), COLD_NAMESPACE)).await;
        let pods = Watched::open(Api::namespaced(client.clone(), COLD_NAMESPACE)).await;
        Self { client, sparks, pods }
    }

    /// Forks in a namespace without a pool.
    pub async fn forks(&self, count: usize) -> anyhow::Result<Vec<Duration>> {
        let mut measured = Vec::new();
        let api: Api<Spark> = Api::namespaced(self.client.clone(), COLD_NAMESPACE);
        for i in 0..count {
            let name = format!("cold-{i}");
            let spec = json!({"from": {"spark": "source", "namespace": NAMESPACE}, "service": {"command": ["sleep", "infinity"]}});
            let start = Instant::now();
            post_spark(&self.client, COLD_NAMESPACE, &name, spec).await?;
            let (at, _) = self.sparks.until(&name, is_up).await?;
            measured.push(at - start);
            api.delete(&name, &DeleteParams::default()).await?;
            self.sparks.until_gone(&name).await?;
            self.no_pods().await?;
        }
        Ok(measured)
    }

    /// An ordinary pod of the image that all pods of Sparks have, on the same node.
    pub async fn plain_pod(&self, name: &str) -> anyhow::Result<Duration> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "plain", "image": self.guest_image().await?}]}
        });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), COLD_NAMESPACE);
        let start = Instant::now();
        api.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
        let (at, _) = self.pods.until(name, pod_is_ready).await?;
        api.delete(name, &DeleteParams { grace_period_seconds: Some(0), ..Default::default() }).await?;
        self.pods.until_gone(name).await?;
        Ok(at - start)
    }

    async fn guest_image(&self) -> anyhow::Result<Option<String>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let pods = api.list(&ListParams::default().labels("sparks.loop.work/role").limit(1)).await?;
        let pod =
            pods.items.into_iter().next().ok_or_else(|| anyhow::anyhow!("there is no pod of a Spark"))?;
        Ok(pod.spec.and_then(|spec| spec.containers.into_iter().next()?.image))
    }

    async fn no_pods(&self) -> anyhow::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), COLD_NAMESPACE);
        while !api.list_metadata(&Default::default()).await?.items.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}
