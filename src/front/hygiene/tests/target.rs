//! Where a request goes: host, target, method, path.

use super::*;

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
