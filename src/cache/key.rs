//! The only way to a cache key: through a proven scope.
//!
//! A default key that anybody can build is how caches leak between tenants (Pingora's
//! CVE-2026-2836: a key of the path alone). Here a [`Key`] demands a [`Scope`], which only
//! authentication can make.

use std::sync::Arc;

use crate::{
    frames::Frames,
    front::tenant::{Principal, Scope},
    line::Line,
    store::EntryId,
    wire::Prompt,
};

/// Changes whenever what goes into a key changes, so that old entries are never misread.
const VERSION: &[u8] = b"reprise key 1";

/// What else, beside scope and prompt, an answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// The upstream's name.
    pub upstream: &'a str,
    /// The dialect's name.
    pub dialect: &'a str,
    /// The query of the request target, `""` if none (Azure's `api-version` lives there).
    pub query: &'a str,
    /// Values of the headers named by `cache.vary_headers`, in that order.
    pub vary: &'a [&'a [u8]],
}

/// The identity of one request.
#[derive(Clone, Debug)]
pub struct Key {
    /// All of the request, 256 bits.
    pub fingerprint: [u8; 32],
    /// All but the last user turn's text, as 64 hex digits: where neighbours are looked for.
    pub partition: Arc<str>,
    /// The first 128 bits of the fingerprint: the entry's public name.
    pub id: EntryId,
    /// The scope's tenant, 32 hex digits.
    pub tenant: Arc<str>,
    /// Who of those that share the scope asks; no part of the identity.
    pub principal: Principal,
}

impl Key {
    /// The key of this prompt in this scope.
    pub fn new(scope: &Scope, route: Route<'_>, prompt: &Prompt) -> Self {
        let mut hash = Frames::default();
        hash.tagged(b'v', VERSION);
        hash.tagged(b'S', scope.bytes());
        hash.tagged(b'u', route.upstream.as_bytes());
        hash.tagged(b'd', route.dialect.as_bytes());
        hash.tagged(b'q', route.query.as_bytes());
        for value in route.vary {
            hash.tagged(b'h', value);
        }
        hash.tagged(b'c', prompt.context.as_bytes());
        let partition = hash.finish();
        let mut hash = Frames::default();
        hash.tagged(b'P', partition.as_bytes());
        hash.tagged(b'T', prompt.turn.as_bytes());
        let fingerprint: [u8; 32] = hash.finish().into();
        let mut id = [0; 16];
        id.copy_from_slice(&fingerprint[..16]);
        Self {
            fingerprint,
            partition: Arc::from(Line::of_hex(partition.as_bytes()).as_str()),
            id: EntryId(u128::from_be_bytes(id)),
            tenant: scope.tenant(),
            principal: Principal::default(),
        }
    }
}
