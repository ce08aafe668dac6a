//! The server side of TLS: certificates from PEM files, TLS 1.2 and 1.3 by rustls on aws-lc-rs.

mod names;
mod watch;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{
        NoClientAuth, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions,
        WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use self::{names::Certificates, watch::Reloads};
pub use super::peer::TlsInfo;
pub use crate::config::Alpn;
use crate::{
    config::{Tls, TlsVersion},
    pem::{self, PemError},
};

/// Names that a self-signed certificate is good for.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why certificates cannot be used. Each message names the file and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] PemError),
    /// Both files are well-formed, but belong to different certificates.
    #[error("tls: the key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// `tls.cert`.
        cert: PathBuf,
        /// `tls.key`.
        key: PathBuf,
    },
    /// Neither files nor `self_signed`.
    #[error("tls: tls.cert and tls.key are not set")]
    Unset,
    /// The library refuses.
    #[error("tls: {0}")]
    Library(String),
}

/// What every handshake uses, exchangeable while others are under way.
#[derive(Debug)]
pub struct ServerTls {
    current: ArcSwap<Loaded>,
    /// Sessions remembered for resumption.
    sessions: usize,
    reloads: Reloads,
}

/// Settings whose files were read and found good.
#[derive(Debug)]
pub struct Loaded {
    config: Arc<ServerConfig>,
    settings: Tls,
    /// Of all files, taken before they were read.
    files: blake3::Hash,
    /// Of those that say which clients to trust.
    trust: blake3::Hash,
}

impl ServerTls {
    /// Loads what `tls` names. `connections` sizes the session cache.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub fn new(tls: &Tls, connections: usize) -> Result<Self, TlsError> {
        let loaded = Loaded::read(tls, connections, None)?;
        let current = ArcSwap::from_pointee(loaded);
        Ok(Self { current, sessions: connections, reloads: Reloads::default() })
    }

    /// Reads the files that `tls` names without using them yet.
    ///
    /// # Errors
    /// Files that cannot be used; nothing has changed then.
    pub fn load(&self, tls: &Tls) -> Result<Loaded, TlsError> {
        Loaded::read(tls, self.sessions, Some(&self.current.load()))
    }

    /// Every handshake from now on uses `loaded`; connections go on as they are.
    pub fn publish(&self, loaded: Loaded) {
        self.current.store(Arc::new(loaded));
    }

    /// Counts of files taken over and refused.
    pub const fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// The handshake. The caller bounds its time.
    pub(super) async fn accept<I>(&self, io: I) -> io::Result<(TlsStream<I>, TlsInfo)>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.current.load().config);
        let stream = TlsAcceptor::from(config).accept(io).await?;
        let session = stream.get_ref().1;
        let version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => TlsVersion::V13,
            _ => TlsVersion::V12,
        };
        let alpn = match session.alpn_protocol() {
            Some(b"h2") => Some(Alpn::H2),
            Some(_) => Some(Alpn::Http11),
            None => None,
        };
        Ok((stream, TlsInfo { version, alpn }))
    }
}

impl Loaded {
    /// `before` is what handshakes use now: its sessions stay good while the same clients are
    /// trusted, and a self-signed certificate stays the same.
    fn read(tls: &Tls, sessions: usize, before: Option<&Self>) -> Result<Self, TlsError> {
        let (files, trust) = (pem::digest(files(tls)), trust(tls));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let kept = before.filter(|before| tls.self_signed && before.settings.self_signed);
        let certificates = match kept {
            Some(before) => Arc::clone(&before.config.cert_resolver),
            None => Arc::new(Certificates::new(certificates(tls, &provider)?)),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions(tls.min_version))
            .map_err(library)?
            .with_client_cert_verifier(clients(tls, provider)?)
            .with_cert_resolver(certificates);
        config.alpn_protocols = tls.alpn.iter().map(|name| name.wire().to_vec()).collect();
        (config.ticketer, config.session_storage) = match before.filter(|it| it.trust == trust) {
            Some(before) => (before.config.ticketer.clone(), before.config.session_storage.clone()),
            None => resumption(sessions)?,
        };
        config.send_tls13_tickets = 2;
        // 0-RTT data can be replayed by who recorded it, and every POST here costs money.
        config.max_early_data_size = 0;
        Ok(Self { config: Arc::new(config), settings: tls.clone(), files, trust })
    }
}

type Resumption = (Arc<dyn ProducesTickets>, Arc<dyn StoresServerSessions>);

/// Stateless tickets under keys that rotate every six hours and die after twelve; a session cache
/// for TLS 1.2 clients that do not take tickets. rustls's own cache holds 256 sessions, far below
/// what a busy front sees between two visits of one client.
///
/// A resumed session brings its client's certificate along, unchecked: whoever trusts other clients
/// than before must begin with new ones.
fn resumption(sessions: usize) -> Result<Resumption, TlsError> {
    let tickets = aws_lc_rs::Ticketer::new().map_err(library)?;
    Ok((tickets, ServerSessionMemoryCache::new(sessions)))
}

/// Every file that `tls` names.
fn files(tls: &Tls) -> Vec<&Path> {
    let more = tls.certificates.iter().flat_map(|pair| [&pair.cert, &pair.key]);
    let one = [&tls.cert, &tls.key, &tls.client_ca, &tls.client_crl].into_iter().flatten();
    one.chain(more).map(PathBuf::as_path).collect()
}

/// What the settings say about whom to trust.
fn trust(tls: &Tls) -> blake3::Hash {
    pem::digest([&tls.client_ca, &tls.client_crl].into_iter().flatten().map(PathBuf::as_path))
}

/// Best first.
fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match oldest {
        TlsVersion::V12 => rustls::ALL_VERSIONS,
        TlsVersion::V13 => TLS13_ALONE,
    }
}

static TLS13_ALONE: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Which clients may connect. Where there are lists, each certificate of a chain must be covered by
/// one: a list that is missing must not let a revoked client in.
fn clients(
    tls: &Tls,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(ca) = &tls.client_ca else { return Ok(Arc::new(NoClientAuth)) };
    let roots = Arc::new(pem::roots("tls.client_ca", ca)?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    if let Some(lists) = &tls.client_crl {
        builder = builder.with_crls(pem::revoked("tls.client_crl", lists)?);
    }
    builder.build().map_err(|error| TlsError::Library(error.to_string()))
}

/// The certificate for whoever names no other comes first.
fn certificates(tls: &Tls, provider: &CryptoProvider) -> Result<Vec<CertifiedKey>, TlsError> {
    let mut all = Vec::new();
    if tls.self_signed {
        all.push(self_signed(provider)?);
    } else {
        let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else { return Err(TlsError::Unset) };
        all.push(from_files(cert, key, provider)?);
    }
    for pair in &tls.certificates {
        all.push(from_files(&pair.cert, &pair.key, provider)?);
    }
    Ok(all)
}

fn self_signed(provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let made = rcgen::generate_simple_self_signed(LOCAL_NAMES.map(String::from))
        .map_err(|error| TlsError::Library(error.to_string()))?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    CertifiedKey::from_der(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key), provider)
        .map_err(library)
}

fn from_files(
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let (chain, secret) = (pem::chain("tls.cert", cert)?, pem::secret("tls.key", key)?);
    CertifiedKey::from_der(chain, secret, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { cert: cert.into(), key: key.into() }
        }
        rustls::Error::InvalidCertificate(why) => TlsError::File(PemError::Content {
            key: "tls.cert",
            path: cert.into(),
            problem: format!("the first certificate cannot be used: {why:?}"),
        }),
        other => TlsError::File(PemError::Content {
            key: "tls.key",
            path: key.into(),
            problem: format!("the private key cannot be used: {other}"),
        }),
    })
}

fn library(error: rustls::Error) -> TlsError {
    TlsError::Library(error.to_string())
}

impl Alpn {
    /// Its name on the wire (RFC 7301).
    pub const fn wire(self) -> &'static [u8] {
        match self {
            Self::H2 => b"h2",
            Self::Http11 => b"http/1.1",
        }
    }
}

#[cfg(test)]
mod tests;
