//! Who may write: a proof that handlers demand as an argument.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, header, request::Parts},
};

use super::{Admin, refusal::Refusal};

/// The configured token, hashed: a comparison of BLAKE3 hashes takes the same time whatever is
/// compared, and so does not tell how much of a guess was right, or how long the token is.
#[derive(Clone, Copy)]
pub(super) struct Token(blake3::Hash);

impl Token {
    pub(super) fn new(text: &str) -> Self {
        Self(blake3::hash(text.as_bytes()))
    }

    fn is(&self, guess: &str) -> bool {
        self.0 == blake3::hash(guess.as_bytes())
    }
}

/// Proof that the request may write. Only extracting it from a request makes one.
pub(super) struct Writer {
    /// Where it came from.
    pub(super) peer: SocketAddr,
}

impl Writer {
    /// Writes down what was done, target `audit`: always logged, whatever the level.
    pub(super) fn audit(&self, action: &'static str, subject: &str, removed: u64) {
        tracing::info!(target: "audit", action, subject, removed, peer = %self.peer);
    }
}

impl FromRequestParts<Admin> for Writer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Refusal> {
        let peer = parts.extensions.get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| *peer);
        // Who cannot be placed is not from here.
        let peer = peer.ok_or(Refusal::NOT_LOCAL)?;
        authorize(admin.token.as_ref(), peer, &parts.headers)?;
        Ok(Self { peer })
    }
}

/// Whether the request could write, for handlers that show more to those who may.
pub(super) struct MayWrite(pub(super) bool);

impl FromRequestParts<Admin> for MayWrite {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Infallible> {
        Ok(Self(Writer::from_request_parts(parts, admin).await.is_ok()))
    }
}

fn authorize(token: Option<&Token>, peer: SocketAddr, headers: &HeaderMap) -> Result<(), Refusal> {
    if crosses_sites(headers) {
        return Err(Refusal::CROSS_SITE);
    }
    let Some(token) = token else {
        // A name that an attacker points at 127.0.0.1 (DNS rebinding) makes a browser on this
        // machine send his requests from here, same-origin: his name is then in `Host`.
        return match peer.ip().to_canonical().is_loopback() && names_no_domain(headers) {
            true => Ok(()),
            false => Err(Refusal::NOT_LOCAL),
        };
    };
    let given = headers.get(header::AUTHORIZATION).ok_or(Refusal::TOKEN_NEEDED)?;
    let given = given.to_str().ok().and_then(|text| text.split_once(' '));
    match given {
        Some((scheme, guess)) if scheme.eq_ignore_ascii_case("bearer") => {
            token.is(guess.trim()).then_some(()).ok_or(Refusal::TOKEN_WRONG)
        }
        _ => Err(Refusal::TOKEN_NEEDED),
    }
}

/// Whether a browser says that a page of another site sent this. Browsers of today say it in
/// `Sec-Fetch-Site`, which no page can set; older ones only send `Origin`.
fn crosses_sites(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match (origin, host) {
        (Some((_, from)), Some(host)) => !from.eq_ignore_ascii_case(host),
        _ => true,
    }
}

/// Whether `Host` is an address or `localhost`: names that nobody else can point here.
fn names_no_domain(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "127.0.0.1:5000";
    const THERE: &str = "192.0.2.7:5000";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (name.parse().unwrap(), header::HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn outcome(
        token: Option<&str>,
        peer: &str,
        pairs: &[(&'static str, &'static str)],
    ) -> &'static str {
        let token = token.map(Token::new);
        match authorize(token.as_ref(), peer.parse().unwrap(), &headers(pairs)) {
            Ok(()) => "allowed",
            Err(refusal) => refusal.code,
        }
    }

    #[test]
    fn without_a_token_only_this_machine_writes() {
        let host = ("host", "127.0.0.1:9090");
        assert_eq!(outcome(None, HERE, &[host]), "allowed");
        assert_eq!(outcome(None, "[::1]:5000", &[("host", "[::1]:9090")]), "allowed");
        assert_eq!(outcome(None, "[::ffff:127.0.0.1]:5000", &[host]), "allowed");
        assert_eq!(outcome(None, HERE, &[("host", "localhost:9090")]), "allowed");
        assert_eq!(outcome(None, THERE, &[host]), "not_local");
        // A bearer that nobody asked for proves nothing.
        assert_eq!(outcome(None, THERE, &[host, ("authorization", "Bearer x")]), "not_local");
    }

    #[test]
    fn without_a_token_a_foreign_host_name_is_refused() {
        assert_eq!(outcome(None, HERE, &[("host", "evil.example:9090")]), "not_local");
        assert_eq!(outcome(None, HERE, &[("host", "localhost.evil.example")]), "not_local");
        assert_eq!(outcome(None, HERE, &[]), "not_local");
    }

    #[test]
    fn with_a_token_everybody_needs_it() {
        let with = |value: &'static str| {
            outcome(Some("s3cret"), THERE, &[("host", "reprise:9090"), ("authorization", value)])
        };
        assert_eq!(with("Bearer s3cret"), "allowed");
        assert_eq!(with("bearer s3cret"), "allowed");
        assert_eq!(with("Bearer s3cre"), "token_wrong");
        assert_eq!(with("Bearer "), "token_wrong");
        assert_eq!(with("Basic s3cret"), "token_needed");
        assert_eq!(with("s3cret"), "token_needed");
        assert_eq!(outcome(Some("s3cret"), HERE, &[("host", "127.0.0.1")]), "token_needed");
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let from = |pairs: &[(&'static str, &'static str)]| {
            let mut all = vec![("host", "127.0.0.1:9090")];
            all.extend_from_slice(pairs);
            outcome(None, HERE, &all)
        };
        assert_eq!(from(&[("sec-fetch-site", "cross-site")]), "cross_site");
        assert_eq!(from(&[("sec-fetch-site", "same-site")]), "cross_site");
        assert_eq!(from(&[("sec-fetch-site", "same-origin")]), "allowed");
        assert_eq!(from(&[("sec-fetch-site", "none")]), "allowed");
        assert_eq!(from(&[("origin", "http://127.0.0.1:9090")]), "allowed");
        assert_eq!(from(&[("origin", "http://127.0.0.1:8000")]), "cross_site");
        assert_eq!(from(&[("origin", "https://evil.example")]), "cross_site");
        assert_eq!(from(&[("origin", "null")]), "cross_site");
        let token = [("authorization", "Bearer t"), ("host", "a"), ("origin", "http://b")];
        assert_eq!(outcome(Some("t"), HERE, &token), "cross_site");
    }
}
