//! What goes on of the headers, there and back.

use super::*;

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
