//! Which upstream a path belongs to.

use super::{Upstreams, config};

#[tokio::test]
async fn the_longest_route_of_whole_segments_wins() {
    let mut config = config(&["http://127.0.0.1:1".into()]);
    let mut other = config.upstream[0].clone();
    other.name = "models".into();
    other.routes = vec!["/v1".into(), "/v1/embeddings/".into()];
    config.upstream.push(other);
    let all = Upstreams::open(&config).unwrap();
    let none = http::HeaderMap::new();
    for (path, name) in [
        ("/", "up"),
        ("/v10", "up"),
        ("/v1", "models"),
        ("/v1/chat", "models"),
        ("/v1/embeddings/x", "models"),
    ] {
        assert_eq!(all.route(path, &none, None).unwrap().name(), name, "{path}");
    }
    assert!(all.route("*", &none, None).is_none());
}
