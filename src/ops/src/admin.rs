//! The admin port of a server: `/metrics`, `/healthz` and `/readyz`.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

/// Content type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What `/readyz` answers; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// From now on `/readyz` answers 200 (or 503).
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// What was set last.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves the admin port on a task of its own, for as long as the process runs.
///
/// # Errors
/// When the address can't be bound.
pub async fn serve(address: SocketAddr, registry: Registry, readiness: Readiness) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let registry = Arc::new(registry);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(connection(stream, registry.clone(), readiness.clone()));
                }
                Err(error) => tracing::warn!(%error, "the admin port could not accept a connection"),
            }
        }
    });
    Ok(())
}

async fn connection(stream: tokio::net::TcpStream, registry: Arc<Registry>, readiness: Readiness) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(request.uri().path(), &registry, &readiness);
        async move { Ok::<_, Infallible>(response) }
    });
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

fn answer(path: &str, registry: &Registry, readiness: &Readiness) -> Response<Full<Bytes>> {
    match path {
        "/metrics" => metrics(registry),
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if readiness.get() => text(StatusCode::OK, "ok\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready yet\n"),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
    }
}

fn metrics(registry: &Registry) -> Response<Full<Bytes>> {
    let mut body = String::new();
    match prometheus_client::encoding::text::encode(&mut body, registry) {
        Ok(()) => {
            let mut response = Response::new(Full::new(Bytes::from(body)));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(OPEN_METRICS));
            response
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be encoded\n"),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_only_once_it_said_so() {
        let (registry, readiness) = (Registry::default(), Readiness::default());
        assert_eq!(answer("/readyz", &registry, &readiness).status(), StatusCode::SERVICE_UNAVAILABLE);
        readiness.set(true);
        assert_eq!(answer("/readyz", &registry, &readiness).status(), StatusCode::OK);
    }

    #[test]
    fn metrics_are_in_the_open_metrics_format() {
        let response = answer("/metrics", &Registry::default(), &Readiness::default());
        assert_eq!(response.headers()[CONTENT_TYPE], OPEN_METRICS);
    }
}
