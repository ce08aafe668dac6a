//! The server side of TLS: certificates from PEM files, TLS 1.2 and 1.3 by rustls on aws-lc-rs.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache},
    sign::CertifiedKey,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::config::{Tls, TlsVersion};

/// Names that a self-signed certificate is good for.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What a handshake settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// The protocol version.
    pub version: TlsVersion,
    /// The application protocol, where the client offered any.
    pub alpn: Option<Alpn>,
}

/// The application protocols that we offer, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2.
    H2,
    /// HTTP/1.1.
    Http11,
}

/// Why certificates cannot be used. Each message names the file and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or may not be read.
    #[error("{key}: cannot read {}: {source}", path.display())]
    Read {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what its key says.
    #[error("{key}: {}: {problem}", path.display())]
    Content {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What was expected.
        problem: String,
    },
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

/// What every handshake uses.
#[derive(Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Loads what `tls` names. `connections` sizes the session cache.
    pub fn new(tls: &Tls, connections: usize) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates = Certificates::new(load(tls, &provider)?);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(tls.min_version))
            .map_err(library)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Resumption: stateless tickets under keys that rotate every six hours and die after
        // twelve; a session cache for TLS 1.2 clients that do not take tickets. rustls's own cache
        // holds 256 sessions, far below what a busy front sees between two visits of one client.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(library)?;
        config.session_storage = ServerSessionMemoryCache::new(connections);
        config.send_tls13_tickets = 2;
        // 0-RTT data can be replayed by who recorded it, and every POST here costs money.
        config.max_early_data_size = 0;
        Ok(Self { config: Arc::new(config) })
    }

    /// The handshake. The caller bounds its time.
    pub(super) async fn accept<I>(&self, io: I) -> io::Result<(TlsStream<I>, TlsInfo)>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(Arc::clone(&self.config)).accept(io).await?;
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

/// The certificate that a handshake presents, exchangeable while others are under way.
struct Certificates {
    current: ArcSwap<CertifiedKey>,
}

impl Certificates {
    fn new(first: CertifiedKey) -> Self {
        Self { current: ArcSwap::from_pointee(first) }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Certificates")
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// Best first.
fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match oldest {
        TlsVersion::V12 => rustls::ALL_VERSIONS,
        TlsVersion::V13 => TLS13_ALONE,
    }
}

static TLS13_ALONE: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn load(tls: &Tls, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    if tls.self_signed {
        return self_signed(provider);
    }
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else { return Err(TlsError::Unset) };
    from_files(cert, key, provider)
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
    let chain = read("tls.cert", cert)?;
    let chain = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content("tls.cert", cert, &error))?;
    if chain.is_empty() {
        return Err(content("tls.cert", cert, &pem::Error::NoItemsFound));
    }
    let secret = read("tls.key", key)?;
    let secret =
        PrivateKeyDer::from_pem_slice(&secret).map_err(|error| content("tls.key", key, &error))?;
    CertifiedKey::from_der(chain, secret, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { cert: cert.into(), key: key.into() }
        }
        rustls::Error::InvalidCertificate(why) => TlsError::Content {
            key: "tls.cert",
            path: cert.into(),
            problem: format!("the first certificate cannot be used: {why:?}"),
        },
        other => TlsError::Content {
            key: "tls.key",
            path: key.into(),
            problem: format!("the private key cannot be used: {other}"),
        },
    })
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { key, path: path.into(), source })
}

fn content(key: &'static str, path: &Path, error: &pem::Error) -> TlsError {
    let problem = match error {
        pem::Error::NoItemsFound if key == "tls.key" => {
            "no private key inside: expected a PEM file with a PRIVATE KEY section".into()
        }
        pem::Error::NoItemsFound => {
            "no certificate inside: expected a PEM file with CERTIFICATE sections, the server's \
             first"
                .into()
        }
        other => format!("not a PEM file: {other}"),
    };
    TlsError::Content { key, path: path.into(), problem }
}

fn library(error: rustls::Error) -> TlsError {
    TlsError::Library(error.to_string())
}

#[cfg(test)]
mod tests;
