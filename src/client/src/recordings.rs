//! Recorded sessions, as the gateways keep them.

use std::io;
use std::time::Duration;

use http::{Request, Uri};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, Config, ResourceExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::access::Scope;
use crate::error::Subject;
use crate::{Error, Result, Sparks};

/// Path under which a gateway answers about recordings: `NAMESPACE[/SPARK[/ID]]` follows.
pub const PREFIX: &str = "/.sparks/sessions/";

/// Header that carries the token; `Authorization` is the API server's own.
pub const TOKEN_HEADER: &str = "sparks-token";

/// Selects the gateways' pods.
const GATEWAYS: &str = "app.kubernetes.io/component=gateway,app.kubernetes.io/name=sparks";
/// Something else answers there, or a gateway that keeps none.
const NO_GATEWAY: &str = "what answers there is no gateway of Sparks that keeps recordings";
/// How long the token of one request is good.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_secs(60);
/// How long a connection to a gateway's own address may take.
const CONNECTS_WITHIN: Duration = Duration::from_secs(5);

/// The first line of a recording: asciicast's header, version 3, and who, where and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// 3.
    pub version: u8,
    /// Size and type of the terminal at the beginning.
    pub term: Term,
    /// When it began, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    /// What was run; a login shell when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Who, where and from where. Not asciicast's own.
    #[serde(default)]
    pub sparks: Origin,
}

/// Size and type of a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// Width in characters.
    pub cols: u32,
    /// Height in characters.
    pub rows: u32,
    /// TERM.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// Who, where and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Namespace of the Spark.
    pub namespace: String,
    /// Name of the Spark.
    pub spark: String,
    /// Uid of the Spark.
    pub uid: String,
    /// User in the Spark.
    pub user: String,
    /// Fingerprint and comment of the key, or id of the certificate.
    pub key: String,
    /// Address of the client.
    pub client: String,
    /// Connection that the session was part of.
    pub connection: String,
    /// Whether it had a terminal.
    pub tty: bool,
}

/// The last line of a recording that has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trailer {
    /// SHA-256 of the recording before it of the same Spark, in hex; empty for the first.
    pub previous: String,
    /// Seconds that it lasted.
    pub seconds: f64,
    /// Exit status, or name of the signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
}

/// What a list shows of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Name of the recording.
    pub id: String,
    /// The first line.
    pub header: Header,
    /// The last line; none while the session goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trailer: Option<Trailer>,
    /// Size in bytes.
    pub bytes: u64,
}

/// One line that a search found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// Name of the Spark.
    pub spark: String,
    /// Name of the recording.
    pub id: String,
    /// Seconds from its beginning.
    pub at: f64,
    /// What was found, without control sequences.
    pub line: String,
}

/// The gateways of an installation.
pub struct Recordings {
    namespace: String,
    token: String,
    gateways: Vec<Gateway>,
}

/// One gateway, or several that answer at one address.
struct Gateway {
    client: Client,
    /// What comes before [`PREFIX`].
    path: String,
    /// Its address, if it is not reached by way of the API server.
    address: Option<String>,
}

impl Sparks {
    /// The recorded sessions of this namespace, by way of the API server. `system` is the namespace of the installation.
    ///
    /// # Errors
    /// When the gateways can't be listed, there is none, or the namespace's key can't be read.
    pub async fn recordings(&self, system: &str) -> Result<Recordings> {
        let api: Api<Pod> = Api::namespaced(self.client().clone(), system);
        let subject = Subject { kind: "pod", name: String::new(), namespace: system.into() };
        let pods =
            api.list(&ListParams::default().labels(GATEWAYS)).await.map_err(|error| subject.error(error))?;
        let runs =
            |pod: &&Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
        let path = |pod: &Pod| format!("/api/v1/namespaces/{system}/pods/http:{}:8080/proxy", pod.name_any());
        let gateway = |pod| Gateway { client: self.client().clone(), path: path(pod), address: None };
        let gateways: Vec<Gateway> = pods.iter().filter(runs).map(gateway).collect();
        if gateways.is_empty() {
            return Err(Error::NoGateway(system.into()));
        }
        self.recordings_of(gateways).await
    }

    /// The same from a gateway's own address, such as `https://sessions.sparks.example.com`: of several gateways there, the
    /// one that answers.
    ///
    /// # Errors
    /// When the address is none, or the namespace's key can't be read.
    pub async fn recordings_at(&self, address: &str) -> Result<Recordings> {
        let uri: Uri = address.parse().map_err(io::Error::other)?;
        let mut config = Config::new(uri);
        config.connect_timeout = Some(CONNECTS_WITHIN);
        let client = Client::try_from(config).map_err(io::Error::other)?;
        let gateway = Gateway { client, path: String::new(), address: Some(address.to_owned()) };
        self.recordings_of(vec![gateway]).await
    }

    async fn recordings_of(&self, gateways: Vec<Gateway>) -> Result<Recordings> {
        let key = self.access_key().await?;
        let token = key.mint(&Scope::namespace(self.namespace()), Timestamp::now() + TOKEN_LIFE);
        Ok(Recordings { namespace: self.namespace().into(), token, gateways })
    }
}

impl Recordings {
    /// The recordings of a Spark, or of the whole namespace, oldest first.
    ///
    /// # Errors
    /// When a gateway can't be reached or refuses.
    pub async fn list(&self, spark: Option<&str>) -> Result<Vec<Summary>> {
        let path = spark.map(|spark| format!("/{spark}")).unwrap_or_default();
        let mut all: Vec<Summary> = self.ask_all(&path).await?;
        all.sort_by(|a, b| a.id.cmp(&b.id));
        // Gateways may share one volume.
        all.dedup_by(|a, b| a.id == b.id);
        Ok(all)
    }

    /// Lines that have a text, of the recordings of a Spark or of the whole namespace.
    ///
    /// # Errors
    /// When a gateway can't be reached or refuses.
    pub async fn search(&self, text: &str, spark: Option<&str>) -> Result<Vec<Hit>> {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("search", text).finish();
        let path = spark.map(|spark| format!("/{spark}")).unwrap_or_default();
        let mut all: Vec<Hit> = self.ask_all(&format!("{path}?{query}")).await?;
        all.sort_by(|a, b| a.id.cmp(&b.id).then(a.at.total_cmp(&b.at)));
        all.dedup();
        Ok(all)
    }

    /// One recording, as an asciicast of version 3, or of version 2.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when a gateway can't be reached or refuses.
    pub async fn cast(&self, spark: &str, id: &str, is_version_2: bool) -> Result<String> {
        let query = if is_version_2 { "?version=2" } else { "" };
        for gateway in &self.gateways {
            match self.get(gateway, &format!("/{spark}/{id}{query}")).await {
                Err(Error::NotFound { .. }) => {}
                answer => return answer,
            }
        }
        Err(self.subject(id).not_found())
    }

    async fn ask_all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        let mut all = Vec::new();
        for gateway in &self.gateways {
            let answer = match self.get(gateway, path).await {
                Err(Error::NotFound { .. }) => return Err(io::Error::other(NO_GATEWAY).into()),
                answer => answer?,
            };
            let some: Vec<T> = serde_json::from_str(&answer)
                .map_err(|error| io::Error::other(format!("{NO_GATEWAY}: {error}")))?;
            all.extend(some);
        }
        Ok(all)
    }

    async fn get(&self, gateway: &Gateway, path: &str) -> Result<String> {
        let uri = format!("{}{PREFIX}{}{path}", gateway.path, self.namespace);
        let request = Request::get(uri).header(TOKEN_HEADER, &self.token).body(Vec::new());
        let answer = gateway.client.request_text(request.map_err(io::Error::other)?).await;
        let subject = self.subject(path.trim_matches('/'));
        answer.map_err(|error| match (&gateway.address, &error) {
            // In plain text, which for the API server means something else.
            (_, kube::Error::Api(status)) if status.code == 404 && status.details.is_none() => {
                subject.not_found()
            }
            (Some(address), kube::Error::Api(status)) => io::Error::other(format!(
                "the gateway at {address} answered with status {}: {}",
                status.code, status.message
            ))
            .into(),
            (Some(address), _) => {
                let why = crate::error::root(&error);
                io::Error::other(format!("the gateway can't be reached at {address}: {why}")).into()
            }
            (None, _) => subject.error(error),
        })
    }

    fn subject(&self, name: &str) -> Subject {
        Subject { kind: "recording", name: name.into(), namespace: self.namespace.clone() }
    }
}
