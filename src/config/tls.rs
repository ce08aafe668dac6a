//! `[tls]`: our certificates, and whose clients need one.

use std::path::PathBuf;

use serde::Deserialize;

use super::units;

/// Server certificates.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM chain.
    #[serde(deserialize_with = "units::optional")]
    pub cert: Option<PathBuf>,
    /// PEM key.
    #[serde(deserialize_with = "units::optional")]
    pub key: Option<PathBuf>,
    /// More certificates, each for the names that it bears.
    #[serde(default)]
    pub certificates: Vec<Pair>,
    /// PEM roots that clients' certificates are checked against; without it none is asked for.
    #[serde(deserialize_with = "units::optional")]
    pub client_ca: Option<PathBuf>,
    /// PEM lists of revoked client certificates.
    #[serde(deserialize_with = "units::optional")]
    pub client_crl: Option<PathBuf>,
    /// Make a certificate for localhost at start.
    pub self_signed: bool,
    /// The oldest protocol version offered.
    pub min_version: TlsVersion,
    /// Application protocols that are offered, best first.
    pub alpn: Vec<Alpn>,
}

/// A certificate and its key.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// PEM chain.
    pub cert: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// An application protocol.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2.
    #[serde(rename = "h2")]
    H2,
    /// HTTP/1.1.
    #[serde(rename = "http/1.1")]
    Http11,
}

/// A TLS protocol version.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}
