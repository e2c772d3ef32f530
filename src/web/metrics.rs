//! `/metrics`, `/healthz` and `/readyz`: for the monitoring of the house.

use std::net::IpAddr;
use std::rc::Rc;

use hyper::{Method, StatusCode};

use super::http::{Answer, answer, serve_connection};
use crate::observe;
use crate::runtime::{Gate, Listener, Peer, spawn_in};

/// Whether this node should get traffic, and in plain words why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    NotReady(String),
}

/// Asked at each request to `/readyz`; must not wait.
pub type Health = Rc<dyn Fn() -> Readiness>;

const PLAIN: &str = "text/plain; charset=utf-8";

/// Serves the metrics listener until `gate` closes. Returns when the socket listens no more.
///
/// Only an address that `allowed` lets in is answered.
pub async fn serve_metrics(
    listener: Listener,
    gate: Gate,
    health: Health,
    allowed: impl Fn(IpAddr) -> bool,
) {
    while let Ok((stream, peer)) = listener.accept().await {
        if !matches!(peer, Peer::Tcp { peer, .. } if allowed(peer.ip())) {
            continue;
        }
        let health = health.clone();
        let connection = serve_connection(stream, move |request| {
            let reply = reply(request.method(), request.uri().path(), &health);
            async move { reply }
        });
        if !spawn_in(&gate, "web.metrics", connection) {
            return;
        }
    }
}

fn reply(method: &Method, path: &str, health: &Health) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        return answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET only\n");
    }
    match path {
        "/metrics" => answer(StatusCode::OK, observe::CONTENT_TYPE, observe::render()),
        "/healthz" => answer(StatusCode::OK, PLAIN, "alive\n"),
        "/readyz" => match health() {
            Readiness::Ready => answer(StatusCode::OK, PLAIN, "ready\n"),
            Readiness::NotReady(why) => answer(
                StatusCode::SERVICE_UNAVAILABLE,
                PLAIN,
                format!("not ready: {why}\n"),
            ),
        },
        _ => answer(
            StatusCode::NOT_FOUND,
            PLAIN,
            "/metrics, /healthz or /readyz\n",
        ),
    }
}
