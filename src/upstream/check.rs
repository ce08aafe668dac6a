//! Active health checks, each on a connection of its own: whether a pooled connection still works
//! says little about whether the server takes new ones.

use bytes::Bytes;
use http::{Method, Request, StatusCode, uri::PathAndQuery};
use tokio::time::{Duration, Instant, timeout};

use super::{deadline::Deadline, outgoing::Upload, pool::Dialed, replica::Replica};
use crate::fault::{Fault, Kind};

/// How long a check may take, connection included.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

impl Replica {
    /// Asks `path` once; anything but a 2xx in time has failed.
    pub(super) async fn check(&self, path: &PathAndQuery) -> Result<(), Fault> {
        match timeout(ANSWER_WITHIN, self.ask(path)).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(status)) => {
                let said = format!("{} answered its health check with {status}", self.peer());
                Err(Fault::new(Kind::Connect, said))
            }
            Ok(Err(fault)) => Err(fault),
            Err(_elapsed) => Err(self.peer().first_byte_timeout(ANSWER_WITHIN)),
        }
    }

    async fn ask(&self, path: &PathAndQuery) -> Result<StatusCode, Fault> {
        let mut request = Request::new(Upload::Whole(Bytes::new()));
        *request.method_mut() = Method::GET;
        let sent = Instant::now();
        // Behind the limit of the whole check, which therefore is what runs out.
        let first_byte = 2 * ANSWER_WITHIN;
        let deadline = Deadline { sent, upload: None, first_byte, end: sent + first_byte };
        let path = self.join(path);
        let answer = match self.pool.dial().await? {
            Dialed::Http1(wire) => self.over_http1(wire, request, &path, &deadline).await,
            Dialed::Http2(session) => {
                self.over_http2(session.stream(), request, &path, &deadline).await
            }
        };
        answer.map(|answer| answer.head.status).map_err(|unanswered| self.fault(unanswered))
    }
}
