//! The gateway's own paths. They are on every host that is no Spark's; on a Spark's only SSH is under them.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{answer, body::Body, failure::Failure, host::Domain};

const PREFIX: &str = "/.sparks";
const HEALTH: &str = "/.sparks/health";
const SESSIONS: &str = "/.sparks/sessions";

/// Answers requests for recorded sessions: those whose path is or begins with `/.sparks/sessions`.
pub type Sessions = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Whether a path is the gateway's own.
pub fn is_reserved(path: &str) -> bool {
    is_under(path, PREFIX)
}

/// Answers a request to a host that is no Spark's.
pub async fn answer(
    sessions: Option<&Sessions>,
    request: Request<Incoming>,
    domain: &Domain,
) -> Result<Response<Body>, Failure> {
    let path = request.uri().path();
    match sessions {
        // Any success would say that there is a tunnel.
        _ if request.method() == Method::CONNECT => Err(Failure::NotASpark { example: domain.example() }),
        Some(sessions) if is_under(path, SESSIONS) => Ok(sessions(request).await),
        // For load balancers, which don't reach the admin port.
        _ if path == HEALTH => Ok(answer::text(StatusCode::OK, "ok\n")),
        _ if is_reserved(path) => Err(Failure::Reserved),
        _ => Err(Failure::NotASpark { example: domain.example() }),
    }
}

fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_segments_are_reserved() {
        for (path, is) in
            [("/.sparks", true), ("/.sparks/x", true), ("/.sparksx", false), ("/a/.sparks/", false)]
        {
            assert_eq!(is_reserved(path), is, "{path}");
        }
    }
}
