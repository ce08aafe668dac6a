use axum::{
    Json, Router,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
    routing::post,
};
use tokio::time::{pause, resume};

use super::*;

/// How a scripted server answers.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    Silent,
    Fails,
    OtherModel,
}

#[derive(Clone)]
struct Scripted {
    mood: Arc<Mutex<Mood>>,
    asked: Arc<AtomicUsize>,
}

/// A vector of no unit length that depends on the text.
fn vector(text: &str) -> Vec<f32> {
    vec![3.0, text.len() as f32, 0.5]
}

impl Scripted {
    async fn answer(&self, text: &str, shape: impl Fn(Vec<f32>) -> Value) -> Response {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock();
        match mood {
            Mood::Silent => std::future::pending().await,
            Mood::Fails => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            Mood::OtherModel => Json(shape(vec![1.0; 7])).into_response(),
            Mood::Well if text.len() > 100 => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            Mood::Well => Json(shape(vector(text))).into_response(),
        }
    }
}

async fn openai(State(me): State<Scripted>, head: HeaderMap, Json(body): Json<Value>) -> Response {
    if head.get("authorization").is_none_or(|key| key != "Bearer k") || body["model"] != "m" {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let text = body["input"][0].as_str().unwrap_or_default();
    me.answer(text, |vector| json!({"data": [{"index": 0, "embedding": vector}]})).await
}

async fn tei(State(me): State<Scripted>, Json(body): Json<Value>) -> Response {
    assert_eq!(body["truncate"], false);
    let text = body["inputs"][0].as_str().unwrap_or_default();
    me.answer(text, |vector| json!([vector])).await
}

async fn server() -> (Scripted, String) {
    let scripted = Scripted { mood: Arc::new(Mutex::new(Mood::Well)), asked: Arc::default() };
    let router = Router::new()
        .route("/v1/embeddings", post(openai))
        .route("/embed", post(tei))
        .with_state(scripted.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (scripted, url)
}

fn options(url: &str, api: Api) -> RemoteOptions {
    RemoteOptions {
        api,
        url: url.into(),
        model: "m".into(),
        api_key: Some("k".into()),
        timeout: Duration::from_secs(20),
        in_flight: 8,
        window_tokens: 512,
    }
}

#[tokio::test]
async fn both_apis_give_unit_vectors_and_refuse_long_texts() {
    let (_, url) = server().await;
    for (api, url) in [(Api::OpenAi, format!("{url}/v1/")), (Api::Tei, url.clone())] {
        let remote = Remote::open(options(&url, api)).await.unwrap();
        assert_eq!(remote.identity().dimension, 3);
        assert_eq!(remote.identity().digest.len(), 16);
        let Ok(Embedded::Vector(unit)) = remote.embed("why?".into()).await else { panic!() };
        assert!((cosine(&unit, &unit) - 1.0).abs() < 1e-6);
        assert!((unit[0] / unit[1] - 3.0 / 4.0).abs() < 1e-6);
        let long = remote.embed("x".repeat(101).into()).await;
        assert!(matches!(long, Ok(Embedded::BeyondWindow { tokens: 513 })));
    }
}

#[tokio::test]
async fn a_silent_server_costs_one_deadline_and_comes_back() {
    let (scripted, url) = server().await;
    let remote = Remote::open(options(&url, Api::OpenAi)).await.unwrap();
    *scripted.mood.lock() = Mood::Silent;
    let asked = scripted.asked.load(Ordering::SeqCst) + 1;
    let silence = async {
        while scripted.asked.load(Ordering::SeqCst) < asked {
            tokio::task::yield_now().await;
        }
        // From here on time passes only where somebody waits for it.
        pause();
    };
    let (dead, ()) = tokio::join!(remote.embed("a".into()), silence);
    assert_eq!(dead.unwrap_err(), EmbedFault::Dead);
    let given_up = Instant::now();
    for _ in 0..100 {
        assert_eq!(remote.embed("a".into()).await.unwrap_err(), EmbedFault::Dead);
    }
    assert_eq!(Instant::now(), given_up);
    assert_eq!(scripted.asked.load(Ordering::SeqCst), asked);

    *scripted.mood.lock() = Mood::Well;
    sleep(FIRST_PAUSE).await;
    resume();
    assert!(remote.embed("a".into()).await.is_ok());
}

#[tokio::test]
async fn a_failing_server_and_another_model_are_told_apart() {
    let (scripted, url) = server().await;
    let remote = Remote::open(options(&url, Api::Tei)).await.unwrap();
    *scripted.mood.lock() = Mood::OtherModel;
    assert_eq!(remote.embed("a".into()).await.unwrap_err(), EmbedFault::Failed);
    *scripted.mood.lock() = Mood::Fails;
    assert_eq!(remote.embed("a".into()).await.unwrap_err(), EmbedFault::Dead);
}

#[tokio::test(start_paused = true)]
async fn no_server_says_so_without_the_key() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Remote::open(options(&url, Api::OpenAi)).await.err().unwrap().to_string();
    assert!(error.contains(&url) && !error.contains("Bearer"), "{error}");
}
