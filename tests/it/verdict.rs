//! Whether near questions are served, by the real embedding model and the settings as shipped.

use crate::{
    client::{Answer, Ask},
    origin::Origin,
    proxy::{Proxy, Setup},
    talk,
};

fn detail(answer: &Answer) -> String {
    answer.cache_status().detail.unwrap_or_default()
}

/// A question whose answer is in the store afterwards.
async fn asked(proxy: &Proxy, question: &str, written: u64) {
    assert_eq!(proxy.send(&Ask::chat(question)).await.x_cache(), "MISS");
    proxy.written(written).await;
}

/// The three requests that `make run` prints.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_users_third_request_is_a_semantic_hit() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).with_the_real_model(&folder).open().await;
    asked(&proxy, "What is the capital of France?", 1).await;
    let again = proxy.send(&Ask::chat("What is the capital of France?")).await;
    assert_eq!(detail(&again), "exact");
    let near = proxy.send(&Ask::chat("What is the capital city of France?")).await;
    assert_eq!((near.x_cache(), detail(&near).as_str()), ("HIT", "semantic"));
    assert!(near.header("x-reprise-similarity").parse::<f32>().unwrap() < 0.97);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_day_one_plain_paraphrases_are_served_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    // Which hits are drawn to be checked is chance.
    let setup = Setup::new(&origin).with("cache.semantic.audit = 0.0");
    let proxy = setup.with_the_real_model(&folder).open().await;
    asked(&proxy, "How do I reset my password?", 1).await;
    asked(&proxy, "Write a haiku about the sea in winter", 2).await;
    let plain = ["How can I reset my password?", "Please, how do I reset my password?"];
    for question in plain {
        assert_eq!(detail(&proxy.send(&Ask::chat(question)).await), "semantic", "{question}");
    }
    let doubtful = [
        "Why can I not reset my password?",
        "How do I set my first password?",
        "Write a haiku about the sea in summer",
        "Write a haiku about the winter",
    ];
    for question in doubtful {
        let answer = proxy.send(&Ask::chat(question)).await;
        assert_eq!(answer.x_cache(), "MISS", "{question}");
    }
    proxy.stop().await;
}
