//! What goes through in headers, what does not, and what ours say.

use serde_json::json;

use crate::{
    client::{Ask, CHAT, CacheStatus, Http2},
    origin::Origin,
    proxy::Setup,
    talk,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_and_a_hit_report_themselves() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).with("cache.ttl = \"1h\"").open().await;
    for ask in [Ask::stream("why?"), Ask::chat("how?")] {
        let miss = proxy.send(&ask).await;
        assert_eq!(miss.x_cache(), "MISS");
        let status = CacheStatus {
            fwd: Some("miss".into()),
            fwd_status: Some(200),
            stored: true,
            detail: Some("semantic_off".into()),
            ..CacheStatus::default()
        };
        assert_eq!(miss.cache_status(), status);
        assert_eq!(miss.header("x-reprise-entry").len(), 32);
        assert_eq!(miss.header("age"), "");

        let hit = proxy.send(&ask).await;
        assert_eq!(hit.x_cache(), "HIT");
        let status = hit.cache_status();
        assert!(status.hit && !status.stored && status.fwd.is_none());
        assert_eq!(status.detail.as_deref(), Some("exact"));
        assert!((3590..=3600).contains(&status.ttl.unwrap()), "{status:?}");
        assert_eq!(hit.header("x-reprise-entry"), miss.header("x-reprise-entry"));
        assert!(hit.header("age").parse::<u64>().unwrap() < 10);
        assert_eq!(hit.header("x-reprise-similarity"), "");
        assert_eq!(hit.body, miss.body);
        assert_eq!(hit.header("content-length"), hit.body.len().to_string());
        let over_http2 = Http2::connect(proxy.address).await.open(&ask).await.unwrap();
        let length = over_http2.head.headers.get("content-length").unwrap();
        assert_eq!(length.to_str().unwrap(), hit.body.len().to_string());
    }
}

/// The stages that a `Server-Timing` names.
fn stages(timing: &str) -> Vec<&str> {
    timing
        .split(", ")
        .map(|metric| {
            let (name, span) = metric.split_once(";dur=").unwrap();
            assert!(span.parse::<f64>().unwrap() >= 0.0);
            name
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn server_timing_names_the_stages_that_happened() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).semantic(&folder).open().await;
    let ask = Ask::chat("how do I reset my password");
    let miss = proxy.send(&ask).await;
    let seen = stages(miss.header("server-timing"));
    for stage in ["read", "key", "exact", "embed", "search", "queue", "connect", "first", "total"] {
        assert!(seen.contains(&stage), "{stage}: {seen:?}");
    }
    let hit = proxy.send(&ask).await;
    assert_eq!(stages(hit.header("server-timing")), ["read", "key", "exact", "total"]);
    proxy.written(1).await;
    let near = proxy.send(&Ask::chat("my password how do I reset")).await;
    assert_eq!(near.x_cache(), "HIT");
    let seen = stages(near.header("server-timing"));
    for stage in ["read", "key", "exact", "embed", "search", "verdict", "total"] {
        assert!(seen.contains(&stage), "{stage}: {seen:?}");
    }
    assert!(!seen.contains(&"connect"));
    assert_eq!(near.cache_status().detail.as_deref(), Some("semantic"));
    assert!(near.header("x-reprise-similarity").parse::<f32>().unwrap() > 0.99);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_behind_us_keep_their_place_before_us() {
    let origin = Origin::start(|seen, call| {
        talk::model(seen, call)
            .header("cache-status", "\"edge one\"; hit; ttl=5")
            .header("cache-status", "inner; fwd=miss")
            .header("x-cache", "HIT from afar")
            .header("server-timing", "gpu;dur=3.5")
            .header("x-reprise-entry", "not ours to say")
            .header("x-reprise-anything", "neither")
    })
    .await;
    let proxy = Setup::new(&origin).open().await;
    let miss = proxy.send(&Ask::chat("why?")).await;
    assert_eq!(miss.cache_status().before, ["edge one", "inner"]);
    assert_eq!(miss.headers.get_all("x-cache").iter().count(), 1);
    assert_eq!(miss.x_cache(), "MISS");
    assert_eq!(miss.header("server-timing"), "gpu;dur=3.5");
    assert_eq!(miss.headers.get_all("server-timing").iter().count(), 2);
    assert_eq!(miss.header("x-reprise-entry").len(), 32);
    assert_eq!(miss.header("x-reprise-anything"), "");
    // A hit is ours alone.
    let hit = proxy.send(&Ask::chat("why?")).await;
    assert_eq!(hit.cache_status().before, Vec::<String>::new());
    // And what passes by keeps its own too.
    let passed = proxy.send(&Ask::new(http::Method::GET, "/v1/models", "")).await;
    assert_eq!(passed.cache_status().before, ["edge one", "inner"]);
    assert_eq!(passed.cache_status().fwd.as_deref(), Some("bypass"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_concerns_one_connection_goes_no_further() {
    let hop_by_hop = [
        ("keep-alive", "timeout=9"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("te", "trailers"),
        ("x-private", "mine"),
    ];
    let origin = Origin::start(move |seen, call| {
        let mut reply = talk::model(seen, call).header("connection", "x-private");
        for (name, value) in hop_by_hop.iter().filter(|(name, _)| *name != "upgrade") {
            reply = reply.header(name, value);
        }
        reply.header("x-kept", "yes").header("alt-svc", "h3=\":443\"")
    })
    .await;
    let proxy = Setup::new(&origin).open().await;
    let mut ask = Ask::chat("why?").header("connection", "x-private").header("x-kept", "yes");
    for (name, value) in hop_by_hop.iter().filter(|(name, _)| *name != "upgrade") {
        ask = ask.header(name, value);
    }
    let answer = proxy.send(&ask).await;
    for (name, _) in hop_by_hop {
        assert_eq!(answer.header(name), "", "{name} to the client");
        // `TE: trailers` may travel on (RFC 9110, 10.1.4).
        if name != "te" {
            assert_eq!(origin.last().header(name), "", "{name} to the upstream");
        }
    }
    assert_eq!((answer.header("x-kept"), origin.last().header("x-kept")), ("yes", "yes"));
    assert_eq!(answer.header("alt-svc"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_headers_are_never_forwarded() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).open().await;
    let controlled = |ask: Ask| {
        ask.header("x-reprise-ttl", "5m")
            .header("x-reprise-namespace", "blue")
            .header("x-reprise-future", "?")
            .header("accept-encoding", "gzip, br")
            .header("cache-control", "max-age=60")
    };
    let cacheable = controlled(Ask::chat("why?"));
    let off = cacheable.clone().header("x-reprise-mode", "off");
    let passed = controlled(Ask::new(http::Method::GET, "/v1/models", ""));
    for (ask, encoding) in [(cacheable, "identity"), (off, "gzip, br"), (passed, "gzip, br")] {
        proxy.send(&ask).await;
        let seen = origin.last();
        let ours = seen.headers.keys().find(|name| name.as_str().starts_with("x-reprise-"));
        assert_eq!(ours, None);
        assert_eq!(seen.header("accept-encoding"), encoding);
        let control = if seen.target == CHAT { "" } else { "max-age=60" };
        assert_eq!(seen.header("cache-control"), control);
        assert_eq!(seen.body, ask.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_are_not_replayed() {
    let origin =
        Origin::start(|seen, call| talk::model(seen, call).header("set-cookie", "a=b")).await;
    let proxy = Setup::new(&origin).open().await;
    let ask = Ask::chat("why?");
    assert_eq!(proxy.send(&ask).await.header("set-cookie"), "a=b");
    let hit = proxy.send(&ask).await;
    assert_eq!((hit.x_cache(), hit.header("set-cookie")), ("HIT", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_asks_proxies_before_us_not_to_hold_it() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).open().await;
    for _ in 0..2 {
        let answer = proxy.send(&Ask::stream("why?")).await;
        assert_eq!(answer.header("x-accel-buffering"), "no");
        assert_eq!(answer.header("cache-control"), "no-cache");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_id_is_the_clients_or_a_new_one() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).open().await;
    let ask = Ask::chat("why?");
    let named = proxy.send(&ask.clone().header("x-request-id", "abc-123")).await;
    assert_eq!(named.header("x-request-id"), "abc-123");
    let one = proxy.send(&ask).await;
    let other = proxy.send(&ask).await;
    assert!(!one.header("x-request-id").is_empty());
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_in_the_other_shape_is_that_shapes() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).open().await;
    proxy.send(&Ask::stream("why?")).await;
    let whole = proxy.send(&Ask::chat("why?")).await;
    assert_eq!((whole.x_cache(), whole.header("content-type")), ("HIT", "application/json"));
    assert_eq!(whole.json()["object"], "chat.completion");
    proxy.send(&Ask::chat("how?")).await;
    let stream = proxy.send(&Ask::stream("how?")).await;
    assert!(stream.header("content-type").starts_with("text/event-stream"));
    assert!(stream.text().ends_with("data: [DONE]\n\n"));
    // A stream without token counts cannot answer who wants them.
    proxy.send(&Ask::stream("when?")).await;
    let usage = Ask::body(&json!({
        "model": "m", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "when?"}],
    }));
    let counted = proxy.send(&usage).await;
    assert_eq!(counted.x_cache(), "MISS");
    assert_eq!(counted.cache_status().detail.as_deref(), Some("usage_unknown"));
    assert_eq!(proxy.send(&usage).await.x_cache(), "HIT");
    assert_eq!(proxy.send(&Ask::stream("when?")).await.x_cache(), "HIT");
}
