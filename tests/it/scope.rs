//! Nobody gets another's answer.

use std::{collections::HashSet, sync::Arc, time::Duration};

use http::HeaderMap;
use reprise::{
    cache::{
        entry::{Entry, now_ms},
        exact::ExactTier,
        key::{Key, Route},
        pace::Pace,
    },
    config::ScopeRule,
    front::tenant::Tenants,
    wire::{Call, Dialect as _, Rules, Shape, openai::Chat},
};
use serde_json::{Value, json};

use crate::{
    client::{Ask, CHAT},
    origin::{Gate, Origin, Step},
    proxy::Setup,
    talk,
};

const QUESTION: &str = "how do I reset my password";
const PARAPHRASE: &str = "my password how do I reset";

#[tokio::test(flavor = "multi_thread")]
async fn two_credentials_share_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::new();
    let script = gate.clone();
    let origin =
        Origin::start(move |seen, call| talk::model(seen, call).after(Step::Await(script.clone())))
            .await;
    let proxy = Setup::new(&origin).semantic(&folder).open().await;
    let asks = [
        Ask::chat(QUESTION).header("authorization", "Bearer alice"),
        Ask::chat(QUESTION).header("authorization", "Bearer bob"),
        Ask::chat(QUESTION).header("authorization", "Bearer alice").header("x-api-key", "k"),
        Ask::chat(QUESTION).without("authorization"),
        Ask::chat(QUESTION).header("authorization", "bearer alice"),
    ];
    // At once, then exactly, then by meaning.
    let running: Vec<_> = asks.iter().map(|ask| proxy.spawn(ask)).collect();
    origin.called(asks.len()).await;
    gate.open();
    for (ask, answer) in asks.iter().zip(running) {
        let answer = answer.await.unwrap();
        assert!(!answer.cache_status().collapsed);
        let again = proxy.send(ask).await;
        assert_eq!((again.x_cache(), &again.body), ("HIT", &answer.body));
    }
    assert_eq!(origin.calls(), asks.len());
    proxy.written(asks.len() as u64).await;
    let stranger = Ask::chat(PARAPHRASE).header("authorization", "Bearer mallory");
    let answer = proxy.send(&stranger).await;
    assert_eq!(answer.x_cache(), "MISS");
    assert!(answer.text().contains("mallory"));
    assert_eq!(answer.cache_status().detail.as_deref(), Some("no_neighbour"));
    let mine = Ask::chat(PARAPHRASE).header("authorization", "Bearer bob");
    assert!(proxy.send(&mine).await.text().contains("by Bearer bob"));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_can_be_the_scope() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).with("cache.scope = \"header:x-team\"").open().await;
    let red = Ask::chat("why?").header("x-team", "red");
    assert_eq!(proxy.send(&red).await.x_cache(), "MISS");
    // Whoever asks for the team.
    let other = red.clone().header("authorization", "Bearer bob");
    assert_eq!(proxy.send(&other).await.x_cache(), "HIT");
    assert_eq!(proxy.send(&red.clone().header("x-team", "blue")).await.x_cache(), "MISS");
    for nobody in [red.clone().without("x-team"), red.header("x-team", "")] {
        for _ in 0..2 {
            let answer = proxy.send(&nobody).await;
            assert_eq!(answer.x_cache(), "BYPASS");
            assert_eq!(answer.cache_status().detail.as_deref(), Some("no_scope"));
        }
    }
    assert_eq!(origin.calls(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_can_be_the_scope() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).with("cache.scope = \"shared\"").open().await;
    assert_eq!(proxy.send(&Ask::chat("why?")).await.x_cache(), "MISS");
    let bob = Ask::chat("why?").header("authorization", "Bearer bob");
    assert_eq!(proxy.send(&bob).await.x_cache(), "HIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn query_path_and_vary_headers_are_in_the_key_and_what_changes_nothing_is_not() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).with("cache.vary_headers = [\"x-flavour\"]").open().await;
    let ask = Ask::chat("why?");
    proxy.send(&ask).await;
    let at = |target: &str| Ask { target: target.into(), ..ask.clone() };
    for other in [
        at(&format!("{CHAT}?api-version=1")),
        at(&format!("{CHAT}?api-version=2")),
        at("/v2/chat/completions"),
        ask.clone().header("x-flavour", "sweet"),
    ] {
        assert_eq!(proxy.send(&other).await.x_cache(), "MISS", "{other:?}");
        assert_eq!(proxy.send(&other).await.x_cache(), "HIT", "{other:?}");
    }
    let body = r#"{ "user":"u", "metadata":{"a":"b"}, "messages":[ {"content":"why?","role":"user"} ],
        "service_tier":"flex", "model":"m", "stream_options":null }"#;
    let same = Ask { body: body.into(), ..ask };
    assert_eq!(proxy.send(&same).await.x_cache(), "HIT");
}

/// One field's name, and what it is set to in variant `v`.
type Field = (&'static str, fn(&mut Value, usize));

/// Everything in a body that must keep two requests apart.
const FIELDS: [Field; 22] = [
    ("question", |body, v| body["messages"][3]["content"] = json!(format!("why {v}?"))),
    ("system", |body, v| body["messages"][0]["content"] = json!(format!("be {v}"))),
    ("earlier question", |body, v| body["messages"][1]["content"] = json!(format!("what {v}?"))),
    ("earlier answer", |body, v| body["messages"][2]["content"] = json!(format!("that {v}"))),
    ("roles", |body, v| body["messages"] = json!(roles(v))),
    ("name", |body, v| body["messages"][3]["name"] = json!(format!("n{v}"))),
    ("model", |body, v| body["model"] = json!(format!("m{v}"))),
    ("temperature", |body, v| body["temperature"] = json!(v as f64 / 1e3)),
    ("top_p", |body, v| body["top_p"] = json!(v as f64 / 1e3)),
    ("seed", |body, v| body["seed"] = json!(v)),
    ("max_tokens", |body, v| body["max_tokens"] = json!(v)),
    ("max_completion_tokens", |body, v| body["max_completion_tokens"] = json!(v)),
    ("stop", |body, v| body["stop"] = json!([format!("{v}")])),
    ("stop as text", |body, v| body["stop"] = json!(format!("{v}"))),
    ("tools", |body, v| body["tools"] = json!([{"function": {"name": format!("f{v}")}}])),
    ("tool_choice", |body, v| body["tool_choice"] = json!(format!("f{v}"))),
    ("schema", |body, v| body["response_format"] = json!({"schema": {"title": v}})),
    ("logit_bias", |body, v| body["logit_bias"] = json!({format!("{v}"): 1})),
    ("n", |body, v| body["n"] = json!(v + 2)),
    ("image", |body, v| {
        body["messages"][3]["content"] = json!([
            {"type": "text", "text": "why?"},
            {"type": "image_url", "image_url": {"url": format!("data:{v}")}},
        ]);
    }),
    ("two texts", |body, v| {
        body["messages"][3]["content"] =
            json!([{"type": "text", "text": "wh"}, {"type": "text", "text": format!("y{v}?")}]);
    }),
    ("unknown", |body, v| body["frobnicate"] = json!({"deep": [v]})),
];

/// The same words in other mouths: `v` in the base of the roles that there are.
fn roles(v: usize) -> Vec<Value> {
    const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];
    let digits = (0..5_u32).map(|place| v / ROLES.len().pow(place) % ROLES.len());
    digits.map(|digit| json!({"role": ROLES[digit], "content": "why?"})).collect()
}

/// What of the head must do so.
const HEADS: [&str; 4] = ["authorization", "x-api-key", "cookie", "x-vendor-token"];

const VARIANTS: usize = 3600;

fn base() -> Value {
    json!({"model": "m", "messages": [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "what?"},
        {"role": "assistant", "content": "that"},
        {"role": "user", "content": "why?"},
    ]})
}

fn read(body: &str) -> reprise::wire::Prompt {
    let (headers, rules) = (HeaderMap::new(), Rules::default());
    let body = body.as_bytes();
    Chat.read(Call { path: CHAT, query: "", headers: &headers, body, rules }).unwrap()
}

fn key(body: &Value, headers: &[(&'static str, String)], query: &str, vary: &str) -> Key {
    let tenants = Tenants::new(ScopeRule::Credential, [9; 32]);
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().unwrap());
    }
    let scope = tenants.scope(&map).unwrap();
    let prompt = read(&body.to_string());
    let vary = [vary.as_bytes()];
    let route = Route { upstream: "u", dialect: "openai", query, vary: &vary };
    Key::new(&scope, route, &prompt)
}

/// One request of the hundred thousand.
struct Made {
    what: String,
    key: Key,
    /// It differs in the question alone.
    near: bool,
}

/// Every request that differs from the base in one field, in one of `variants`.
fn made(variants: impl Iterator<Item = usize>) -> Vec<Made> {
    let mut all = Vec::new();
    for variant in variants {
        let mut note = |name: &str, key: Key| {
            all.push(Made { what: format!("{name} {variant}"), key, near: name == "question" });
        };
        for (name, set) in FIELDS {
            let mut body = base();
            set(&mut body, variant);
            note(name, key(&body, &[], "", ""));
        }
        for name in HEADS {
            let headers = [(name, format!("v{variant}"))];
            note(name, key(&base(), &headers, "", ""));
        }
        let value = format!("v={variant}");
        note("query", key(&base(), &[], &value, ""));
        note("vary", key(&base(), &[], "", &value));
    }
    all
}

/// A hundred thousand requests that differ in one field each: no two share a key, only another
/// question stays in the partition, and in one memory tier each finds its own answer and no other.
#[test]
fn requests_that_differ_in_one_field_never_meet() {
    let all: Vec<Made> = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| scope.spawn(move || made((half..VARIANTS).step_by(2))));
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    assert!(all.len() > 100_000, "{}", all.len());
    let own = key(&base(), &[], "", "");
    let tier = ExactTier::new(1 << 30, Duration::ZERO);
    let mut known = HashSet::from([own.fingerprint]);
    for one in &all {
        assert!(known.insert(one.key.fingerprint), "{} shares its key", one.what);
        assert_eq!(one.key.partition == own.partition, one.near, "{}", one.what);
        tier.put(Arc::new(answer(&one.key, &one.what)));
    }
    let crossed: Vec<_> = all
        .iter()
        .filter(|one| tier.get(&one.key).is_none_or(|found| found.body != one.what.as_bytes()))
        .map(|one| &one.what)
        .collect();
    assert!(crossed.is_empty(), "{} of {}: {:?}", crossed.len(), all.len(), crossed.first());
    assert!(tier.get(&own).is_none(), "nobody asked the base request yet");
    // One fingerprint under another's name is refused: an id is only half of a fingerprint.
    let mut forged = all[0].key.clone();
    forged.fingerprint[31] ^= 1;
    assert!(tier.get(&forged).is_none());
}

fn answer(key: &Key, text: &str) -> Entry {
    Entry {
        id: key.id,
        fingerprint: key.fingerprint,
        partition: key.partition.clone(),
        tenant: key.tenant.clone(),
        model: "m".into(),
        route: "u".into(),
        tags: Vec::new(),
        question: None,
        shape: Shape::Whole,
        content_type: "application/json".into(),
        body: text.to_owned().into(),
        usage: None,
        upstream_ms: 1,
        pace: Pace::default(),
        generated_ms: now_ms(),
        expires_ms: now_ms() + 3_600_000,
    }
}
