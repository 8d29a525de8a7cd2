//! Errors, each with a sentence that a person can act on.

use std::time::Duration;

use kube::client::UpgradeConnectionError;
use kube::core::Status;

use crate::message::plain;

/// Result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object does not exist.
    #[error("{kind} \"{name}\" not found in namespace \"{namespace}\"")]
    NotFound {
        /// What it is.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// The namespace does not exist.
    #[error("namespace \"{0}\" not found; create it with `kubectl create namespace {0}`")]
    NamespaceNotFound(String),
    /// The cluster doesn't know the kinds of Sparks.
    #[error(
        "Sparks is not installed in this cluster; install it with its Helm chart, or check which cluster `kubectl config current-context` names"
    )]
    NotInstalled,
    /// An object of that name exists.
    #[error(
        "{kind} \"{name}\" already exists in namespace \"{namespace}\"; choose another name or delete it first"
    )]
    AlreadyExists {
        /// What it is.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where.
        namespace: String,
    },
    /// Somebody else changed the object at the same time.
    #[error("{kind} \"{name}\" was changed by somebody else at the same time; try again")]
    Conflict {
        /// What it is.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The API server's validation refused the object.
    #[error("{0}")]
    Invalid(String),
    /// The user may not do this.
    #[error("{0}; ask who administers the cluster for the permission")]
    Forbidden(String),
    /// The user is not known.
    #[error("the cluster doesn't accept your credentials; log in again, or check the kubeconfig")]
    Unauthorized,
    /// The API server refused for another reason.
    #[error("the Kubernetes API refused: {0}")]
    Refused(String),
    /// Nothing more happens until somebody changes something.
    #[error("{kind} \"{name}\" can't go on: {message}")]
    Stalled {
        /// What it is.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The reason of the condition.
        reason: String,
        /// The message of the condition.
        message: String,
    },
    /// It took too long.
    #[error("{kind} \"{name}\" is not done after {}: {step}; it goes on in the background", human(.after))]
    Timeout {
        /// What was waited for.
        kind: &'static str,
        /// Its name.
        name: String,
        /// How long.
        after: Duration,
        /// The step at which it was.
        step: String,
    },
    /// It was deleted in the meantime.
    #[error("{kind} \"{name}\" was deleted in the meantime")]
    Deleted {
        /// What it is.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The Spark is stopped.
    #[error("spark \"{0}\" is stopped; start it with `spark start {0}`")]
    Stopped(String),
    /// No gateway runs.
    #[error(
        "no gateway runs in namespace \"{0}\": is gateway.enabled set in the chart, and the namespace right (--system-namespace)?"
    )]
    NoGateway(String),
    /// A Spark that sleeps has no pod.
    #[error("spark \"{0}\" sleeps; wake it with `spark start {0}`")]
    Sleeping(String),
    /// The Spark is not running yet, or no longer.
    #[error("spark \"{name}\" is not running: {why}")]
    NotRunning {
        /// Its name.
        name: String,
        /// What it does instead.
        why: String,
    },
    /// The trash holds no such Spark.
    #[error(
        "the trash of namespace \"{namespace}\" holds no spark \"{name}\"; `spark undelete --list` shows what it holds"
    )]
    NothingTrashed {
        /// Its name.
        name: String,
        /// Where.
        namespace: String,
    },
    /// What the trash holds can't be read.
    #[error("the spec that was saved of spark \"{name}\" can't be read: {source}")]
    SavedSpec {
        /// Its name.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The Secret with a namespace's access key holds none.
    #[error(
        "the Secret \"sparks-access\" of namespace \"{namespace}\" can't be used: {why}; delete it, and a new one is made"
    )]
    AccessKey {
        /// Where.
        namespace: String,
        /// Why.
        why: crate::access::KeyError,
    },
    /// A command could not be started in the Spark.
    #[error("the command could not be run: {0}")]
    Exec(String),
    /// The connection to a command broke.
    #[error("the connection to spark \"{0}\" was lost; see with `spark ls` whether it still runs")]
    ConnectionLost(String),
    /// Copying between the command and this side failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The kubeconfig can't be used.
    #[error("the kubeconfig can't be used: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// There is no cluster to talk to.
    #[error("no cluster is configured: {}; set KUBECONFIG or give --kubeconfig", cause(.0.as_ref()))]
    NoCluster(#[source] Box<kube::config::InferConfigError>),
    /// The configuration can't be used.
    #[error("can't connect to the cluster: {}", root(.0))]
    Client(#[source] Box<kube::Error>),
    /// The API server does not answer.
    #[error("the Kubernetes API does not answer: {}; check that the cluster runs and that `kubectl config current-context` is the right one", root(.0))]
    Unreachable(#[source] Box<kube::Error>),
}

/// The next cause.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    error.source().unwrap_or(error).to_string()
}

/// The last cause, which is the one that says something.
pub(crate) fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn human(duration: &Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// What a request was about.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub kind: &'static str,
    pub name: String,
    pub namespace: String,
}

impl Subject {
    /// The error of a request about this.
    pub fn error(&self, error: kube::Error) -> Error {
        match error {
            kube::Error::Api(status) => self.refusal(&status),
            kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)) => match code
                .as_u16()
            {
                401 => Error::Unauthorized,
                403 => {
                    Error::Forbidden(format!("you may not run commands in namespace \"{}\"", self.namespace))
                }
                404 => self.not_found(),
                _ => Error::Exec(format!("the API server answered {code}")),
            },
            other => Error::Unreachable(Box::new(other)),
        }
    }

    /// The error for a refusal by the API server.
    pub fn refusal(&self, status: &Status) -> Error {
        let details = status.details.as_ref();
        // An API group that isn't there is answered in plain text, without a reason.
        if status.is_not_found() || status.code == 404 {
            return match details.filter(|details| !details.name.is_empty()) {
                Some(details) if details.kind == "namespaces" => {
                    Error::NamespaceNotFound(details.name.clone())
                }
                Some(_) => self.not_found(),
                None => Error::NotInstalled,
            };
        }
        let (kind, name, namespace) = (self.kind, self.name.clone(), self.namespace.clone());
        if status.is_already_exists() {
            Error::AlreadyExists { kind, name, namespace }
        } else if status.is_conflict() {
            Error::Conflict { kind, name }
        } else if status.is_forbidden() {
            Error::Forbidden(plain(status))
        } else if status.code == 401 {
            Error::Unauthorized
        } else if status.is_invalid() {
            Error::Invalid(plain(status))
        } else {
            Error::Refused(plain(status))
        }
    }

    pub fn not_found(&self) -> Error {
        Error::NotFound { kind: self.kind, name: self.name.clone(), namespace: self.namespace.clone() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refusal(reason: &str, code: u16, kind: &str, name: &str) -> String {
        let subject = Subject { kind: "spark", name: "x".into(), namespace: "y".into() };
        let details = serde_json::from_value(serde_json::json!({"kind": kind, "name": name})).unwrap();
        let status = Status::failure("message", reason).with_code(code).with_details(details);
        subject.error(kube::Error::Api(Box::new(status))).to_string()
    }

    #[test]
    fn a_missing_spark_a_missing_namespace_and_a_missing_installation_are_told_apart() {
        assert_eq!(refusal("NotFound", 404, "sparks", "x"), "spark \"x\" not found in namespace \"y\"");
        assert!(refusal("NotFound", 404, "namespaces", "y").starts_with("namespace \"y\" not found"));
        assert!(refusal("NotFound", 404, "", "").starts_with("Sparks is not installed"));
        assert!(refusal("Failed to parse error data", 404, "", "").starts_with("Sparks is not installed"));
    }

    #[test]
    fn a_name_that_is_taken_is_no_conflict_of_versions() {
        assert!(refusal("AlreadyExists", 409, "sparks", "x").contains("already exists"));
        assert!(refusal("Conflict", 409, "sparks", "x").contains("try again"));
    }
}
