use std::collections::HashSet;

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const KEY: [u8; 32] = [7; 32];

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
        })
        .collect()
}

fn by_credential(pairs: &[(&str, &str)]) -> Scope {
    Tenants::new(ScopeRule::Credential, KEY).scope(&headers(pairs)).unwrap()
}

#[test]
fn every_credential_counts_and_each_in_its_own_header() {
    let scopes: HashSet<_> = [
        &[][..],
        &[("authorization", "Bearer a")],
        &[("authorization", "Bearer b")],
        &[("x-api-key", "Bearer a")],
        &[("api-key", "Bearer a")],
        &[("x-goog-api-key", "Bearer a")],
        &[("cookie", "Bearer a")],
        &[("x_api_key", "Bearer a")],
        &[("ocp-apim-subscription-key", "Bearer a")],
        &[("authorization", "Bearer a"), ("x-api-key", "k")],
        &[("authorization", "Bearer a"), ("authorization", "k")],
        &[("authorization", "k"), ("authorization", "Bearer a")],
        &[("authorization", "Bearer a"), ("openai-organization", "o")],
        &[("authorization", "Bearer a"), ("openai-project", "o")],
    ]
    .into_iter()
    .map(by_credential)
    .collect();
    assert_eq!(scopes.len(), 14);
}

#[test]
fn a_mark_is_found_wherever_it_stands() {
    for mark in ["auth", "cookie", "credential", "jwt", "key", "secret", "token"] {
        for name in [mark.to_owned(), format!("x-{mark}"), format!("{mark}s"), format!("c{mark}-x")]
        {
            assert!(bears_a_mark(name.as_bytes()), "{name}");
        }
        let (_, cut) = mark.split_at(1);
        assert!(!bears_a_mark(cut.as_bytes()), "{cut}");
    }
}

#[test]
fn what_does_not_name_a_client_does_not_count() {
    let plain = by_credential(&[("authorization", "Bearer a")]);
    let dressed = by_credential(&[
        ("accept", "*/*"),
        ("authorization", "Bearer a"),
        ("content-type", "application/json"),
        ("idempotency-key", "7"),
        ("mcp-session-id", "7"),
        ("user-agent", "OpenAI/Python 3.54.0"),
        ("x-request-id", "7"),
        ("x-stainless-retry-count", "1"),
    ]);
    assert!(plain == dressed);
}

#[test]
fn the_order_of_headers_does_not_count() {
    let one = by_credential(&[("x-api-key", "k"), ("authorization", "a")]);
    let other = by_credential(&[("authorization", "a"), ("x-api-key", "k")]);
    assert!(one == other);
}

#[test]
fn by_header_the_absent_and_the_empty_have_no_scope() {
    let name = HeaderName::from_static("x-team");
    let tenants = Tenants::new(ScopeRule::Header(name), KEY);
    assert!(tenants.scope(&headers(&[("authorization", "a")])).is_none());
    assert!(tenants.scope(&headers(&[("x-team", "")])).is_none());
    let red = tenants.scope(&headers(&[("x-team", "red"), ("authorization", "a")])).unwrap();
    let also_red = tenants.scope(&headers(&[("x-team", "red"), ("authorization", "b")])).unwrap();
    let both = tenants.scope(&headers(&[("x-team", "red"), ("x-team", "blue")])).unwrap();
    assert!(red == also_red);
    assert!(red != both);
}

#[test]
fn shared_is_one_scope_and_not_the_anonymous_one() {
    let shared = Tenants::new(ScopeRule::Shared, KEY);
    let one = shared.scope(&headers(&[("authorization", "a")])).unwrap();
    assert!(one == shared.scope(&headers(&[])).unwrap());
    assert!(one != by_credential(&[]));
}

#[test]
fn another_key_is_another_world() {
    let other = Tenants::new(ScopeRule::Credential, [8; 32]);
    assert!(other.scope(&headers(&[])).unwrap() != by_credential(&[]));
}

#[test]
fn namespaces_part_answers_but_not_the_tenant() {
    let scope = by_credential(&[("authorization", "a")]);
    let names = ["", "a", "b", "ab"].map(|name| scope.in_namespace(name));
    let all: HashSet<_> = names.iter().chain([&scope]).map(|scope| *scope.bytes()).collect();
    assert_eq!(all.len(), 5);
    assert!(names.iter().all(|name| name.tenant() == scope.tenant()));
    assert!(scope.in_namespace("a").in_namespace("b") != scope.in_namespace("b").in_namespace("a"));
    let other = by_credential(&[("authorization", "b")]);
    assert!(other.in_namespace("a") != scope.in_namespace("a"));
}

#[test]
fn nothing_printed_holds_the_credential_or_the_whole_scope() {
    let tenants = Tenants::new(ScopeRule::Credential, KEY);
    let scope = by_credential(&[("authorization", "Bearer sk-very-secret")]);
    let tenant = scope.tenant();
    assert_eq!(tenant.len(), 32);
    assert!(tenant.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let printed = format!("{tenants:?} {scope:?}");
    assert!(!printed.contains("secret") && !printed.contains("7, 7"), "{printed}");
    assert!(printed.len() < 64, "{printed}");
}

#[test]
fn the_key_is_made_once_private_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/key");
    let key = tenant_key(&path).unwrap();
    assert_ne!(key, [0; 32]);
    assert_eq!(tenant_key(&path).unwrap(), key);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
}

#[test]
fn processes_that_start_at_once_agree_on_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let keys: HashSet<_> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..8).map(|_| scope.spawn(|| tenant_key(&path).unwrap())).collect();
        starting.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(keys.len(), 1);
}

#[test]
fn a_key_of_another_length_is_an_error_that_names_it_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, b"short").unwrap();
    let error = tenant_key(&path).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()) && error.contains("found 5"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"short");
}

proptest! {
    /// Equal credentials, equal scopes; any difference in any value, name or split, different ones.
    #[test]
    fn scopes_are_as_different_as_credentials(
        one in prop::collection::vec(("(authorization|x-api-key|api-key|cookie)", "[ -~]{0,8}"), 0..4),
        other in prop::collection::vec(("(authorization|x-api-key|api-key|cookie)", "[ -~]{0,8}"), 0..4),
    ) {
        let canonical = |pairs: &[(String, String)]| {
            let mut pairs = pairs.to_vec();
            pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            pairs
        };
        let scope = |pairs: &[(String, String)]| {
            let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            by_credential(&pairs)
        };
        prop_assert_eq!(scope(&one) == scope(&other), canonical(&one) == canonical(&other));
    }
}
