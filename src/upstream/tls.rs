//! TLS towards upstreams: whom to trust, and who we are.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::aws_lc_rs};

use super::OpenError;
use crate::{config, pem};

/// HTTP/2 first: one connection then carries many streams. HTTP/1.1 is what the rest speaks.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Sessions remembered for resumption, over all replicas of an upstream. A replica needs one; TLS
/// 1.3 tickets are single-use, so a burst of new connections wants several.
const SESSIONS: usize = 256;

/// The client side for one upstream, exchangeable when its files change.
#[derive(Debug)]
pub(super) struct ClientTls {
    settings: Files,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ClientConfig>,
    /// Of all files, taken before they were read.
    files: blake3::Hash,
}

/// `upstream.ca`, `.cert` and `.key`.
#[derive(Debug)]
struct Files {
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl ClientTls {
    /// What `settings` says, with the system's roots where it names none.
    pub(super) fn open(settings: &config::Upstream) -> Result<Self, OpenError> {
        let identity = settings.cert.clone().zip(settings.key.clone());
        let settings = Files { ca: settings.ca.clone(), identity };
        let current = ArcSwap::from_pointee(settings.load()?);
        Ok(Self { settings, current })
    }

    /// What the next handshake uses.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// Takes over files that have changed; `None` when none has. `refused` is what they held when
    /// they were last found wanting.
    pub(super) fn look(&self, refused: &mut Option<blake3::Hash>) -> Option<Result<(), OpenError>> {
        let found = pem::digest(self.settings.all());
        if found == self.current.load().files || *refused == Some(found) {
            return None;
        }
        let loaded = self.settings.load().map(|loaded| self.current.store(Arc::new(loaded)));
        *refused = loaded.is_err().then_some(found);
        Some(loaded)
    }
}

impl Files {
    fn all(&self) -> impl Iterator<Item = &Path> {
        let identity = self.identity.iter().flat_map(|(cert, key)| [cert, key]);
        self.ca.iter().chain(identity).map(PathBuf::as_path)
    }

    fn load(&self) -> Result<Loaded, OpenError> {
        let files = pem::digest(self.all());
        let roots = match &self.ca {
            Some(path) => pem::roots("upstream.ca", path)?,
            None => system_roots()?,
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(OpenError::Tls)?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            Some((cert, key)) => builder
                .with_client_auth_cert(
                    pem::chain("upstream.cert", cert)?,
                    pem::secret("upstream.key", key)?,
                )
                .map_err(OpenError::Tls)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        // 0-RTT can be replayed by whoever records it, and a prompt is paid for.
        config.enable_early_data = false;
        Ok(Loaded { config: Arc::new(config), files })
    }
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
