//! Whose request it is: credentials become a [`Scope`], the proof that every cache call demands.
//!
//! Two requests share answers only inside one scope. A scope is a keyed hash, so that neither the
//! store on disk nor a log lets anybody test a guessed credential; the credential itself is never
//! kept. Without the key file a store's entries cannot be reached any more, by anybody.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
};

use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

use crate::{config::ScopeRule, frames::Frames, line::Line};

/// Headers that bear no mark but choose on whose account an API answers.
const ACCOUNTS: [&str; 2] = ["openai-organization", "openai-project"];

/// Headers that bear a mark but identify a request, not a client: in the scope, they would make
/// every request a tenant of its own.
const NOT_CREDENTIALS: [&str; 3] = ["idempotency-key", "x-idempotency-key", "sec-websocket-key"];

/// Who asks, inside a scope that several share: what one of them says of an answer should not count
/// for more than one. A keyed hash; all that is known of requests outside a shared scope is zero.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Principal(pub u64);

/// Names the tenants.
#[derive(Clone)]
pub struct Tenants {
    rule: ScopeRule,
    key: [u8; 32],
}

/// Whose answers a request may share: an opaque proof, made by [`Tenants`] alone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    bytes: [u8; 32],
    tenant: Arc<str>,
}

// === impl Tenants ===

impl Tenants {
    /// Tenants by `rule`, hashed under `key` (see [`tenant_key`]).
    pub const fn new(rule: ScopeRule, key: [u8; 32]) -> Self {
        Self { rule, key }
    }

    /// The scope of a request with these headers.
    ///
    /// By credential: everything in the headers that names a client counts, each with all its
    /// values; requests without any share one anonymous scope. By header: `None` when the header is
    /// absent or empty; such a request must bypass the cache.
    pub fn scope(&self, headers: &HeaderMap) -> Option<Scope> {
        match &self.rule {
            ScopeRule::Shared => Some(self.hash("shared", &[])),
            ScopeRule::Header(name) => {
                let values: Vec<_> = headers.get_all(name).iter().collect();
                if values.iter().all(|value| value.is_empty()) {
                    return None;
                }
                let pairs: Vec<_> =
                    values.iter().map(|value| (name.as_str(), value.as_bytes())).collect();
                Some(self.hash("header", &pairs))
            }
            ScopeRule::Credential => {
                let mut named = named(headers);
                // Nearly everybody has one: no list of it, nothing to sort.
                let scope = match (named.next(), named.next()) {
                    (one, None) => self.hash("credential", one.as_slice()),
                    _ => self.hash("credential", &credentials(headers)),
                };
                Some(scope)
            }
        }
    }

    /// Who of those that share a scope this is: by credential, without one by address.
    pub fn principal(&self, headers: &HeaderMap, address: Option<IpAddr>) -> Principal {
        if self.rule != ScopeRule::Shared {
            return Principal::default();
        }
        let mut pairs = credentials(headers);
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        if pairs.is_empty() {
            pairs.push(("", address.as_bytes()));
        }
        let [a, b, c, d, e, f, g, h, ..] = *self.digest("principal", &pairs).as_bytes();
        Principal(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    fn hash(&self, rule: &str, pairs: &[(&str, &[u8])]) -> Scope {
        let digest = self.digest(rule, pairs);
        // Half of it, in a name that people copy.
        let tenant = Line::of_hex(&digest.as_bytes()[..16]).as_str().into();
        Scope { bytes: *digest.as_bytes(), tenant }
    }

    fn digest(&self, rule: &str, pairs: &[(&str, &[u8])]) -> blake3::Hash {
        let mut frames = Frames::keyed(self.key);
        frames.piece(b"reprise scope 1");
        frames.piece(rule.as_bytes());
        for (name, value) in pairs {
            frames.piece(name.as_bytes());
            frames.piece(value);
        }
        frames.finish()
    }
}

impl fmt::Debug for Tenants {
    /// Never prints the key.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tenants").field("rule", &self.rule).finish_non_exhaustive()
    }
}

/// Everything in the headers that names a client, in an order of its own.
fn credentials(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    let mut pairs: Vec<_> = named(headers).collect();
    // By name, so that the order of a client's headers does not matter; stable, so that the order of
    // one header's values does.
    pairs.sort_by_key(|(name, _)| *name);
    pairs
}

/// The same in the headers' order.
fn named(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    let all = headers.iter().filter(|(name, _)| is_credential(name));
    all.map(|(name, value)| (name.as_str(), value.as_bytes()))
}

fn is_credential(name: &HeaderName) -> bool {
    let name = name.as_str();
    (bears_a_mark(name.as_bytes()) && !NOT_CREDENTIALS.contains(&name)) || ACCOUNTS.contains(&name)
}

/// Parts of a header's name that mark its value as a credential. Wider than `Authorization` and
/// `x-api-key` on purpose: a header too many costs hits, a header too few shows one client's
/// answers to another. One pass over the name: this runs for every header of every request.
fn bears_a_mark(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((first, behind)) = rest.split_first() {
        let marked = match first {
            b'a' => behind.starts_with(b"uth"),
            b'c' => behind.starts_with(b"ookie") || behind.starts_with(b"redential"),
            b'j' => behind.starts_with(b"wt"),
            b'k' => behind.starts_with(b"ey"),
            b's' => behind.starts_with(b"ecret"),
            b't' => behind.starts_with(b"oken"),
            _ => false,
        };
        if marked {
            return true;
        }
        rest = behind;
    }
    false
}

// === impl Scope ===

impl Scope {
    /// The tenant's public name, 32 hexadecimal digits: the same in all its namespaces.
    pub fn tenant(&self) -> Arc<str> {
        self.tenant.clone()
    }

    /// A compartment of this scope. Different names never share answers, nor does a namespace with
    /// its parent.
    #[must_use]
    pub fn in_namespace(&self, name: &str) -> Self {
        let mut frames = Frames::keyed(self.bytes);
        frames.piece(b"reprise namespace 1");
        frames.piece(name.as_bytes());
        Self { bytes: frames.finish().into(), tenant: self.tenant.clone() }
    }

    /// For hashing into keys. Two scopes are the same exactly when these are.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl fmt::Debug for Scope {
    /// Enough to tell scopes apart in a log, too little to be one.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.bytes;
        write!(out, "Scope({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

// === the key ===

/// Reads the tenants' key from `path`, or makes it there: 32 random bytes that only their owner may
/// read. Of several processes that start at once, all get the same key.
///
/// Errors name the file: unreadable, not creatable, or of another length, which is never repaired:
/// a new key would orphan every stored entry.
pub fn tenant_key(path: &Path) -> io::Result<[u8; 32]> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("the tenants' key {}: {error}", path.display()))
    };
    match read_key(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_key(path).and_then(|()| read_key(path)).map_err(named)
        }
        other => other.map_err(named),
    }
}

fn read_key(path: &Path) -> io::Result<[u8; 32]> {
    let found = fs::read(path)?;
    let key = found.as_slice().try_into().map_err(|_| {
        let length = found.len();
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("expected 32 bytes, found {length}; restore it, or remove it with the store"),
        )
    })?;
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others may read the tenants' key: chmod 600 it");
    }
    Ok(key)
}

/// Puts a whole new key at `path`, unless somebody else was first.
fn make_key(path: &Path) -> io::Result<()> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{:016x}", u64::from_ne_bytes(random_name()?)));
    let draft = Path::new(&draft);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft).and_then(
        |mut file| {
            file.write_all(&key)?;
            file.sync_all()
        },
    );
    // A link, not a rename: it fails when the name is taken, so the first process wins and nobody
    // ever reads half a key.
    let placed = written.and_then(|()| match fs::hard_link(draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let removed = fs::remove_file(draft);
    placed.and(removed)
}

fn random_name() -> io::Result<[u8; 8]> {
    let mut name = [0; 8];
    getrandom::fill(&mut name).map_err(io::Error::other)?;
    Ok(name)
}

#[cfg(test)]
mod tests;
