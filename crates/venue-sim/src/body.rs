//! Bodies of answers that do not come as they should.

use std::io::{Error, ErrorKind};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};

/// What was handed over is on its way to the client before the connection ends.
const ON_ITS_WAY: Duration = Duration::from_millis(5);

/// A part of a body, as long as asked for, or half of it; never all of it.
pub(crate) fn part(body: &Bytes, bytes: Option<usize>) -> Bytes {
    let length = bytes.unwrap_or(body.len() / 2).min(body.len().saturating_sub(1));
    body.slice(..length)
}

/// A body of which no more than a part comes, whatever length was promised. Then the connection ends after a while, if at all.
pub(crate) fn unfinished(part: Bytes, hold: Option<Duration>) -> Body {
    let end = stream::once(async move {
        match hold {
            Some(hold) => tokio::time::sleep(hold.max(ON_ITS_WAY)).await,
            None => std::future::pending().await,
        }
        Err(Error::new(ErrorKind::ConnectionAborted, "a fault that was asked for"))
    });
    Body::from_stream(stream::once(async { Ok(part) }).chain(end))
}

/// A whole body, so many bytes each so often. `told` is called for before the last of them.
pub(crate) fn dripping(body: Bytes, bytes: usize, every: Duration, told: impl Future<Output = ()> + Send + 'static) -> Body {
    Body::from_stream(stream::unfold((body, Some(Box::pin(told))), move |(mut rest, mut told)| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(every).await;
        let drop = rest.split_to(bytes.min(rest.len()));
        if let Some(told) = told.take_if(|_| rest.is_empty()) {
            told.await;
        }
        Some((Ok::<Bytes, Error>(drop), (rest, told)))
    }))
}
