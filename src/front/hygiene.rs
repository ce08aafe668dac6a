//! What may pass a proxy: pure functions on heads.
//!
//! hyper already refuses malformed framing (`Content-Length` beside `Transfer-Encoding`, unknown
//! codings, differing lengths). What it lets through, a proxy must still not: this is that list.
//!
//! The order matters. [`request`] comes first, so that everything after it (tenant, key, upstream)
//! sees the same headers; [`strip_control`] and [`strip_cache_control`] come last, when those
//! headers have done their work. [`response`] is for the way back.

use std::{fmt::Write as _, net::IpAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::Peer;
use crate::{
    config::Trusted,
    fault::{Fault, Kind},
    line::Line,
};

/// Prefix of our own control and report headers.
pub const OURS: &str = "x-reprise-";

/// Headers that concern one connection only (RFC 9110 section 7.6.1, with those that were used so
/// before it and the two of h2c upgrades, RFC 7540 section 3.2).
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers in which a client could claim to be somebody else, beside everything that begins with
/// `x-forwarded-`.
const IDENTITY: [&str; 2] = ["forwarded", "x-real-ip"];
const FORWARDED: &str = "x-forwarded-";

/// Headers that `Connection` may not take away: without them a message means something else, or
/// reaches somebody else, than was checked.
const NEVER_NOMINATED: [HeaderName; 4] =
    [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Checks a request and makes it fit to be read and forwarded, or says why not.
///
/// Afterwards the target is in origin form (`/path?query`), there is exactly one `Host`, nothing
/// that concerns the client's connection is left but `TE: trailers` (which an HTTP/1 upstream must
/// not get) and `Expect`, and `X-Forwarded-For`, `-Host` and `-Proto` say what we saw; behind what a
/// `trusted` proxy says that it saw.
///
/// Errors: [`Kind::BadRequest`], [`Kind::MethodNotAllowed`].
pub fn request(parts: &mut Parts, peer: &Peer, trusted: &Trusted) -> Result<(), Fault> {
    method(&parts.method)?;
    let host = host(parts)?;
    if let Some(origin) = target(&parts.uri)? {
        parts.uri = origin;
    }
    content_length(&parts.headers)?;
    let trailers = wants_trailers(&parts.headers);
    strip_hop_by_hop(&mut parts.headers);
    let told = match trusted.covers(peer.address().map(|address| address.ip())) {
        true => Told::by(&parts.headers),
        false => Told::default(),
    };
    strip_lookalikes(&mut parts.headers);
    if trailers {
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if parts.headers.get(header::HOST) != Some(&host) {
        parts.headers.insert(header::HOST, host.clone());
    }
    parts.headers.insert(X_FORWARDED_HOST, told.host.unwrap_or(host));
    forwarded(&mut parts.headers, peer, told.proto, told.chain);
    if let Some(line) = told.forwarded {
        parts.headers.insert(header::FORWARDED, line);
    }
    Ok(())
}

/// What a trusted proxy says of its client.
#[derive(Default)]
struct Told {
    host: Option<HeaderValue>,
    proto: Option<HeaderValue>,
    /// `X-Forwarded-For`, all its lines in one.
    chain: Vec<u8>,
    /// `Forwarded` (RFC 7239), all its lines in one. It goes on as it came: the proxy said it, and
    /// what we saw stands in the other headers.
    forwarded: Option<HeaderValue>,
}

impl Told {
    fn by(headers: &HeaderMap) -> Self {
        let joined = |name: HeaderName| {
            let lines: Vec<_> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            lines.join(&b", "[..])
        };
        let chain = joined(X_FORWARDED_FOR);
        let forwarded = joined(header::FORWARDED);
        Self {
            host: headers.get(X_FORWARDED_HOST).cloned(),
            proto: headers.get(X_FORWARDED_PROTO).cloned(),
            chain,
            forwarded: HeaderValue::from_bytes(&forwarded).ok().filter(|line| !line.is_empty()),
        }
    }
}

/// Makes a response from an upstream fit for the client.
pub fn response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    // The upstream's other endpoints are not ours: a client that followed would leave the proxy.
    headers.remove(header::ALT_SVC);
    // Our reports are ours alone.
    strip_ours(headers);
}

/// Removes what only we were meant to read: `x-reprise-*`, and `Expect`, which was answered when
/// the body was read.
pub fn strip_control(headers: &mut HeaderMap) {
    headers.remove(header::EXPECT);
    strip_ours(headers);
}

/// Removes the client's words to the cache, on requests that the cache has handled. On others they
/// are for whoever is behind us.
pub fn strip_cache_control(headers: &mut HeaderMap) {
    headers.remove(header::CACHE_CONTROL);
    headers.remove(header::PRAGMA);
}

fn bad(message: &'static str) -> Fault {
    Fault::new(Kind::BadRequest, message)
}

// === the request line ===

/// `CONNECT` would make an open proxy of us; `TRACE` echoes credentials (RFC 9110 section 9.3.8).
/// Methods that we do not know pass: the upstream may.
fn method(method: &Method) -> Result<(), Fault> {
    if *method == Method::CONNECT || *method == Method::TRACE {
        return Err(Fault::new(
            Kind::MethodNotAllowed,
            format!("{method} is not for a proxy in front of a model server"),
        ));
    }
    Ok(())
}

/// Whom the request is for. The target's authority wins over `Host` (RFC 9112 section 3.2.2): an
/// upstream that read the other one would serve another site.
fn host(parts: &Parts) -> Result<HeaderValue, Fault> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("more than one Host header"));
    }
    if let Some(host) = host.filter(|host| !is_plain(host.as_bytes())) {
        let parsed = Authority::try_from(host.as_bytes());
        sound(&parsed.map_err(|_| bad("the Host header is not a host name and port"))?)?;
    }
    match (parts.uri.authority(), host) {
        (Some(_), None) if parts.version < Version::HTTP_2 => Err(bad("no Host header")),
        // HTTP/2 has `:authority` for it.
        (Some(target), _) => {
            sound(target)?;
            HeaderValue::from_str(target.as_str())
                .map_err(|_| bad("the Host header holds bytes that no host name has"))
        }
        (None, Some(host)) => Ok(host.clone()),
        (None, None) => Err(bad("no Host header")),
    }
}

/// A name or an address of letters, digits, dots and hyphens, maybe with a port: what nearly every `Host`
/// is, seen without parsing it.
fn is_plain(host: &[u8]) -> bool {
    let name = host.iter().take_while(|byte| is_of_names(**byte)).count();
    let port = match host.get(name..) {
        Some([]) => return name > 0,
        Some([b':', port @ ..]) => port,
        _ => return false,
    };
    // Four digits are always a port; of five, only some.
    name > 0 && (1..=4).contains(&port.len()) && port.iter().all(u8::is_ascii_digit)
}

const fn is_of_names(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')
}

/// A host, maybe a port, nothing else.
fn sound(authority: &Authority) -> Result<(), Fault> {
    if authority.as_str().contains('@') {
        return Err(bad("the target holds a user name or a password"));
    }
    let rest = authority.as_str().strip_prefix(authority.host());
    let port_is_good = match rest {
        Some("" | ":") => true,
        Some(port) => port.starts_with(':') && authority.port_u16().is_some(),
        None => false,
    };
    if authority.host().is_empty() || !port_is_good {
        return Err(bad("the Host header is not a host name and port"));
    }
    Ok(())
}

/// The target in origin form, where it is not.
fn target(uri: &Uri) -> Result<Option<Uri>, Fault> {
    if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(bad("the target's scheme is neither http nor https"));
    }
    if has_dot_segment(uri.path()) {
        // Routes are chosen by prefix: `/public/../admin` would be checked as one path and served
        // as another.
        return Err(bad("the path holds a `.` or `..` segment"));
    }
    let origin = match uri.path_and_query() {
        Some(target) if target.as_str().starts_with('/') => {
            if uri.scheme().is_none() && uri.authority().is_none() {
                return Ok(None);
            }
            match target.as_str() {
                // `http://host#fragment`, whose path reads as `/` and is empty.
                "/" => PathAndQuery::from_static("/"),
                _ => target.clone(),
            }
        }
        // `http://host?query`, whose path is empty.
        Some(target) if target.as_str().starts_with('?') => {
            PathAndQuery::try_from(format!("/{}", target.as_str()))
                .map_err(|_| bad("the target is not a path"))?
        }
        _ => return Err(bad("the target is not a path")),
    };
    Ok(Some(Uri::from(origin)))
}

/// Is there a `.` or `..` between slashes, in whatever spelling?
fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| {
        let mut rest = segment;
        let mut dots = 0;
        while let Some(next) = [".", "%2e", "%2E"].iter().find_map(|dot| rest.strip_prefix(dot)) {
            rest = next;
            dots += 1;
        }
        rest.is_empty() && (dots == 1 || dots == 2)
    })
}

// === framing ===

/// At most one length, digits only. hyper has seen to HTTP/1; in HTTP/2 a second or a crooked one
/// would become an HTTP/1 upstream's framing.
fn content_length(headers: &HeaderMap) -> Result<(), Fault> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    let digits = length.as_bytes();
    if lengths.next().is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad("the Content-Length header is not one number"));
    }
    Ok(())
}

/// `TE: trailers` is the one coding that may travel on: gRPC demands it.
fn wants_trailers(headers: &HeaderMap) -> bool {
    members(headers, &header::TE).any(|member| member.eq_ignore_ascii_case(b"trailers"))
}

// === stripping ===

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have one of them or none, and a look-up of each name costs more than a look at each header.
    let found: Vec<HeaderName> =
        headers.keys().filter(|name| HOP_BY_HOP.contains(&name.as_str())).cloned().collect();
    if found.is_empty() {
        return;
    }
    let nominated: Vec<HeaderName> = members(headers, &header::CONNECTION)
        .filter_map(|member| HeaderName::from_bytes(member).ok())
        .filter(|name| !NEVER_NOMINATED.contains(name) && !name.as_str().starts_with(OURS))
        .collect();
    for name in nominated.into_iter().chain(found) {
        headers.remove(name);
    }
}

/// Removes claims of identity, and headers that some servers cannot tell from ones we set, strip or
/// check: CGI and WSGI read `X_Forwarded_For` as `X-Forwarded-For`.
fn strip_lookalikes(headers: &mut HeaderMap) {
    let unwanted: Vec<HeaderName> =
        headers.keys().filter(|name| is_unwanted(name.as_str())).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

fn is_unwanted(name: &str) -> bool {
    if !name.as_bytes().contains(&b'_') {
        return is_identity(name);
    }
    let plain = name.replace('_', "-");
    is_identity(&plain)
        || HOP_BY_HOP.contains(&plain.as_str())
        || NEVER_NOMINATED.iter().any(|never| *never == plain.as_str())
}

fn is_identity(name: &str) -> bool {
    name.starts_with(FORWARDED) || IDENTITY.contains(&name)
}

fn strip_ours(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(OURS)).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

/// Says who asked, in the words that upstreams read. A unix socket's peer has no address to tell.
fn forwarded(headers: &mut HeaderMap, peer: &Peer, proto: Option<HeaderValue>, mut chain: Vec<u8>) {
    let seen = HeaderValue::from_static(if peer.tls.is_some() { "https" } else { "http" });
    headers.insert(X_FORWARDED_PROTO, proto.unwrap_or(seen));
    let line = peer.address().map_or_else(Line::default, |address| written(address.ip()));
    let address = line.as_bytes();
    let whole = match (chain.is_empty(), address.is_empty()) {
        (true, _) => address,
        (false, true) => &chain,
        (false, false) => {
            chain.extend_from_slice(b", ");
            chain.extend_from_slice(address);
            &chain
        }
    };
    if let Some(chain) = HeaderValue::from_bytes(whole).ok().filter(|chain| !chain.is_empty()) {
        headers.insert(X_FORWARDED_FOR, chain);
    }
}

/// An address in text. The usual kind by hand: it is written for every request.
fn written(address: IpAddr) -> Line {
    let mut line = Line::default();
    match address {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    line.push(b".");
                }
                line.number(octet.into(), 1);
            }
        }
        // There is room for every address.
        IpAddr::V6(address) => drop(write!(line, "{address}")),
    }
    line
}

/// The members of a comma-separated header, over all its lines.
fn members<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests;
