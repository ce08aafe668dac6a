use http::Request;
use proptest::prelude::*;

use super::*;
use crate::front::Origin;

fn peer() -> Peer {
    Peer { origin: Origin::Tcp(([192, 0, 2, 7], 4711).into()), tls: None }
}

/// A head as hyper gives it to us; `Host: a` unless a `host` is among the headers.
fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "a");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn passed(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut parts = head(method, target, headers);
    request(&mut parts, &peer(), &Trusted::default()).unwrap();
    parts
}

fn refused(mut parts: Parts) -> Fault {
    request(&mut parts, &peer(), &Trusted::default()).unwrap_err()
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

/// The same from a proxy that we trust.
fn believed(headers: &[(&str, &str)]) -> Parts {
    let trusted = Trusted { networks: vec!["192.0.2.0/24".parse().unwrap()], ..Trusted::default() };
    let mut parts = head("GET", "/", headers);
    request(&mut parts, &peer(), &trusted).unwrap();
    parts
}

#[test]
fn a_trusted_proxys_word_counts_and_ours_comes_behind_it() {
    let headers = [
        ("x-forwarded-for", "203.0.113.9, 10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "api.example"),
        ("forwarded", "for=203.0.113.9;proto=https"),
        ("x-real-ip", "203.0.113.9"),
    ];
    let parts = believed(&headers);
    assert_eq!(values(&parts.headers, "x-forwarded-for"), ["203.0.113.9, 10.0.0.1, 192.0.2.7"]);
    assert_eq!(values(&parts.headers, "x-forwarded-proto"), ["https"]);
    assert_eq!(values(&parts.headers, "x-forwarded-host"), ["api.example"]);
    assert_eq!(values(&parts.headers, "forwarded"), ["for=203.0.113.9;proto=https"]);
    assert!(values(&parts.headers, "x-real-ip").is_empty());
    let strangers = passed("GET", "/", &headers);
    assert_eq!(values(&strangers.headers, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(values(&strangers.headers, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&strangers.headers, "x-forwarded-host"), ["a"]);
    assert!(values(&strangers.headers, "forwarded").is_empty());
    assert_eq!(values(&believed(&[]).headers, "x-forwarded-for"), ["192.0.2.7"]);
}

// === one test a row ===

#[test]
fn no_host_is_refused() {
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        let mut parts = head("GET", "/", &[]);
        parts.headers.remove("host");
        parts.version = version;
        assert_eq!(refused(parts).kind, Kind::BadRequest);
    }
}

#[test]
fn an_absolute_target_does_not_stand_in_for_host_in_http_1() {
    let mut parts = head("GET", "http://a/", &[]);
    parts.headers.remove("host");
    assert_eq!(refused(parts).kind, Kind::BadRequest);
}

#[test]
fn http_2s_authority_stands_in_for_host() {
    let mut parts = head("GET", "https://a.example/x", &[]);
    parts.headers.remove("host");
    parts.version = Version::HTTP_2;
    request(&mut parts, &peer(), &Trusted::default()).unwrap();
    assert_eq!(values(&parts.headers, "host"), ["a.example"]);
    assert_eq!(parts.uri, "/x");
}

#[test]
fn two_hosts_are_refused_even_when_they_agree() {
    assert_eq!(refused(head("GET", "/", &[("host", "a"), ("host", "b")])).kind, Kind::BadRequest);
    assert_eq!(refused(head("GET", "/", &[("host", "a"), ("host", "a")])).kind, Kind::BadRequest);
}

#[test]
fn a_crooked_host_is_refused() {
    for host in ["", "a b", "a/b", "u@a", "a:b", "a:99999", "a,b:80x", "[::1", "a#b", ":80"] {
        let fault = refused(head("GET", "/", &[("host", host)]));
        assert_eq!(fault.kind, Kind::BadRequest, "{host}");
    }
    for host in ["a", "a:80", "a:", "[::1]", "[::1]:80", "192.0.2.1:8080", "a_b.example"] {
        assert_eq!(values(&passed("GET", "/", &[("host", host)]).headers, "host"), [host]);
    }
}

#[test]
fn an_absolute_targets_authority_wins() {
    let parts = passed("POST", "http://evil.example:81/v1/x?y=1", &[("host", "a")]);
    assert_eq!(values(&parts.headers, "host"), ["evil.example:81"]);
    assert_eq!(values(&parts.headers, "x-forwarded-host"), ["evil.example:81"]);
    assert_eq!(parts.uri, "/v1/x?y=1");
}

#[test]
fn an_absolute_target_without_a_path_gets_one() {
    assert_eq!(passed("GET", "http://a", &[]).uri, "/");
    assert_eq!(passed("GET", "http://a?x=1", &[]).uri, "/?x=1");
    assert_eq!(passed("GET", "http://a#x", &[]).uri.path(), "/");
}

#[test]
fn other_schemes_and_credentials_in_the_target_are_refused() {
    assert_eq!(refused(head("GET", "ftp://a/x", &[])).kind, Kind::BadRequest);
    assert_eq!(refused(head("GET", "http://user:secret@a/x", &[])).kind, Kind::BadRequest);
}

#[test]
fn connect_and_trace_are_not_allowed() {
    assert_eq!(refused(head("CONNECT", "a:443", &[])).kind, Kind::MethodNotAllowed);
    assert_eq!(refused(head("TRACE", "/", &[])).kind, Kind::MethodNotAllowed);
}

#[test]
fn methods_that_we_do_not_know_pass() {
    assert_eq!(passed("PROPFIND", "/x", &[]).method.as_str(), "PROPFIND");
}

#[test]
fn an_asterisk_is_refused() {
    assert_eq!(refused(head("OPTIONS", "*", &[])).kind, Kind::BadRequest);
}

#[test]
fn dot_segments_are_refused_in_every_spelling() {
    for path in ["/..", "/a/../b", "/a/./b", "/a/%2e%2E/b", "/.%2e", "/a/%2e", "/a/.."] {
        assert_eq!(refused(head("GET", path, &[])).kind, Kind::BadRequest, "{path}");
    }
    for path in ["/...", "/a..b", "/.well-known/x", "/a/..b", "/v1.0/x", "/x?y=../z", "/%2e%2ex"] {
        assert_eq!(passed("GET", path, &[]).uri, path);
    }
}

#[test]
fn upgrades_are_stripped() {
    let headers = passed(
        "GET",
        "/",
        &[
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
        ],
    )
    .headers;
    assert!(!headers.contains_key("upgrade"));
    assert!(!headers.contains_key("http2-settings"));
    assert!(!headers.contains_key("connection"));
}

#[test]
fn an_http2_settings_that_connection_does_not_name_is_stripped_too() {
    assert!(!passed("GET", "/", &[("http2-settings", "x")]).headers.contains_key("http2-settings"));
}

#[test]
fn nominated_headers_are_stripped_over_several_lines() {
    let headers = passed(
        "GET",
        "/",
        &[
            ("connection", "close, X-Foo ,,"),
            ("connection", "authorization"),
            ("x-foo", "1"),
            ("x-bar", "2"),
            ("authorization", "Bearer a"),
        ],
    )
    .headers;
    assert!(!headers.contains_key("x-foo"));
    assert!(!headers.contains_key("authorization"));
    assert_eq!(values(&headers, "x-bar"), ["2"]);
}

#[test]
fn connection_cannot_take_away_what_the_message_stands_on_or_what_is_ours() {
    let headers = passed("POST", "/", &[
        (
            "connection",
            "host, content-length, content-type, content-encoding, x-reprise-mode, x-forwarded-for",
        ),
        ("content-length", "3"),
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
        ("x-reprise-mode", "off"),
    ])
    .headers;
    assert_eq!(values(&headers, "host"), ["a"]);
    assert_eq!(values(&headers, "content-length"), ["3"]);
    assert_eq!(values(&headers, "content-type"), ["application/json"]);
    assert_eq!(values(&headers, "content-encoding"), ["gzip"]);
    assert_eq!(values(&headers, "x-reprise-mode"), ["off"]);
    assert_eq!(values(&headers, "x-forwarded-for"), ["192.0.2.7"]);
}

#[test]
fn every_hop_by_hop_header_is_stripped_both_ways() {
    let given: Vec<_> = HOP_BY_HOP.iter().map(|name| (*name, "x")).collect();
    let headers = passed("GET", "/", &given).headers;
    let mut back: HeaderMap = given
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    response(&mut back);
    for name in HOP_BY_HOP {
        assert!(!headers.contains_key(name), "{name}");
    }
    assert!(back.is_empty(), "{back:?}");
}

#[test]
fn te_keeps_trailers_alone() {
    let te = |given: &str| values(&passed("GET", "/", &[("te", given)]).headers, "te").join(";");
    assert_eq!(te("trailers"), "trailers");
    assert_eq!(te("gzip;q=0.5, Trailers"), "trailers");
    assert_eq!(te("gzip"), "");
    assert_eq!(te("xtrailers"), "");
}

#[test]
fn claims_of_identity_are_dropped_and_ours_set() {
    let headers = passed(
        "GET",
        "/",
        &[
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-client-cert", "Hash=1"),
            ("x-forwarded-port", "443"),
            ("x-real-ip", "10.0.0.1"),
        ],
    )
    .headers;
    assert_eq!(values(&headers, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(values(&headers, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&headers, "x-forwarded-host"), ["a"]);
    for name in ["forwarded", "x-forwarded-client-cert", "x-forwarded-port", "x-real-ip"] {
        assert!(!headers.contains_key(name), "{name}");
    }
}

#[test]
fn a_unix_peer_has_no_address_and_cannot_claim_one() {
    let mut parts = head("GET", "/", &[("x-forwarded-for", "10.0.0.1")]);
    request(&mut parts, &Peer { origin: Origin::Unix, tls: None }, &Trusted::default()).unwrap();
    assert!(!parts.headers.contains_key("x-forwarded-for"));
}

#[test]
fn underscores_do_not_smuggle() {
    let headers = passed(
        "GET",
        "/",
        &[
            ("x_forwarded_for", "10.0.0.1"),
            ("x-forwarded_for", "10.0.0.1"),
            ("x_real_ip", "10.0.0.1"),
            ("transfer_encoding", "chunked"),
            ("content_length", "9"),
            ("proxy_authorization", "x"),
            ("my_own", "1"),
        ],
    )
    .headers;
    let with_underscore: Vec<_> =
        headers.keys().map(HeaderName::as_str).filter(|name| name.contains('_')).collect();
    assert_eq!(with_underscore, ["my_own"]);
}

#[test]
fn a_length_that_is_not_one_number_is_refused() {
    for lengths in [&["3", "3"][..], &["3", "4"], &["+3"], &["3, 3"], &[""], &["0x3"], &["-1"]] {
        let given: Vec<_> = lengths.iter().map(|length| ("content-length", *length)).collect();
        assert_eq!(refused(head("POST", "/", &given)).kind, Kind::BadRequest, "{lengths:?}");
    }
    assert_eq!(
        values(&passed("POST", "/", &[("content-length", "03")]).headers, "content-length"),
        ["03"]
    );
}

#[test]
fn expect_is_kept_for_the_body_reader_and_goes_before_the_upstream() {
    let mut headers = passed("POST", "/", &[("expect", "100-continue")]).headers;
    assert_eq!(values(&headers, "expect"), ["100-continue"]);
    strip_control(&mut headers);
    assert!(!headers.contains_key("expect"));
}

#[test]
fn control_headers_go_before_the_upstream_and_cache_control_only_when_told() {
    let mut headers = passed(
        "POST",
        "/",
        &[
            ("x-reprise-mode", "exact"),
            ("x-reprise-namespace", "n"),
            ("cache-control", "no-cache"),
            ("pragma", "no-cache"),
            ("x-request-id", "7"),
        ],
    )
    .headers;
    strip_control(&mut headers);
    assert!(headers.keys().all(|name| !name.as_str().starts_with(OURS)));
    assert_eq!(values(&headers, "cache-control"), ["no-cache"]);
    strip_cache_control(&mut headers);
    assert!(!headers.contains_key("cache-control") && !headers.contains_key("pragma"));
    assert_eq!(values(&headers, "x-request-id"), ["7"]);
}

#[test]
fn a_response_cannot_send_clients_elsewhere_or_speak_for_us() {
    let mut headers = HeaderMap::new();
    headers.insert("alt-svc", HeaderValue::from_static("h3=\":443\""));
    headers.insert("x-reprise-entry", HeaderValue::from_static("forged"));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    headers.insert("set-cookie", HeaderValue::from_static("a=b"));
    headers.insert("connection", HeaderValue::from_static("set-cookie, x-foo"));
    headers.insert("x-foo", HeaderValue::from_static("1"));
    response(&mut headers);
    let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["cache-control"]);
}

// === properties ===

fn any_header() -> impl Strategy<Value = (String, Vec<u8>)> {
    let known = prop::sample::select(
        HOP_BY_HOP
            .into_iter()
            .chain(IDENTITY)
            .chain([
                "host",
                "content-length",
                "content-type",
                "expect",
                "x-forwarded-for",
                "x_forwarded_for",
                "x-reprise-mode",
                "authorization",
                "x-a",
                "x-b",
            ])
            .map(String::from)
            .collect::<Vec<_>>(),
    );
    let name = prop_oneof![3 => known, 1 => "[a-z][a-z0-9_-]{0,10}"];
    let word = prop::sample::select(vec![
        "close",
        "host",
        "x-a",
        "x-b",
        "trailers",
        "chunked",
        "content-length",
        "3",
        "a",
        "h2c",
        "x-forwarded-for",
    ]);
    let list = prop::collection::vec(word, 0..4).prop_map(|words| words.join(", ").into_bytes());
    (name, prop_oneof![3 => list, 1 => "[ -~]{0,12}".prop_map(String::into_bytes)])
}

proptest! {
    /// Whatever comes in: refused with a client's fault, or what goes on is clean; and cleaning what
    /// is clean changes nothing.
    #[test]
    fn what_passes_is_clean(
        target in prop_oneof!["/[a-z./%?=]{0,20}", "http://[a-z]{1,5}(:[0-9]{1,6})?/[a-z.]{0,5}"],
        given in prop::collection::vec(any_header(), 0..12),
    ) {
        let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
        let mut parts = Request::new(()).into_parts().0;
        parts.uri = uri;
        for (name, value) in &given {
            let value = HeaderValue::from_bytes(value).unwrap();
            parts.headers.append(HeaderName::try_from(name.as_str()).unwrap(), value);
        }
        if !parts.headers.contains_key("host") {
            parts.headers.insert("host", HeaderValue::from_static("a"));
        }
        if let Err(fault) = request(&mut parts, &peer(), &Trusted::default()) {
            prop_assert_eq!(fault.kind, Kind::BadRequest);
            return Ok(());
        }
        let headers = &parts.headers;
        prop_assert_eq!(values(headers, "host").len(), 1);
        prop_assert_eq!(values(headers, "x-forwarded-for"), ["192.0.2.7"]);
        prop_assert_eq!(values(headers, "x-forwarded-proto"), ["http"]);
        prop_assert!(parts.uri.authority().is_none() && parts.uri.path().starts_with('/'));
        prop_assert!(!has_dot_segment(parts.uri.path()));
        for name in HOP_BY_HOP {
            let allowed: &[&str] = if name == "te" { &["trailers"] } else { &[] };
            prop_assert!(values(headers, name).iter().all(|value| allowed.contains(value)));
        }
        prop_assert!(values(headers, "content-length").len() <= 1);
        prop_assert!(!headers.contains_key("x_forwarded_for"));

        let mut again = head("GET", "/", &[]);
        again.uri = parts.uri.clone();
        again.headers = parts.headers.clone();
        request(&mut again, &peer(), &Trusted::default()).unwrap();
        prop_assert_eq!(&again.headers, &parts.headers);
        prop_assert_eq!(&again.uri, &parts.uri);
    }

    /// A header that `Connection` names never goes on, unless it is protected or set by us.
    #[test]
    fn nominated_headers_never_pass(name in "x-[a-z]{1,8}") {
        let headers = passed("GET", "/", &[("connection", &name), (&name, "1")]).headers;
        prop_assert_eq!(headers.contains_key(name.as_str()), name.starts_with(OURS));
    }
}
