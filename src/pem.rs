//! Certificates, keys and revocation lists out of PEM files, for both sides of the proxy.
//!
//! Every error names the setting and the file, and none of them ever holds a byte of a key.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem, pem::PemObject},
};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It is missing or may not be read.
    #[error("{key}: cannot read {}: {source}", path.display())]
    Read {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what its key says.
    #[error("{key}: {}: {problem}", path.display())]
    Content {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What was expected.
        problem: String,
    },
}

/// A certificate and its chain.
///
/// # Errors
/// A file that holds none.
pub fn chain(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let none = "no certificate inside: expected a PEM file with CERTIFICATE sections, the server's \
                first";
    sections(key, path, none)
}

/// A private key.
///
/// # Errors
/// A file that holds none.
pub fn secret(key: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(&read(key, path)?).map_err(|error| {
        let none = "no private key inside: expected a PEM file with a PRIVATE KEY section";
        content(key, path, &error, none)
    })
}

/// Certificates to trust.
///
/// # Errors
/// A file that holds none, or one that cannot be an anchor of trust.
pub fn roots(key: &'static str, path: &Path) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    let none = "it holds no certificate";
    for certificate in sections::<CertificateDer<'static>>(key, path, none)? {
        roots.add(certificate).map_err(|error| PemError::Content {
            key,
            path: path.into(),
            problem: error.to_string(),
        })?;
    }
    Ok(roots)
}

/// Lists of revoked certificates.
///
/// # Errors
/// A file that holds none.
pub fn revoked(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    sections(key, path, "no revocation list inside: expected a PEM file with X509 CRL sections")
}

/// What these files hold now, in one number: it changes when any of them does. A file that cannot
/// be read counts as one that holds nothing.
pub fn digest<'a>(paths: impl IntoIterator<Item = &'a Path>) -> blake3::Hash {
    let mut hash = blake3::Hasher::new();
    for path in paths {
        let bytes = std::fs::read(path).unwrap_or_default();
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    hash.finalize()
}

fn sections<T: PemObject>(key: &'static str, path: &Path, none: &str) -> Result<Vec<T>, PemError> {
    let text = read(key, path)?;
    let found = T::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| content(key, path, &error, none))?;
    if found.is_empty() {
        return Err(content(key, path, &pem::Error::NoItemsFound, none));
    }
    Ok(found)
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, PemError> {
    std::fs::read(path).map_err(|source| PemError::Read { key, path: path.into(), source })
}

fn content(key: &'static str, path: &Path, error: &pem::Error, none: &str) -> PemError {
    let problem = match error {
        pem::Error::NoItemsFound => none.to_owned(),
        other => format!("not a PEM file: {other}"),
    };
    PemError::Content { key, path: path.into(), problem }
}
