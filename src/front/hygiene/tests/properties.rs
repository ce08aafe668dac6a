//! Whatever is sent, what passes is clean.

use proptest::prelude::*;

use super::*;

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

    /// What is let through by its look would be let through by the parser.
    #[test]
    fn a_plain_host_is_a_host(host in "[a-zA-Z0-9.@-]{0,8}(:[0-9:]{0,6})?") {
        if is_plain(host.as_bytes()) {
            let parsed = Authority::try_from(host.as_bytes());
            prop_assert!(parsed.is_ok_and(|host| sound(&host).is_ok()), "{}", host);
        }
    }
}
