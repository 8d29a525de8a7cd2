//! The chain: each recording's last line has the hash of the one before it, and the Spark's status has the hash of the
//! last one, so none can be changed or taken away unnoticed.

use std::time::Duration;

use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use sparks_api::{RecordingsStatus, Spark};

use super::{RecordError, file::Ended};

/// So many times the head is taken up anew when another session ended at the same time, or the API server failed.
const ATTEMPTS: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MANAGER: &str = "sparks-gateway";

/// Appends recordings to the chains in the Sparks' status.
#[derive(Clone)]
pub struct Chain {
    client: Client,
}

impl Chain {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Writes the last line, the head of the chain, and then the recording's final name. After a crash at any step it
    /// can be done again.
    pub async fn close(&self, mut ended: Ended) -> Result<(), RecordError> {
        let origin = &ended.header.sparks;
        let api: Api<Spark> = Api::namespaced(self.client.clone(), &origin.namespace);
        let (name, uid) = (origin.spark.clone(), origin.uid.clone());
        let mut pause = FIRST_PAUSE;
        for _ in 0..ATTEMPTS {
            match append(&api, &name, &uid, &mut ended).await {
                Ok(()) => return ended.publish().await,
                Err(AppendError::Record(error)) => return Err(error),
                Err(AppendError::Api(error)) => {
                    tracing::debug!(%error, spark = %name, "the head of the recordings is tried again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        Err(RecordError::Io(std::io::Error::other(
            "the head of the chain could not be written to the Spark's status",
        )))
    }
}

#[derive(Debug, thiserror::Error)]
enum AppendError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Api(#[from] kube::Error),
}

async fn append(api: &Api<Spark>, name: &str, uid: &str, ended: &mut Ended) -> Result<(), AppendError> {
    let spark = api.get_opt(name).await?.filter(|spark| spark.uid().as_deref() == Some(uid));
    let Some(spark) = spark else {
        // The Spark is gone, and the head with it; the recording is kept as long as any other.
        ended.write_trailer(String::new()).await?;
        return Ok(());
    };
    let old = spark.status.as_ref().and_then(|status| status.recordings.clone()).unwrap_or_default();
    if old.last == ended.id() && ended.is(&old.head) {
        return Ok(());
    }
    let new = RecordingsStatus {
        count: old.count + 1,
        head: ended.write_trailer(old.head).await?,
        last: ended.id(),
        at: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now())),
    };
    let patch =
        json!({"metadata": {"resourceVersion": spark.resource_version()}, "status": {"recordings": new}});
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..Default::default() };
    api.patch_status(name, &params, &Patch::Merge(&patch)).await?;
    Ok(())
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
