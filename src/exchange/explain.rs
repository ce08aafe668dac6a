//! The story of a request as far as the cache, told and not lived: for `POST /api/v1/explain`.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header, request::Parts};

use super::{House, Keying, cacheable, call, hygiene, routing};
use crate::{
    cache::{
        explain::Explanation,
        key::Key,
        policy::{self, Control},
        reason::Reason,
    },
    fault::Fault,
    front::Peer,
};

/// A request as its client would send it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Path and query.
    pub target: Uri,
    /// The client's headers: its credential, `cache-control`, `x-reprise-*`.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
}

impl Asked {
    /// As it would arrive.
    pub(super) fn parts(self) -> (Parts, Bytes) {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target;
        *request.headers_mut() = self.headers;
        request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_static("reprise"));
        (request.into_parts().0, self.body)
    }
}

/// How far the request came.
pub struct Told {
    /// The upstream's name.
    pub route: String,
    /// The upstream's dialect.
    pub dialect: String,
    /// The model, where the body could be read.
    pub model: Option<String>,
    /// The last user turn, where there is one.
    pub question: Option<String>,
    /// The cache's part in it, or why it has none.
    pub cache: Result<(Key, Explanation), Reason>,
}

impl House {
    /// Walks a request's way up to the verdict. Nothing is forwarded, kept, learned or counted.
    ///
    /// # Errors
    /// What the client would be told about a request that is no request.
    pub async fn explain(&self, peer: Peer, asked: Asked) -> Result<Told, Fault> {
        let (mut parts, body) = asked.parts();
        hygiene::request(&mut parts, &peer, &self.config.listen.trusted)?;
        let upstream = routing::route(self, &parts, None)?;
        let spoken = upstream.dialects().at(parts.uri.path());
        let mut told = Told {
            route: upstream.name().to_owned(),
            dialect: spoken.map_or("none", |dialect| dialect.name()).to_owned(),
            model: None,
            question: None,
            cache: Err(Reason::Unreadable),
        };
        let (scope, dialect) = match cacheable(self, &upstream, &parts) {
            Ok(known) => known,
            Err(reason) => {
                told.cache = Err(reason);
                return Ok(told);
            }
        };
        let control = Control::read(&parts.headers)?;
        let prompt = match dialect.read(call(self, &parts, &body)) {
            Ok(prompt) => prompt,
            Err(why) => {
                told.cache = Err(why.into());
                return Ok(told);
            }
        };
        let upstream = routing::route(self, &parts, Some(&prompt.model))?;
        upstream.name().clone_into(&mut told.route);
        told.model = Some(prompt.model.to_string());
        told.question = prompt.question.as_ref().ok().map(ToString::to_string);
        told.cache =
            match policy::decide(&self.config.cache, self.ttl(&upstream), &control, &prompt) {
                Err(reason) => Err(reason),
                Ok(plan) => {
                    let (house, upstream, parts) = (self, &*upstream, &parts);
                    let dialect = &*dialect;
                    let keying = Keying {
                        house,
                        scope,
                        control: &control,
                        upstream,
                        dialect,
                        parts,
                        peer: &peer,
                    };
                    let key = keying.key(&prompt);
                    let explanation = self.cache.explain(&key, &prompt, &plan).await;
                    Ok((key, explanation))
                }
            };
        Ok(told)
    }
}
