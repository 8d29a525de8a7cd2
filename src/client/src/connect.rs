//! Finding and opening the cluster.

use std::path::PathBuf;

use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::{Error, Result, Sparks};

/// Which cluster and namespace to use; what is empty is taken from the environment as `kubectl` does.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// Path of a kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// Name of a context in it.
    pub context: Option<String>,
    /// Namespace; the context's when empty.
    pub namespace: Option<String>,
}

impl Sparks {
    /// Connects to the cluster that `options` name.
    ///
    /// # Errors
    /// When there is no usable configuration.
    pub async fn connect(options: &ConnectOptions) -> Result<Self> {
        let choice = KubeConfigOptions { context: options.context.clone(), ..Default::default() };
        let config = match &options.kubeconfig {
            Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &choice).await?,
            None if options.context.is_some() => Config::from_kubeconfig(&choice).await?,
            None => Config::infer().await.map_err(|source| Error::NoCluster(Box::new(source)))?,
        };
        let namespace = options.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = kube::Client::try_from(config).map_err(|source| Error::Client(Box::new(source)))?;
        Ok(Self::new(client, namespace))
    }
}
