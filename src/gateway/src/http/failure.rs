//! What can go wrong with a request, each in a sentence for whoever sent it.

use std::time::Duration;

use http::StatusCode;

use super::host::Target;
use crate::directory::WakeError;

/// Why a request is not passed on, or has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The host is no Spark's.
    #[error("there is no Spark at this address; the address of a Spark looks like http://{example}")]
    NotASpark {
        /// What a host looks like.
        example: String,
    },
    /// There is no host, or there are two.
    #[error("the request must name one host")]
    BadHost,
    /// A path of the gateway's own that means nothing.
    #[error("paths that begin with /.sparks/ are the gateway's own, and there is nothing at this one")]
    Reserved,
    /// A method that only a forward proxy knows.
    #[error("the gateway opens no tunnels")]
    Connect,
    /// CONNECT for another protocol than that of websockets.
    #[error("the gateway opens websockets by CONNECT, and no other protocol")]
    NotWebsocket,
    /// The Spark is private or doesn't exist; which, is not told.
    #[error("sign in: spark url {} -n {}", .0.name, .0.namespace)]
    SignIn(Target),
    /// The token was valid.
    #[error("this link has expired; make a new one: spark url {} -n {}", .0.name, .0.namespace)]
    Expired(Target),
    /// It can't be found out whether the token is valid.
    #[error("the gateway can't check tokens right now; try again")]
    CannotCheck,
    /// Told only to who has a token of the namespace.
    #[error("there is no Spark {} in namespace {}", .0.name, .0.namespace)]
    Unknown(Target),
    /// Why there is no pod, for who has a token.
    #[error(transparent)]
    Wake(#[from] WakeError),
    /// The same for everybody else.
    #[error("{spark} {}", public(.why))]
    WakePublic {
        /// Which Spark.
        spark: Target,
        /// Why, in full.
        why: WakeError,
    },
    /// Nothing listens on the port.
    #[error("the service of {spark} doesn't listen on port {port}, or only on 127.0.0.1")]
    NotListening {
        /// Which Spark.
        spark: Target,
        /// The port.
        port: u16,
    },
    /// The pod can't be reached.
    #[error("{spark} doesn't answer on port {port}")]
    NoAnswer {
        /// Which Spark.
        spark: Target,
        /// The port.
        port: u16,
    },
    /// The service closed the connection.
    #[error("the service of {0} closed the connection without an answer")]
    Closed(Target),
    /// The service speaks something else.
    #[error("the service of {0} answered with something that isn't HTTP")]
    NotHttp(Target),
    /// The service answered the handshake of a websocket in another way than by it, or by a refusal.
    #[error("the service of {0} opened no websocket")]
    NoWebsocket(Target),
    /// At the address of SSH is something that doesn't ask for it.
    #[error(
        "this address carries SSH, for programs that ask by HTTP/1.1 with Upgrade: sparks-ssh, as spark ssh does"
    )]
    NotSsh,
    /// SSH that the gateway can't read can't be recorded.
    #[error("sessions of {0} are recorded, and come in by ssh {0}@GATEWAY")]
    Recorded(Target),
    /// The client stopped sending.
    #[error("the request was not sent to its end")]
    Aborted,
}

/// Nothing of a Spark's inside for the public.
fn public(why: &WakeError) -> &'static str {
    match why {
        WakeError::Stopped { .. } => "is stopped",
        WakeError::Timeout { .. } => "is not up yet; try again",
        WakeError::Unknown { .. } | WakeError::Failed { .. } | WakeError::Astray { .. } => "is not available",
    }
}

impl Failure {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotASpark { .. } | Self::Reserved | Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::BadHost | Self::Aborted => StatusCode::BAD_REQUEST,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotWebsocket => StatusCode::NOT_IMPLEMENTED,
            Self::SignIn(_) | Self::Expired(_) => StatusCode::UNAUTHORIZED,
            Self::Recorded(_) => StatusCode::FORBIDDEN,
            Self::NotSsh => StatusCode::UPGRADE_REQUIRED,
            Self::Wake(WakeError::Unknown { .. }) => StatusCode::NOT_FOUND,
            Self::CannotCheck | Self::Wake(_) | Self::WakePublic { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotListening { .. } | Self::Closed(_) | Self::NotHttp(_) | Self::NoWebsocket(_) => {
                StatusCode::BAD_GATEWAY
            }
            Self::NoAnswer { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// When it is worth trying again.
    pub fn retry_after(&self) -> Option<Duration> {
        let why = match self {
            Self::CannotCheck => return Some(Duration::from_secs(2)),
            Self::Wake(why) | Self::WakePublic { why, .. } => why,
            _ => return None,
        };
        match why {
            WakeError::Timeout { .. } => Some(Duration::from_secs(5)),
            WakeError::Stopped { .. } | WakeError::Failed { .. } => Some(Duration::from_secs(60)),
            WakeError::Unknown { .. } | WakeError::Astray { .. } => None,
        }
    }

    /// Whether what was asked for is on its way, so that a browser may ask again by itself.
    pub fn is_waking(&self) -> bool {
        matches!(
            self,
            Self::Wake(WakeError::Timeout { .. }) | Self::WakePublic { why: WakeError::Timeout { .. }, .. }
        )
    }

    /// One word for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotASpark { .. } => "not-a-spark",
            Self::BadHost => "bad-host",
            Self::Reserved => "reserved",
            Self::Connect => "connect",
            Self::NotWebsocket => "not-websocket",
            Self::SignIn(_) => "sign-in",
            Self::Expired(_) => "expired",
            Self::CannotCheck => "cannot-check",
            Self::Unknown(_) => "unknown",
            Self::Wake(why) | Self::WakePublic { why, .. } => why.reason(),
            Self::NotListening { .. } => "not-listening",
            Self::NoAnswer { .. } => "no-answer",
            Self::Closed(_) => "closed",
            Self::NotHttp(_) => "not-http",
            Self::NoWebsocket(_) => "no-websocket",
            Self::NotSsh => "not-ssh",
            Self::Recorded(_) => "recorded",
            Self::Aborted => "aborted",
        }
    }
}
