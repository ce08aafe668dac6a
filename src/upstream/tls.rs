//! TLS towards upstreams: whom to trust.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::OpenError;

/// HTTP/2 first: one connection then carries many streams. HTTP/1.1 is what the rest speaks.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Sessions remembered for resumption, over all replicas of an upstream. A replica needs one; TLS
/// 1.3 tickets are single-use, so a burst of new connections wants several.
const SESSIONS: usize = 256;

/// The client side for one upstream: the roots in `ca` (PEM), or the system's without it.
pub(super) fn client(ca: Option<&Path>) -> Result<Arc<ClientConfig>, OpenError> {
    let roots = match ca {
        Some(path) => given_roots(path)?,
        None => system_roots()?,
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(OpenError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    // 0-RTT can be replayed by whoever records it, and a prompt is paid for.
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

fn given_roots(path: &Path) -> Result<RootCertStore, OpenError> {
    let unusable = |why: String| OpenError::Roots { path: path.to_owned(), why };
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it holds no certificate".into()));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, OpenError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems ship roots that no strict parser takes; one of them must not cost all others.
    let (added, _ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found
            .errors
            .first()
            .map_or_else(|| "none is installed".into(), |error| error.to_string());
        return Err(OpenError::NoSystemRoots { why });
    }
    Ok(roots)
}
