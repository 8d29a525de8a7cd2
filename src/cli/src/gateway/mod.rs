//! The gateway: where it is, what opens it, and SSH through it.

mod address;
mod dial;
mod tunnel;

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use spark_client::Sparks;
use spark_client::access::Scope;
use sparks_api::Spark;

use crate::errors::CliError;

pub use address::Gateway;
pub use dial::{DialError, Door, dial};
pub use tunnel::Tunnel;

/// Namespace of the installation where nothing else is said.
pub const SYSTEM_NAMESPACE: &str = "sparks-system";

/// ConfigMap in the namespace of the installation, which everybody may read, and its entry with the address.
const INFO: &str = "sparks-gateway";
const INFO_URL: &str = "url";

/// Which gateway.
#[derive(Clone, Debug, Args)]
pub struct GatewayArgs {
    /// Address of the gateway, such as https://sparks.example.com [default: what the installation says]
    #[arg(long, global = true, value_name = "URL", env = "SPARKS_GATEWAY_URL")]
    pub gateway_url: Option<Gateway>,
    /// Namespace of the installation
    #[arg(
        long,
        global = true,
        value_name = "NS",
        env = "SPARKS_SYSTEM_NAMESPACE",
        default_value = SYSTEM_NAMESPACE
    )]
    pub system_namespace: String,
}

impl GatewayArgs {
    /// The gateway that was named, or else the installation's own.
    pub async fn find(&self, sparks: &Sparks) -> Result<Gateway, CliError> {
        match &self.gateway_url {
            Some(gateway) => Ok(gateway.clone()),
            None => self.installed(sparks).await,
        }
    }

    /// Where a Spark's connections go. Behind an IP address a Spark has the name that the installation gives it.
    pub async fn door(&self, sparks: &Sparks, name: &str) -> Result<Door, CliError> {
        let namespace = sparks.namespace();
        match &self.gateway_url {
            Some(gateway) if gateway.is_ip() => {
                let host = self.installed(sparks).await?.host(name, namespace);
                Ok(Door { place: gateway.own_place(), host })
            }
            _ => {
                let gateway = self.find(sparks).await?;
                Ok(Door { place: gateway.place_of(name, namespace), host: gateway.host(name, namespace) })
            }
        }
    }

    /// What the installation says of its gateway.
    async fn installed(&self, sparks: &Sparks) -> Result<Gateway, CliError> {
        let system = &self.system_namespace;
        let api = Api::<ConfigMap>::namespaced(sparks.client().clone(), system);
        let missing = |why: String| {
            CliError::Usage(format!(
                "{why}; say where the gateway is with --gateway-url or SPARKS_GATEWAY_URL, such as https://sparks.example.com"
            ))
        };
        let info = match api.get_opt(INFO).await {
            Ok(Some(info)) => info,
            Ok(None) | Err(kube::Error::Api(_)) => {
                return Err(missing(format!(
                    "there is no ConfigMap {INFO} in namespace {system} that you may read"
                )));
            }
            Err(error) => return Err(sparks.error::<Spark>(INFO, error).into()),
        };
        let url = info.data.as_ref().and_then(|data| data.get(INFO_URL)).filter(|url| !url.is_empty());
        let url = url.ok_or_else(|| {
            missing(format!("the ConfigMap {INFO} in namespace {system} names no {INFO_URL}"))
        })?;
        url.parse().map_err(|why| missing(format!("the ConfigMap {INFO} names {url:?}: {why}")))
    }
}

/// A token that opens a Spark for so long.
pub async fn token(sparks: &Sparks, name: &str, life: Duration) -> Result<String, CliError> {
    let key = sparks.access_key().await?;
    let expires = Timestamp::now().saturating_add(life).unwrap_or(Timestamp::MAX);
    Ok(key.mint(&Scope::spark(sparks.namespace(), name), expires))
}
