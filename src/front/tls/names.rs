//! Which certificate a client sees: the one that bears the name it asked for.

use std::{fmt, sync::Arc};

use rustls::{
    client::verify_server_name,
    pki_types::ServerName,
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};

/// Certificates, the one for everybody else first.
pub(super) struct Certificates(Vec<Arc<CertifiedKey>>);

impl Certificates {
    pub(super) fn new(all: Vec<CertifiedKey>) -> Self {
        Self(all.into_iter().map(Arc::new).collect())
    }

    /// The first that bears `name`, by the rules by which a client would check it.
    fn bearing(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = ServerName::try_from(name).ok()?;
        self.0.iter().find(|one| {
            let leaf = one.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
            leaf.is_some_and(|leaf| verify_server_name(&leaf, &name).is_ok())
        })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // With one there is nothing to choose, and nothing to parse.
        let named = hello.server_name().filter(|_| self.0.len() > 1);
        named.and_then(|name| self.bearing(name)).or_else(|| self.0.first()).cloned()
    }
}

impl fmt::Debug for Certificates {
    /// Never prints a key.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Certificates({})", self.0.len())
    }
}
