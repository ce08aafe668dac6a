//! Calls to a Milvus server: one HTTP/2 connection that opens by itself again, and statuses told
//! apart.

use std::{str::FromStr as _, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::{
    Request,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use tonic_prost::ProstCodec;

use super::proto::{self, Status};
use crate::store::{StoreFault, remote::Address};

/// A server's own default for what it sends; ours is as much.
const MESSAGE_MAX_BYTES: usize = 64 << 20;

/// Finds a connection that died without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The near end of one server.
#[derive(Clone, Debug)]
pub(super) struct Client {
    channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// Connects at the first call.
    pub(super) fn new(address: &Address) -> Result<Self, StoreFault> {
        let wrong = |what: &str| StoreFault::Failed(format!("store.{what} cannot be used"));
        let mut endpoint = Endpoint::from_shared(address.url.clone())
            .map_err(|_| wrong("url"))?
            .connect_timeout(address.connect_timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        if address.url.starts_with("https:") {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint.tls_config(tls).map_err(|_| wrong("url"))?;
        }
        let authorization = match &address.api_key {
            None => None,
            // `user:password` and API keys alike travel in Base64.
            Some(key) => {
                let encoded = BASE64_STANDARD.encode(key);
                Some(MetadataValue::from_str(&encoded).map_err(|_| wrong("api_key"))?)
            }
        };
        Ok(Self { channel: endpoint.connect_lazy(), authorization })
    }

    /// One call of the `MilvusService`.
    pub(super) async fn call<Q, A>(
        &self,
        method: &'static str,
        question: Q,
    ) -> Result<A, StoreFault>
    where
        Q: Message + 'static,
        A: Message + Default + Told + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_MAX_BYTES)
            .max_encoding_message_size(MESSAGE_MAX_BYTES);
        grpc.ready().await.map_err(|error| StoreFault::Unavailable(causes(&error)))?;
        let mut request = Request::new(question);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        let path = PathAndQuery::from_static(method);
        let answer = grpc.unary(request, path, ProstCodec::default()).await;
        let answer: A = answer.map_err(|status| transport(&status))?.into_inner();
        match answer.status() {
            Some(status) => checked(status).map(|()| answer),
            None => Ok(answer),
        }
    }
}

/// An answer that says how the call went.
pub(super) trait Told {
    fn status(&self) -> Option<&Status>;
}

macro_rules! told {
    ($($answer:ident),*) => {
        $(impl Told for proto::$answer {
            fn status(&self) -> Option<&Status> {
                self.status.as_ref()
            }
        })*
    };
}

told!(CollectionNames, Description, LoadState, Mutation, QueryResults, SearchResults);

impl Told for Status {
    fn status(&self) -> Option<&Status> {
        Some(self)
    }
}

fn transport(status: &tonic::Status) -> StoreFault {
    use tonic::Code::{Cancelled, DeadlineExceeded, Unavailable, Unknown};
    let text = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Cancelled | DeadlineExceeded | Unavailable | Unknown => StoreFault::Unavailable(text),
        _ => StoreFault::Failed(text),
    }
}

/// Codes of `merr` (2.3 and later) and of `common.ErrorCode` (before).
fn checked(status: &Status) -> Result<(), StoreFault> {
    if status.code == 0 && status.error_code == 0 {
        return Ok(());
    }
    let reason = status.reason.clone();
    Err(match (status.code, status.error_code) {
        // Memory limit, disk limit, writing denied by a quota.
        (3 | 6 | 9, _) | (_, 48 | 53 | 54) => StoreFault::Full(reason),
        // Request limit, rate limit.
        (4 | 8, _) | (_, 49) => StoreFault::Busy,
        // Not ready, unavailable, no leader of a shard.
        (1 | 2 | 503, _) | (_, 45 | 46 | 56) => StoreFault::Unavailable(reason),
        _ => StoreFault::Failed(reason),
    })
}

/// tonic's transport errors say nothing without their sources.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        let status = |code, error_code| Status { error_code, code, reason: "x".into() };
        assert_eq!(checked(&status(0, 0)), Ok(()));
        assert_eq!(checked(&status(6, 1)), Err(StoreFault::Full("x".into())));
        assert_eq!(checked(&status(0, 54)), Err(StoreFault::Full("x".into())));
        assert_eq!(checked(&status(8, 49)), Err(StoreFault::Busy));
        assert_eq!(checked(&status(1, 1)), Err(StoreFault::Unavailable("x".into())));
        assert_eq!(checked(&status(1100, 1)), Err(StoreFault::Failed("x".into())));
    }
}
