//! hyper 1 over a runtime stream: the adapter, and one bounded connection.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};

use crate::base::Deadline;
use crate::runtime::{self, Stream};

/// A whole connection, requests and answers, ends after this.
const CONNECTION_SECONDS_MAX: u64 = 600;

/// A request body beyond this is refused.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// Bytes hyper may read at once; on the stack only while reading.
const READ_BYTES: usize = 4096;

pub type Answer = Response<Full<Bytes>>;

struct Io(Stream);

impl hyper::rt::Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0u8; READ_BYTES];
        let wanted = bytes.len().min(into.remaining());
        self.0
            .poll_read(cx, &mut bytes[..wanted])
            .map_ok(|n| into.put_slice(&bytes[..n]))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.shutdown();
        Poll::Ready(Ok(()))
    }
}

/// Serves one HTTP/1.1 connection until it closes, errs or outlives its bound. What goes wrong on
/// it is the peer's affair.
pub async fn serve_connection<F, Fut>(stream: Stream, service: F)
where
    F: Fn(Request<Incoming>) -> Fut,
    Fut: Future<Output = Answer>,
{
    let until = Deadline::after(runtime::now(), Duration::from_secs(CONNECTION_SECONDS_MAX));
    let service = hyper::service::service_fn(|request| {
        let answer = service(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(Io(stream), service);
    let _ = runtime::deadline(until, connection).await;
}

/// The body of a request; `None` where it is too long or broke off.
pub async fn body_of(request: Request<Incoming>) -> Option<Bytes> {
    let limited = Limited::new(request.into_body(), BODY_BYTES_MAX);
    limited.collect().await.ok().map(|body| body.to_bytes())
}

/// An answer of one piece.
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let value = hyper::header::HeaderValue::from_static(content_type);
    answer
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, value);
    answer
}
