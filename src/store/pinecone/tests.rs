//! Against a scripted server that follows Pinecone's public API: shapes, limits, filters, pages.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, RawQuery, State},
    http::HeaderMap,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};

use super::*;
use crate::{
    embed::{Identity, cosine},
    store::{
        contract::{self, DIMENSION, record},
        remote::{Limits, Shield},
    },
};

type Namespaces = BTreeMap<String, BTreeMap<String, Value>>;

#[derive(Clone, Default)]
struct Service {
    namespaces: Arc<Mutex<Namespaces>>,
}

fn refused(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"code": 3, "message": why}))).into_response()
}

fn values(vector: &Value) -> Vec<f32> {
    let numbers = vector["values"].as_array().unwrap();
    numbers.iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

/// One condition a field, or filters that are joined by `$and`; all of them must hold.
fn matches(metadata: &Value, filter: &Value) -> bool {
    filter.as_object().unwrap().iter().all(|(field, condition)| {
        if field == "$and" {
            return condition.as_array().unwrap().iter().all(|one| matches(metadata, one));
        }
        let (operator, wanted) = condition.as_object().unwrap().iter().next().unwrap();
        let found = &metadata[field];
        let number = || found.as_f64().zip(wanted.as_f64());
        match operator.as_str() {
            "$eq" => found == wanted,
            "$in" => found
                .as_array()
                .is_some_and(|all| all.iter().any(|one| wanted.as_array().unwrap().contains(one))),
            "$lt" => number().is_some_and(|(found, wanted)| found < wanted),
            "$lte" => number().is_some_and(|(found, wanted)| found <= wanted),
            "$gte" => number().is_some_and(|(found, wanted)| found >= wanted),
            other => panic!("no operator {other}"),
        }
    })
}

async fn upsert(State(me): State<Service>, head: HeaderMap, body: String) -> Response {
    if head.get("api-key").is_none_or(|key| key != "k") || body.len() > 2_000_000 {
        return refused("no key, or more than 2 MB");
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    let mut namespaces = me.namespaces.lock();
    let namespace = namespaces.entry(body["namespace"].as_str().unwrap().into()).or_default();
    for vector in body["vectors"].as_array().unwrap() {
        let numbers = values(vector);
        if numbers.len() != DIMENSION || numbers.iter().all(|number| *number == 0.0) {
            return refused("a vector of another dimension, or of zeros");
        }
        if vector["metadata"].to_string().len() > 40_960 {
            return refused("metadata beyond 40 KB");
        }
        namespace.insert(vector["id"].as_str().unwrap().into(), vector.clone());
    }
    Json(json!({"upsertedCount": body["vectors"].as_array().unwrap().len()})).into_response()
}

async fn fetch(State(me): State<Service>, RawQuery(query): RawQuery) -> Json<Value> {
    let query = query.unwrap();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let pairs: Vec<_> = pairs.map(|(name, value)| (name, value.replace("%23", "#"))).collect();
    let wanted = pairs.iter().find(|(name, _)| *name == "namespace").unwrap().1.clone();
    let namespaces = me.namespaces.lock();
    let ids = pairs.iter().filter(|(name, _)| *name == "ids").map(|(_, id)| id);
    let found = namespaces.get(&wanted).map(|all| {
        let found = ids.filter_map(|id| Some((id.clone(), all.get(id)?.clone())));
        found.collect::<serde_json::Map<_, _>>()
    });
    Json(json!({"vectors": found.unwrap_or_default(), "namespace": wanted}))
}

async fn query(State(me): State<Service>, Json(body): Json<Value>) -> Json<Value> {
    let vector: Vec<f32> = serde_json::from_value(body["vector"].clone()).unwrap();
    let namespaces = me.namespaces.lock();
    let all = namespaces.get(body["namespace"].as_str().unwrap());
    let all = all.into_iter().flatten().map(|(_, one)| one);
    let mut found: Vec<_> = all
        .filter(|one| matches(&one["metadata"], &body["filter"]))
        .map(|one| (cosine(&vector, &values(one)), one))
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.truncate(body["topK"].as_u64().unwrap() as usize);
    let matches = found.iter().map(|(score, one)| {
        json!({"id": one["id"], "score": score, "values": [], "metadata": one["metadata"]})
    });
    Json(json!({"matches": matches.collect::<Vec<_>>(), "namespace": body["namespace"]}))
}

async fn fetch_by_metadata(State(me): State<Service>, Json(body): Json<Value>) -> Json<Value> {
    let namespaces = me.namespaces.lock();
    let all = namespaces.get(body["namespace"].as_str().unwrap());
    let after = body["paginationToken"].as_str().unwrap_or_default();
    let limit = body["limit"].as_u64().unwrap() as usize;
    let mut found: Vec<_> = all
        .into_iter()
        .flatten()
        .filter(|(id, one)| id.as_str() > after && matches(&one["metadata"], &body["filter"]))
        .take(limit + 1)
        .collect();
    let more = found.len() > limit;
    found.truncate(limit);
    let next = if more { found.last().map(|(id, _)| id.to_string()) } else { None };
    let vectors: serde_json::Map<_, _> =
        found.into_iter().map(|(id, one)| (id.clone(), one.clone())).collect();
    Json(json!({"vectors": vectors, "pagination": next.map(|next| json!({"next": next}))}))
}

async fn delete(State(me): State<Service>, Json(body): Json<Value>) -> Json<Value> {
    let mut namespaces = me.namespaces.lock();
    if let Some(all) = namespaces.get_mut(body["namespace"].as_str().unwrap()) {
        for id in body["ids"].as_array().unwrap() {
            all.remove(id.as_str().unwrap());
        }
    }
    Json(json!({}))
}

async fn stats() -> Json<Value> {
    Json(json!({"dimension": DIMENSION, "metric": "cosine", "namespaces": {}}))
}

async fn service() -> (Service, Address) {
    let service = Service::default();
    let router = Router::new()
        .route("/vectors/upsert", post(upsert))
        .route("/vectors/fetch", get(fetch))
        .route("/vectors/fetch_by_metadata", post(fetch_by_metadata))
        .route("/vectors/delete", post(delete))
        .route("/query", post(query))
        .route("/describe_index_stats", post(stats))
        .layer(DefaultBodyLimit::max(4 << 20))
        .with_state(service.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let api_key = Some("k".to_owned());
    (service, Address { url, api_key, connect_timeout: Duration::from_secs(20) })
}

fn collection() -> Collection {
    let identity = Identity {
        name: "m".into(),
        digest: "0".repeat(16),
        dimension: DIMENSION,
        window_tokens: 256,
    };
    Collection::of("test", &identity)
}

const LIMITS: Limits = Limits { lookup: Duration::from_secs(20), in_flight: 64 };

#[tokio::test(flavor = "multi_thread")]
async fn pinecone_keeps_the_contract() {
    let (service, address) = service().await;
    let open = async || {
        let store = Pinecone::new(&address, collection(), DIMENSION).unwrap();
        let store = Shield::new(store, LIMITS, None);
        assert!(store.ready(Duration::from_secs(60)).await, "{:?}", store.report().trouble);
        store
    };
    contract::check(open).await;
    let left = service.namespaces.lock().values().map(BTreeMap::len).sum::<usize>();
    assert_eq!(left, 0, "pieces of deleted answers stay behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_answer_leaves_no_pieces_of_the_longer_one() {
    let (service, address) = service().await;
    let store = Pinecone::new(&address, collection(), DIMENSION).unwrap();
    let long = Record { payload: vec![7; 200_000].into(), ..record(1) };
    store.put(vec![long]).await.unwrap();
    store.put(vec![record(1)]).await.unwrap();
    assert_eq!(service.namespaces.lock()[&store.pieces()].len(), 1);
    let question = Record { question: "x".repeat(50_000).into(), ..record(2) };
    assert_eq!(store.put(vec![question]).await, Err(StoreFault::TooLarge));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_another_dimension_is_not_used() {
    let (_, address) = service().await;
    let store = Pinecone::new(&address, collection(), 768).unwrap();
    let store = Shield::new(store, LIMITS, None);
    assert!(!store.ready(Duration::from_secs(1)).await);
    assert!(store.report().trouble.unwrap().contains("not 768"));
}
