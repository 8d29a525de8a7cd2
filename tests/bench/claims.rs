//! What forks are compared with: kubernetes-sigs/agent-sandbox, whose claim takes a warm pod that has no data.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, CustomResource,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    contender::Contender,
    watched::Watched,
    world::{self, CLAIMS_NAMESPACE},
};

const GROUP: &str = "extensions.agents.x-k8s.io";

/// The part of a SandboxClaim that is needed here.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize)]
#[kube(
    group = "extensions.agents.x-k8s.io",
    version = "v1beta1",
    kind = "SandboxClaim",
    namespaced,
    status = "SandboxClaimStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct SandboxClaimSpec {
    warm_pool_ref: WarmPoolRef,
}

/// The pool that a claim takes its pod from.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct WarmPoolRef {
    name: String,
}

/// What became of a claim.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct SandboxClaimStatus {
    #[serde(default)]
    conditions: Vec<Condition>,
}

/// A pool, and a watch of the claims.
pub struct Claims {
    client: Client,
    claims: Watched<SandboxClaim>,
}

fn is_ready(claim: &SandboxClaim) -> bool {
    let conditions = claim.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

impl Claims {
    /// Makes an empty pool of pods of this image.
    pub async fn prepare(client: Client, image: &str) -> anyhow::Result<Self> {
        let claims = Watched::open(Api::namespaced(client.clone(), CLAIMS_NAMESPACE)).await;
        let container = json!({"name": "sandbox", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "infinity"]});
        let pod = json!({"terminationGracePeriodSeconds": 0, "containers": [container]});
        let this = Self { client, claims };
        this.create("SandboxTemplate", json!({"podTemplate": {"spec": pod}})).await?;
        let pool = json!({"replicas": 0, "sandboxTemplateRef": {"name": "warm"}});
        this.create("SandboxWarmPool", pool).await?;
        Ok(this)
    }

    /// From now on what was taken from the pool is replaced after a pause and not at once.
    pub async fn replace_later(&self) -> anyhow::Result<()> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), "agent-sandbox-system");
        let argument = json!("--sandbox-warm-pool-replenish-delay=30s");
        let patch =
            json!([{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": argument}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch)?);
        let patched = api.patch("agent-sandbox-controller", &PatchParams::default(), &patch).await?;
        let rolled_out = |deployment: &Deployment| {
            let status = deployment.status.as_ref();
            status.is_some_and(|s| {
                s.observed_generation >= patched.metadata.generation
                    && (s.updated_replicas, s.replicas, s.available_replicas) == (Some(1), Some(1), Some(1))
            })
        };
        while !rolled_out(&api.get("agent-sandbox-controller").await?) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    async fn create(&self, kind: &str, spec: Value) -> anyhow::Result<()> {
        let (api, kind) = self.objects(kind);
        let object = DynamicObject::new("warm", &kind).data(json!({"spec": spec}));
        api.create(&PostParams::default(), &object).await?;
        Ok(())
    }

    fn objects(&self, kind: &str) -> (Api<DynamicObject>, ApiResource) {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1beta1", kind));
        (Api::namespaced_with(self.client.clone(), CLAIMS_NAMESPACE, &kind), kind)
    }

    fn api(&self) -> Api<SandboxClaim> {
        Api::namespaced(self.client.clone(), CLAIMS_NAMESPACE)
    }
}

impl Contender for Claims {
    const PROGRAMS: &[(&str, &str)] = &[("agent-sandbox-c", "controller")];

    async fn resize(&self, size: usize) -> anyhow::Result<()> {
        let (api, _) = self.objects("SandboxWarmPool");
        let patch = Patch::Merge(json!({"spec": {"replicas": size}}));
        api.patch("warm", &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn is_full(&self, size: usize) -> anyhow::Result<bool> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), CLAIMS_NAMESPACE);
        let pods = api.list(&Default::default()).await?.items;
        let pool = self.objects("SandboxWarmPool").0.get("warm").await?;
        let ready = pool.data["status"]["readyReplicas"].as_u64().unwrap_or_default();
        Ok(usize::try_from(ready)? == size && pods.iter().all(world::pod_is_ready))
    }

    async fn start(&self, name: &str) -> anyhow::Result<Duration> {
        let spec = SandboxClaimSpec { warm_pool_ref: WarmPoolRef { name: "warm".into() } };
        let start = Instant::now();
        self.api().create(&PostParams::default(), &SandboxClaim::new(name, spec)).await?;
        let (at, _) = self.claims.until(name, is_ready).await?;
        Ok(at - start)
    }

    async fn delete(&self, names: &[String]) -> anyhow::Result<()> {
        for name in names {
            self.api().delete(name, &DeleteParams::default()).await?;
        }
        for name in names {
            self.claims.until_gone(name).await?;
        }
        Ok(())
    }
}
