//! What a request is: whose, in which dialect, and its key.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, header, request::Parts};
use serde_json::value::RawValue;

use super::House;
use crate::{
    cache::{
        key::{Key, Route},
        policy::Control,
        reason::Reason,
    },
    front::{Peer, tenant::Scope},
    upstream::Upstream,
    wire::{Call, Dialect, Prompt, Rules},
};

/// Values of `cache.vary_headers` that need no allocation.
const VARY_FEW: usize = 10;

/// Whose request is it and in which dialect, if the cache may have a part in it?
pub(super) fn cacheable(
    house: &House,
    upstream: &Upstream,
    parts: &Parts,
) -> Result<(Scope, Arc<dyn Dialect>), Reason> {
    let dialect = upstream.dialects().at(parts.uri.path()).ok_or(Reason::NotCacheable)?;
    if parts.method != Method::POST {
        return Err(Reason::NotCacheable);
    }
    if !house.config.cache.enabled {
        return Err(Reason::CacheOff);
    }
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Reason::EncodedRequest);
    }
    let scope = house.tenants.scope(&parts.headers).ok_or(Reason::NoScope)?;
    Ok((scope, Arc::clone(dialect)))
}

/// The request as its dialect reads it.
pub(super) fn call<'a>(house: &'a House, parts: &'a Parts, body: &'a [u8]) -> Call<'a> {
    let cache = &house.config.cache;
    let rules = Rules {
        ignored: &cache.ignore_fields,
        templates: &cache.template,
        text_inputs: &cache.text_inputs,
    };
    let query = parts.uri.query().unwrap_or_default();
    Call { path: parts.uri.path(), query, headers: &parts.headers, body, rules }
}

/// The request with the model's name that its upstream knows, where that is another one: one of the
/// few places where a body is not the client's own, because its operator said so.
pub(super) fn renamed(
    house: &House,
    upstream: &Upstream,
    dialect: &dyn Dialect,
    parts: &Parts,
    (body, prompt): (Bytes, Prompt),
) -> (Bytes, Prompt) {
    let Some(name) = upstream.alias(&prompt.model) else { return (body, prompt) };
    let Some(body_here) = with_model(&body, name) else { return (body, prompt) };
    match dialect.read(call(house, parts, &body_here)) {
        Ok(prompt_here) => (body_here, prompt_here),
        Err(_) => (body, prompt),
    }
}

/// The body with another `model`, every other byte as it was.
fn with_model(body: &Bytes, name: &str) -> Option<Bytes> {
    #[derive(serde::Deserialize)]
    struct Named<'b> {
        #[serde(borrow)]
        model: &'b RawValue,
    }
    let named: Named<'_> = serde_json::from_slice(body).ok()?;
    let value = named.model.get().as_bytes();
    let begin = value.as_ptr() as usize - body.as_ptr() as usize;
    let (before, after) = (body.get(..begin)?, body.get(begin + value.len()..)?);
    let name = serde_json::to_vec(name).ok()?;
    Some(Bytes::from([before, &name, after].concat()))
}

/// Everything that a key is made of, but for the prompt.
pub(super) struct Keying<'a> {
    pub(super) house: &'a House,
    pub(super) scope: Scope,
    pub(super) control: &'a Control,
    pub(super) upstream: &'a Upstream,
    pub(super) dialect: &'a dyn Dialect,
    pub(super) parts: &'a Parts,
    pub(super) peer: &'a Peer,
}

impl Keying<'_> {
    pub(super) fn key(&self, prompt: &Prompt) -> Key {
        let headers = &self.parts.headers;
        let names = &self.house.config.cache.vary_headers;
        let value = |name| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
        // On the stack, unless somebody names more than twice as many as are named by default.
        let mut few = [&b""[..]; VARY_FEW];
        let many: Vec<&[u8]>;
        let vary = match few.get_mut(..names.len()) {
            Some(places) => {
                places.iter_mut().zip(names).for_each(|(place, name)| *place = value(name));
                &*places
            }
            None => {
                many = names.iter().map(value).collect();
                &many
            }
        };
        let query = self.dialect.keyed_query(self.parts.uri.query().unwrap_or_default());
        let route = Route {
            upstream: self.upstream.name(),
            dialect: self.dialect.name(),
            query: &query,
            vary,
        };
        let key = match &self.control.namespace {
            Some(name) => Key::new(&self.scope.in_namespace(name), route, prompt),
            None => Key::new(&self.scope, route, prompt),
        };
        let address = self.peer.address().map(|address| address.ip());
        Key { principal: self.house.tenants.principal(headers, address), ..key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_models_name_is_written_anew() {
        let body =
            Bytes::from_static(b"{ \"x\": {\"model\": 1}, \"model\" :\"a\\u0062\" , \"y\":[1.0] }");
        let there = with_model(&body, "c\"d").unwrap();
        assert_eq!(&there[..], br#"{ "x": {"model": 1}, "model" :"c\"d" , "y":[1.0] }"#);
        for none in ["{}", "[]", "", "{\"model\""] {
            assert_eq!(with_model(&Bytes::from(none), "x"), None);
        }
    }
}
