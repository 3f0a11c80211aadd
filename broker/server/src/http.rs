//! The HTTP listener: `/metrics` for Prometheus, `/healthz` (the process lives), `/readyz` (it
//! serves).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Encoder, TextEncoder};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::environment::{Environment, Listener, Stream};

/// Connections served at a time; more wait.
const CONNECTIONS_MAX: usize = 64;

/// How long the headers of a request may take.
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);

/// Says whether the broker serves; the text is what stands in the way.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Serves requests until `stop`.
pub async fn run(
    environment: Environment,
    listener: Box<dyn Listener>,
    readiness: Readiness,
    stop: CancellationToken,
) {
    let tracker = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(listener.as_ref(), &places) => accepted,
        };
        let Some((stream, place)) = accepted else {
            continue;
        };
        let registry = environment.registry.clone();
        let readiness = Arc::clone(&readiness);
        let stop = stop.clone();
        environment.spawn(&tracker, async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = serve(stream, registry, readiness) => {}
            }
            drop(place);
        });
    }
    tracker.close();
    tracker.wait().await;
}

async fn accept(
    listener: &dyn Listener,
    places: &Arc<Semaphore>,
) -> Option<(Box<dyn Stream>, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            debug!(%error, "http connection not accepted");
            None
        }
    }
}

async fn serve(stream: Box<dyn Stream>, registry: prometheus::Registry, readiness: Readiness) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = answer(
            request.method(),
            request.uri().path(),
            &registry,
            &readiness,
        );
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "http connection closed");
    }
}

fn answer(
    method: &Method,
    path: &str,
    registry: &prometheus::Registry,
    readiness: &Readiness,
) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD are served\n".to_owned(),
        );
    }
    match path {
        "/metrics" => {
            let encoder = TextEncoder::new();
            let mut body = Vec::new();
            match encoder.encode(&registry.gather(), &mut body) {
                Ok(()) => {
                    let mut response = Response::new(Full::new(Bytes::from(body)));
                    if let Ok(kind) = HeaderValue::from_str(encoder.format_type()) {
                        response.headers_mut().insert(CONTENT_TYPE, kind);
                    }
                    response
                }
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            }
        }
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match readiness() {
            Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
            Err(problem) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "not found; there are /metrics, /healthz and /readyz\n".to_owned(),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_answers_as_it_should() {
        let registry = prometheus::Registry::new();
        let ready: Readiness = Arc::new(|| Ok(()));
        let starting: Readiness = Arc::new(|| Err("recovering".to_owned()));
        let status = |path, readiness| answer(&Method::GET, path, &registry, readiness).status();
        assert_eq!(status("/metrics", &ready), StatusCode::OK);
        assert_eq!(status("/healthz", &starting), StatusCode::OK);
        assert_eq!(status("/readyz", &ready), StatusCode::OK);
        assert_eq!(
            status("/readyz", &starting),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(status("/", &ready), StatusCode::NOT_FOUND);
        let posted = answer(&Method::POST, "/metrics", &registry, &ready);
        assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
