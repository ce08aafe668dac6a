//! Connections and routes.

use std::{io, sync::Arc};

use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};

use crate::{
    answer::{self, Shape},
    api_error::ApiError,
    apis,
    ask::Ask,
    completions, embeddings,
    paced::Pace,
    responses::{self, Body},
    stamp::Stamp,
    stats::{Call, Stats},
};

/// Above the largest body that the proxy's tests send, so that only the proxy's own limit shows.
const BODY_BYTES_MAX: usize = 128 << 20;
/// A test opens a thousand streams on one HTTP/2 connection.
const STREAMS_MAX: u32 = 4096;

/// What the command line chose.
pub(crate) struct Settings {
    /// The pace of an answer that has no markers.
    pub(crate) pace: Pace,
    /// Its length.
    pub(crate) tokens: usize,
    /// The model that is listed.
    pub(crate) name: String,
}

/// The simulated server.
pub(crate) struct Server {
    settings: Settings,
    stats: Stats,
}

impl Server {
    /// A server that has counted nothing yet.
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, stats: Stats::default() }
    }

    /// Serves TCP for ever.
    pub(crate) async fn accept_tcp(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            // Tokens are small writes: they must not wait for one another.
            stream.set_nodelay(true)?;
            self.serve(stream);
        }
    }

    /// Serves a unix socket for ever.
    pub(crate) async fn accept_unix(self: Arc<Self>, listener: UnixListener) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            self.serve(stream);
        }
    }

    /// Serves one connection in its own task, which ends with the connection or the process.
    fn serve(self: &Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        self.stats.connected();
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let server = Arc::clone(&server);
                async move { Ok::<_, std::convert::Infallible>(server.route(request).await) }
            });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            // A pooled connection of a test may idle for as long as the test takes.
            builder.http1().timer(TokioTimer::new()).header_read_timeout(None);
            builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
            // A client that hangs up is an ordinary event here: the counts have it.
            drop(builder.serve_connection(TokioIo::new(stream), service).await);
        });
    }

    async fn route(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let path = plain(&head.uri).to_owned();
        match (&head.method, path.as_str()) {
            (&Method::GET, "/sim/stats") => return responses::json(&self.stats.json(), None),
            (&Method::POST, "/sim/reset") => {
                self.stats.reset();
                return responses::json(&json!({"reset": true}), None);
            }
            _ => {}
        }
        let call = self.stats.begin(&head);
        match (&head.method, path.as_str()) {
            (&Method::GET, "/healthz") => responses::text("ok".to_owned(), call),
            (&Method::GET, "/metrics") => {
                responses::text(self.stats.prometheus(&self.settings.name), call)
            }
            (&Method::GET, "/v1/models") => {
                let model = json!({
                    "id": self.settings.name, "object": "model", "created": 0, "owned_by": "sim",
                });
                responses::json(&json!({"object": "list", "data": [model]}), Some(call))
            }
            (_, "/echo") => responses::echo(&head.headers, body, call),
            (&Method::POST, "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings") => {
                let answered = match self.read(&head.headers, body).await {
                    Ok(body) => self.model(&path, &head.headers, &body, call).await,
                    Err(error) => Err((error, call)),
                };
                answered.unwrap_or_else(|(error, call)| responses::refusal(&error, call))
            }
            (&Method::POST, path) if apis::at(path).is_some() => {
                let answered = match (apis::at(path), self.read(&head.headers, body).await) {
                    (Some(api), Ok(body)) => {
                        let credential = credential(&head.headers);
                        let settings = &self.settings;
                        apis::generate(api, &head.uri, &body, &credential, settings, call).await
                    }
                    (None, _) => {
                        Err((ApiError::no_route(StatusCode::NOT_FOUND, &head.method, path), call))
                    }
                    (_, Err(error)) => Err((error, call)),
                };
                answered.unwrap_or_else(|(error, call)| responses::refusal(&error, call))
            }
            (method, path) => {
                let known = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"];
                let status = match known.contains(&path) {
                    true => StatusCode::METHOD_NOT_ALLOWED,
                    false => StatusCode::NOT_FOUND,
                };
                responses::refusal(&ApiError::no_route(status, method, path), call)
            }
        }
    }

    /// The body of an authorized request, as JSON.
    async fn read(&self, headers: &HeaderMap, body: Incoming) -> Result<Value, ApiError> {
        // Read before anything is refused: an early answer to an unread body breaks connections.
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|_| ApiError::too_large(BODY_BYTES_MAX))?.to_bytes();
        self.stats.body(&body);
        if credential(headers) == "Bearer sim-invalid" {
            return Err(ApiError::unauthorized());
        }
        serde_json::from_slice(&body)
            .map_err(|error| ApiError::invalid(format!("The body is not valid JSON: {error}.")))
    }

    /// Answers one of the three model endpoints.
    async fn model(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: &Value,
        call: Call,
    ) -> Result<Response<Body>, (ApiError, Call)> {
        let stamp = Stamp::of(body, &credential(headers));
        let (asked, shape) = match path {
            "/v1/chat/completions" => (Ask::parse(body), Shape::Chat),
            "/v1/completions" => (completions::parse(body), Shape::Text),
            _ => {
                return match embeddings::answer(body) {
                    Ok(answer) => Ok(responses::json(&answer, Some(call))),
                    Err(error) => Err((error, call)),
                };
            }
        };
        match asked {
            Ok(ask) => answer::generate(&ask, shape, &stamp, &self.settings, call).await,
            Err(error) => Err((error, call)),
        }
    }
}

/// The path of OpenAI's own API that an Azure deployment's means; others as they are. Azure insists
/// on an `api-version`.
fn plain(uri: &Uri) -> &str {
    let versioned = uri.query().is_some_and(|query| query.contains("api-version="));
    let deployment = uri.path().strip_prefix("/openai/deployments/").filter(|_| versioned);
    match deployment.and_then(|rest| rest.split_once('/')) {
        Some((_, "chat/completions")) => "/v1/chat/completions",
        Some((_, "completions")) => "/v1/completions",
        Some((_, "embeddings")) => "/v1/embeddings",
        _ if uri.path() == "/openai/responses" && versioned => "/v1/responses",
        _ => uri.path(),
    }
}

/// What the client authenticates with, as it sent it.
fn credential(headers: &HeaderMap) -> String {
    let own = || headers.get("x-api-key").or_else(|| headers.get("api-key"));
    let value = headers.get(header::AUTHORIZATION).or_else(own);
    value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}
