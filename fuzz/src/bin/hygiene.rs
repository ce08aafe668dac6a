//! Whatever head comes in, what goes on is fit to be read: one host, one length, nothing of the
//! client's connection, no claim of another's identity; and clean heads stay as they are.
#![no_main]

use http::{HeaderName, HeaderValue, Method, Request, Uri, request::Parts};
use libfuzzer_sys::fuzz_target;
use reprise_fuzz::{
    config::Trusted,
    front::{Origin, Peer, hygiene},
};

/// A line with method and target, then lines of headers, as far as hyper would let them through.
fn head(bytes: &[u8]) -> Option<Parts> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(&first[..space]).ok()?;
    parts.uri = Uri::try_from(&first[space + 1..]).ok()?;
    for line in lines.take(64) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        parts.headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    Some(parts)
}

fn check(parts: &Parts) {
    let one = |name: &str| parts.headers.get_all(name).iter().count();
    assert!(parts.uri.authority().is_none() && parts.uri.path().starts_with('/'));
    assert_eq!((one("host"), one("x-forwarded-host"), one("x-forwarded-proto")), (1, 1, 1));
    assert_eq!(parts.headers["x-forwarded-for"], "192.0.2.1");
    assert!(one("content-length") <= 1);
    for name in ["connection", "transfer-encoding", "upgrade", "forwarded", "keep-alive"] {
        assert_eq!(one(name), 0, "{name}");
    }
    assert!(parts.headers.get("te").is_none_or(|te| te == "trailers"));
    for name in parts.headers.keys().map(HeaderName::as_str).filter(|name| name.contains('_')) {
        let plain = name.replace('_', "-");
        assert!(!plain.starts_with("x-forwarded-") && plain != "transfer-encoding", "{name}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some(mut parts) = head(bytes) else { return };
    let peer = Peer { origin: Origin::Tcp("192.0.2.1:1".parse().unwrap()), tls: None };
    if hygiene::request(&mut parts, &peer, &Trusted::default()).is_err() {
        return;
    }
    check(&parts);
    let mut again = parts.clone();
    assert!(hygiene::request(&mut again, &peer, &Trusted::default()).is_ok());
    assert_eq!((&again.uri, &again.headers), (&parts.uri, &parts.headers));
    hygiene::strip_control(&mut parts.headers);
    hygiene::response(&mut parts.headers);
    assert!(parts.headers.keys().all(|name| !name.as_str().starts_with(hygiene::OURS)));
});
