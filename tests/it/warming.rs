//! `reprise warm`: answers before anybody asks.

use std::path::{Path, PathBuf};

use http::HeaderMap;
use reprise::app::warm::{Defaults, Wanted, WarmFault, Warmed, Warmer};

use crate::{
    client::Ask,
    origin::Origin,
    proxy::{Proxy, Setup, patiently},
    talk,
};

fn wanted() -> Wanted {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer alice".parse().unwrap());
    Wanted {
        defaults: Defaults { model: Some("m".into()), path: "/v1/chat/completions".into() },
        headers,
        rate: None,
        concurrency: 4,
    }
}

fn file(folder: &Path, lines: &[&str]) -> PathBuf {
    let path = folder.join("questions.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    path
}

async fn warm(proxy: &Proxy, path: &Path) -> Result<Warmed, WarmFault> {
    let warmer = Warmer::new(proxy.house().clone(), proxy.address, wanted()).unwrap();
    let mut seen = (0, 0);
    let warmed = patiently(warmer.run(path, |at, of| seen = (at, of))).await;
    assert_eq!(seen.0, seen.1);
    warmed
}

#[tokio::test(flavor = "multi_thread")]
async fn after_warming_the_first_client_s_request_is_a_hit() {
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let origin = Origin::start(talk::model).await;
    let open = || Setup::new(&origin).semantic(&store).open();
    let path = file(
        folder.path(),
        &[
            r#"{"prompt": "tell me all about topic one"}"#,
            "",
            r#"{"prompt": "what is the answer to everything", "answer": "Forty-two."}"#,
            r#"{"body": {"model": "m", "messages": [{"role": "user", "content": "and so on"}]}}"#,
            r#"{"prompt": "tell me all about topic one"}"#,
        ],
    );
    let proxy = open().await;
    let warmed = warm(&proxy, &path).await.unwrap();
    assert_eq!(warmed.given, 1, "{warmed:?}");
    assert_eq!(warmed.asked + warmed.already, 3, "{warmed:?}");
    assert!(warmed.is_whole(), "{warmed:?}");
    assert_eq!(origin.calls(), 2, "the same question is asked once");
    proxy.stop().await;

    let proxy = open().await;
    for (question, said) in [
        ("tell me all about topic one", None),
        ("what is the answer to everything", Some("Forty-two.")),
        ("and so on", None),
    ] {
        let hit = proxy.send(&Ask::chat(question)).await;
        assert_eq!(hit.x_cache(), "HIT", "{question}");
        assert_eq!(hit.cache_status().detail.as_deref(), Some("exact"));
        if let Some(said) = said {
            assert_eq!(hit.json()["choices"][0]["message"]["content"], said);
        }
    }
    // Also as a stream, and in other words.
    let stream = proxy.send(&Ask::stream("what is the answer to everything")).await;
    assert_eq!(stream.x_cache(), "HIT");
    assert!(stream.text().contains("Forty-two."));
    let near = proxy.send(&Ask::chat("everything what is the answer to")).await;
    assert_eq!(near.cache_status().detail.as_deref(), Some("semantic"));
    // Another's credential is another's cache.
    let other = Ask::chat("and so on").header("authorization", "Bearer bob");
    assert_eq!(proxy.send(&other).await.x_cache(), "MISS");

    let again = warm(&proxy, &path).await.unwrap();
    assert_eq!((again.asked, again.given, again.already), (0, 0, 4));
    assert_eq!(origin.calls(), 3);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_where_it_was_killed() {
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let origin = Origin::start(talk::model).await;
    let open = || Setup::new(&origin).semantic(&store).open();
    let lines: Vec<_> =
        (0..60).map(|n| format!(r#"{{"prompt": "question number {n} of many"}}"#)).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let path = file(folder.path(), &lines);
    let proxy = open().await;
    {
        let warmer = Warmer::new(proxy.house().clone(), proxy.address, wanted()).unwrap();
        let running = warmer.run(&path, |_, _| {});
        tokio::select! {
            _ = running => {}
            () = crate::proxy::eventually("some are asked", || origin.calls() >= 20) => {}
        }
    }
    proxy.stop().await;
    let before = origin.calls() as u64;
    let proxy = open().await;
    let warmed = warm(&proxy, &path).await.unwrap();
    assert!(warmed.is_whole(), "{warmed:?}");
    assert_eq!(warmed.asked + warmed.already, 60);
    // The few that were under way may be asked once more.
    assert!(warmed.already + 8 >= before, "{before} {warmed:?}");
    assert_eq!(proxy.send(&Ask::chat("question number 59 of many")).await.x_cache(), "HIT");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_lines_are_told_before_anything_is_asked() {
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).semantic(&store).open().await;
    let path = file(folder.path(), &[r#"{"prompt": "why?"}"#, "{}", r#"{"prompt": 7}"#]);
    let warmer = Warmer::new(proxy.house().clone(), proxy.address, wanted()).unwrap();
    let error = warmer.run(&path, |_, _| {}).await.unwrap_err().to_string();
    assert!(error.contains("line 2: expected a `prompt`"), "{error}");
    assert!(error.contains("line 3:"), "{error}");
    assert_eq!(origin.calls(), 0);
    // It holds the house, whose tasks end with it.
    drop(warmer);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_told_by_its_line() {
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).semantic(&store).open().await;
    let path = file(
        folder.path(),
        &[
            r#"{"prompt": "why?", "answer": {"choices": []}}"#,
            r#"{"prompt": "how?", "answer": "so"}"#,
            r#"{"body": {"model": "m", "stream": true, "messages": [{"role": "user", "content": "x"}]}, "answer": "y"}"#,
            r#"{"body": {"model": "m"}}"#,
        ],
    );
    let warmed = warm(&proxy, &path).await.unwrap();
    let failed: Vec<_> = warmed.failed.iter().map(|(number, _)| *number).collect();
    assert_eq!((warmed.given, failed), (1, vec![1, 3, 4]), "{warmed:?}");
    assert!(warmed.failed[1].1.contains("stream"), "{warmed:?}");
    proxy.stop().await;
}
