//! What a client can ask of the cache.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    client::{Answer, Ask},
    origin::Origin,
    proxy::{Proxy, Setup, eventually, patiently},
    talk,
};

async fn pair() -> (Origin, Proxy) {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).open().await;
    (origin, proxy)
}

fn detail(answer: &Answer) -> String {
    answer.cache_status().detail.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cache_asks_anew_and_keeps_the_new_answer() {
    let (origin, proxy) = pair().await;
    let ask = Ask::chat("why?");
    let first = proxy.send(&ask).await;
    let fresh = proxy.send(&ask.clone().header("cache-control", "no-cache")).await;
    assert_eq!((fresh.x_cache(), detail(&fresh).as_str()), ("MISS", "no_cache"));
    assert_eq!(fresh.cache_status().fwd.as_deref(), Some("request"));
    assert_ne!(first.body, fresh.body);
    assert_eq!(proxy.send(&ask).await.body, fresh.body);
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_store_leaves_no_trace() {
    let (origin, proxy) = pair().await;
    let private = Ask::chat("why?").header("cache-control", "no-store");
    for _ in 0..2 {
        let answer = proxy.send(&private).await;
        assert_eq!((answer.x_cache(), detail(&answer).as_str()), ("BYPASS", "no_store"));
    }
    assert_eq!(proxy.send(&Ask::chat("why?")).await.x_cache(), "MISS");
    assert_eq!(origin.calls(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn max_age_refuses_what_is_older() {
    let (_origin, proxy) = pair().await;
    let ask = Ask::chat("why?");
    proxy.send(&ask).await;
    let young = ask.clone().header("cache-control", "max-age=3600");
    assert_eq!(proxy.send(&young).await.x_cache(), "HIT");
    let newest = ask.header("cache-control", "max-age=0");
    let mut answer = proxy.send(&newest).await;
    while answer.x_cache() == "HIT" {
        answer = proxy.send(&newest).await; // within its first millisecond it is of age 0
    }
    assert_eq!((answer.x_cache(), detail(&answer).as_str()), ("MISS", "too_old"));
    assert_eq!(answer.cache_status().fwd.as_deref(), Some("request"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_if_cached_never_goes_upstream() {
    let (origin, proxy) = pair().await;
    let ask = Ask::chat("why?");
    let only = ask.clone().header("cache-control", "only-if-cached");
    let none = proxy.send(&only).await;
    assert_eq!((none.status.as_u16(), none.x_cache()), (504, "MISS"));
    assert_eq!(none.json()["error"]["code"], "only_if_cached");
    assert!(
        none.json()["error"]["message"].is_string() && none.json()["error"]["type"].is_string()
    );
    assert_eq!(origin.calls(), 0);
    proxy.send(&ask).await;
    assert_eq!(proxy.send(&only).await.x_cache(), "HIT");
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn modes() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).semantic(&folder).open().await;
    proxy.send(&Ask::chat("how do I reset my password")).await;
    proxy.written(1).await;
    let near = Ask::chat("my password how do I reset");
    let exact = proxy.send(&near.clone().header("x-reprise-mode", "exact")).await;
    assert_eq!((exact.x_cache(), detail(&exact).as_str()), ("MISS", "mode_exact"));
    assert_eq!(proxy.send(&near.clone().header("x-reprise-mode", "exact")).await.x_cache(), "HIT");
    let off = proxy.send(&near.clone().header("x-reprise-mode", "off")).await;
    assert_eq!((off.x_cache(), detail(&off).as_str()), ("BYPASS", "mode_off"));
    let other = Ask::chat("password my how do I reset").header("x-reprise-mode", "semantic");
    assert_eq!(detail(&proxy.send(&other).await), "semantic");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn min_similarity_can_only_be_stricter() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin)
        .with("cache.semantic.min_similarity = 0.85")
        .semantic(&folder)
        .open()
        .await;
    proxy.send(&Ask::chat("one two three four five six seven eight nine ten")).await;
    proxy.written(1).await;
    // Nine words of ten: about 0.9.
    let near = "one two three four five six seven eight nine apples";
    // Laxer than configured: this one has too little in common whatever its client says.
    let far = Ask::chat("one two three apples").header("x-reprise-min-similarity", "0.01");
    let refused = proxy.send(&far).await;
    assert_eq!((refused.x_cache(), detail(&refused).as_str()), ("MISS", "below_similarity"));
    let strict = proxy.send(&Ask::chat(near).header("x-reprise-min-similarity", "0.999")).await;
    assert_eq!((strict.x_cache(), detail(&strict).as_str()), ("MISS", "below_similarity"));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_of_ones_own_runs_out() {
    let (origin, proxy) = pair().await;
    let ask = Ask::chat("why?").header("x-reprise-ttl", "20ms");
    proxy.send(&ask).await;
    let begun = std::time::Instant::now();
    let mut answer = proxy.send(&ask).await;
    while answer.x_cache() == "HIT" {
        assert!(begun.elapsed().as_secs() < 20, "a hit must not prolong a life");
        answer = proxy.send(&ask).await;
    }
    assert!(origin.calls() >= 2);
    for endless in ["18446744073709551615", "99999999y", "500y"] {
        let ask = Ask::chat(&format!("for {endless}")).header("x-reprise-ttl", endless);
        assert_eq!(proxy.send(&ask).await.x_cache(), "MISS", "{endless}");
        let hit = proxy.send(&ask).await;
        assert_eq!((hit.status.as_u16(), hit.x_cache()), (200, "HIT"), "{endless}");
        assert!(hit.cache_status().ttl.unwrap() > 1_000_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_share_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).semantic(&folder).open().await;
    let mut calls = 0;
    for name in ["", "blue", "green"] {
        for text in ["how do I reset my password", "my password how do I reset"] {
            let mut ask = Ask::chat(text);
            if !name.is_empty() {
                ask = ask.header("x-reprise-namespace", name);
            }
            let answer = proxy.send(&ask).await;
            if text.starts_with("how") {
                calls += 1;
                assert_eq!(answer.x_cache(), "MISS", "{name}");
                proxy.written(calls).await;
            } else {
                assert_eq!(detail(&answer), "semantic", "{name}");
            }
        }
    }
    assert_eq!(origin.calls(), 3);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_value_is_refused_by_its_headers_name() {
    let (origin, proxy) = pair().await;
    for (name, value) in [
        ("x-reprise-mode", "maybe"),
        ("x-reprise-ttl", "soon"),
        ("x-reprise-ttl", "-1"),
        ("x-reprise-ttl", "0"),
        ("x-reprise-min-similarity", "2"),
        ("x-reprise-min-similarity", "NaN"),
        ("x-reprise-namespace", ""),
    ] {
        let answer = proxy.send(&Ask::chat("why?").header(name, value)).await;
        assert_eq!(answer.status, 400, "{name}: {value}");
        let error = &answer.json()["error"];
        assert!(error["message"].as_str().unwrap().contains(name), "{error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    assert_eq!(origin.calls(), 0);
    eventually("all are counted", || proxy.outcomes("error") == 7).await;
}

/// A client that sends its body behind its head would else meet a connection that was closed with
/// that body unread, and lose its next request there.
#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_refused_request_is_taken_and_the_connection_goes_on() {
    let (origin, proxy) = pair().await;
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    let body = r#"{"model":"m","messages":[{"role":"user","content":"why?"}]}"#;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer b\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    client.write_all(format!("{head}x-reprise-mode: ?\r\n\r\n").as_bytes()).await.unwrap();
    eventually("it is inside", || proxy.house().admission.in_flight() == 1).await;
    client.write_all(format!("{body}{head}\r\n{body}").as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while String::from_utf8_lossy(&read).matches("HTTP/1.1 ").count() < 2 {
        assert_ne!(patiently(client.read_buf(&mut read)).await.unwrap(), 0, "closed");
    }
    let read = String::from_utf8_lossy(&read);
    assert!(read.starts_with("HTTP/1.1 400 ") && read.contains("HTTP/1.1 200 "), "{read}");
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn hotter_than_allowed_is_not_cached() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).with("cache.max_temperature = 0.5").open().await;
    let ask = Ask::body(&serde_json::json!({
        "model": "m", "temperature": 0.7, "messages": [{"role": "user", "content": "why?"}],
    }));
    for _ in 0..2 {
        assert_eq!(detail(&proxy.send(&ask).await), "temperature");
    }
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstreams_no_store_is_heeded_unless_it_is_called_a_habit() {
    for (setting, second) in [("no_store = \"heed\"", "MISS"), ("no_store = \"ignore\"", "HIT")] {
        let origin =
            Origin::start(|seen, call| talk::model(seen, call).header("cache-control", "no-store"))
                .await;
        let proxy = Setup::new(&origin).upstream(setting).open().await;
        assert_eq!(proxy.send(&Ask::chat("why?")).await.x_cache(), "MISS");
        assert_eq!(proxy.send(&Ask::chat("why?")).await.x_cache(), second, "{setting}");
    }
}
