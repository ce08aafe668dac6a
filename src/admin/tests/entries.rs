//! Entries seen, deleted, purged and marked, and by whom.

use super::*;

#[tokio::test]
async fn an_entry_is_shown_without_its_prompt_and_deleted_once() {
    let admin = Listener::start(PLAIN).await;
    let path = format!("/api/v1/entries/{ID}");
    let (status, body) = admin.get(&path).await;
    assert_eq!(status, 200);
    assert!(body.contains("\"model\":\"m\"") && !body.contains("secret"), "{body}");
    let (status, _, body) = admin.ask("DELETE", &path, "").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["removed"], 1);
    let (status, _, body) = admin.ask("DELETE", &path, "").await;
    assert_eq!((status, code(&body)), (404, "no_entry".into()));
    let (status, body) = admin.get(&path).await;
    assert_eq!((status, code(&body)), (404, "no_entry".into()));
}

#[tokio::test]
async fn a_bad_id_is_a_bad_request() {
    let admin = Listener::start(PLAIN).await;
    let (status, body) = admin.get("/api/v1/entries/nonsense").await;
    assert_eq!((status, code(&body)), (400, "bad_request".into()));
}

#[tokio::test]
async fn a_store_that_cannot_answer_is_503_with_its_reason() {
    let admin = Listener::start(Setup { broken: true, ..PLAIN }).await;
    let (status, body) = admin.get(&format!("/api/v1/entries/{ID}")).await;
    assert_eq!((status, code(&body)), (503, "store_unavailable".into()));
    assert!(body.contains("no disk"), "{body}");
}

#[tokio::test]
async fn prompt_text_is_for_those_who_may_write_where_configured() {
    let admin =
        Listener::start(Setup { prompts: Prompts::Shown, token: Some("t0ken"), ..PLAIN }).await;
    let path = format!("/api/v1/entries/{ID}");
    let (status, body) = admin.get(&path).await;
    assert!(status == 200 && !body.contains("secret"), "{body}");
    let (status, _, body) = admin.ask("GET", &path, "authorization: Bearer t0ken\r\n").await;
    assert!(status == 200 && body.contains("my secret question"), "{body}");
}

#[tokio::test]
async fn writing_needs_the_token_where_there_is_one() {
    let admin = Listener::start(Setup { token: Some("t0ken"), ..PLAIN }).await;
    let path = format!("/api/v1/entries/{ID}");
    let (status, head, body) = admin.ask("DELETE", &path, "").await;
    assert_eq!((status, code(&body)), (401, "token_needed".into()));
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    let (status, _, body) = admin.ask("DELETE", &path, "authorization: Bearer no\r\n").await;
    assert_eq!((status, code(&body)), (401, "token_wrong".into()));
    let cross = "authorization: Bearer t0ken\r\norigin: http://evil.example\r\n";
    let (status, _, body) = admin.ask("DELETE", &path, cross).await;
    assert_eq!((status, code(&body)), (403, "cross_site".into()));
    let (status, _, _) = admin.ask("DELETE", &path, "authorization: Bearer t0ken\r\n").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_purge_counts_before_it_deletes() {
    let admin = Listener::start(PLAIN).await;
    let none = serde_json::json!({"dry_run": true, "entries": 0});
    assert_eq!(admin.post("/api/v1/purge", r#"{"model":"x","dry_run":true}"#, "").await.1, none);
    let (status, found) = admin.post("/api/v1/purge", r#"{"model":"m","dry_run":true}"#, "").await;
    assert_eq!((status, &found["entries"]), (200, &1.into()));
    let path = format!("/api/v1/entries/{ID}");
    assert_eq!(admin.get(&path).await.0, 200, "counting deletes nothing");
    let (_, gone) = admin.post("/api/v1/purge", r#"{"all":true}"#, "").await;
    assert_eq!(gone, serde_json::json!({"dry_run": false, "entries": 1}));
    assert_eq!(admin.get(&path).await.0, 404);
}

#[tokio::test]
async fn a_purge_that_cannot_be_read_deletes_nothing() {
    let admin = Listener::start(Setup { token: Some("t0ken"), ..PLAIN }).await;
    let token = "authorization: Bearer t0ken\r\n";
    for body in ["", "{", "[]", r#"{"model":1}"#, r#"{"moddel":"m"}"#, "{}"] {
        let (status, answer) = admin.post("/api/v1/purge", body, token).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &"bad_request".into()), "{body}");
    }
    let (status, _) = admin.post("/api/v1/purge", r#"{"all":true}"#, "").await;
    assert_eq!(status, 401);
    assert_eq!(admin.get(&format!("/api/v1/entries/{ID}")).await.0, 200);
}

#[tokio::test]
async fn a_mark_names_an_entry_and_needs_the_right_to_write() {
    let admin = Listener::start(Setup { token: Some("t0ken"), ..PLAIN }).await;
    let token = "authorization: Bearer t0ken\r\n";
    let said = |id: &str, correct: bool| format!("{{\"entry\":\"{id}\",\"correct\":{correct}}}");
    let (status, _) = admin.post("/api/v1/feedback", &said(ID, false), "").await;
    assert_eq!(status, 401);
    for body in ["", "{}", &said("x", false), r#"{"entry":"00","correct":1}"#] {
        assert_eq!(admin.post("/api/v1/feedback", body, token).await.0, 400, "{body}");
    }
    let right = admin.post("/api/v1/feedback", &said(ID, true), token).await;
    assert_eq!((right.0, &right.1["removed"]), (200, &0.into()));
    let wrong = admin.post("/api/v1/feedback", &said(ID, false), token).await;
    assert_eq!((wrong.0, &wrong.1["removed"]), (200, &1.into()));
    assert_eq!(admin.post("/api/v1/feedback", &said(ID, false), token).await.0, 404);
}
