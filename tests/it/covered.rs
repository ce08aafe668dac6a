//! `store.prompts = false`: guards work without the text of prompts.

use std::path::Path;

use crate::{client::Ask, origin::Origin, proxy::Setup, talk};

/// Every file below a folder holds none of these words, in whatever case.
fn holds_none(folder: &Path, words: &[&str]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holds_none(&path, words);
            continue;
        }
        // Most of the files is holes; the standard library's search is quick even in a debug build.
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).to_ascii_lowercase();
        for word in words {
            assert!(!text.contains(word), "`{word}` lies in {}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_prompt_lies_in_the_store_and_guards_veto_after_a_restart_and_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let open = || {
        Setup::new(&origin)
            .with("store.prompts = false")
            .with("cache.semantic.min_similarity = 0.5")
            .with("cache.semantic.guards = [\"negation\", \"entity\", \"number\"]")
            .semantic(&folder)
            .open()
    };
    let proxy = open().await;
    let stored = "Is Anthony allowed to swim near Ravenna";
    assert_eq!(proxy.send(&Ask::chat(stored)).await.x_cache(), "MISS");
    proxy.written(1).await;
    proxy.stop().await;
    holds_none(folder.path(), &["anthony", "allowed", "swim", "ravenna"]);

    let proxy = open().await;
    let mut calls = origin.calls();
    for (asked, guard) in [
        ("Is Anthony not allowed to swim near Ravenna", "guard_negation"),
        ("Is Bernard allowed to swim near Ravenna", "guard_entity"),
        ("Is Anthony allowed to swim near Ravenna at 9", "guard_number"),
    ] {
        // Not kept, so that each is compared with the stored one alone.
        let miss = proxy.send(&Ask::chat(asked).header("x-reprise-ttl", "1ms")).await;
        let status = miss.cache_status();
        assert_eq!((miss.x_cache(), status.detail.as_deref()), ("MISS", Some(guard)), "{asked}");
        calls += 1;
        assert_eq!(origin.calls(), calls);
    }
    let near = proxy.send(&Ask::chat("Near Ravenna is Anthony allowed to swim")).await;
    assert_eq!(near.cache_status().detail.as_deref(), Some("semantic"), "{:?}", near.headers);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_in_clear_is_compared_too_when_the_setting_changes() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let open = |setting: &'static str| {
        Setup::new(&origin)
            .with(setting)
            .with("cache.semantic.min_similarity = 0.5")
            .with("cache.semantic.guards = [\"negation\", \"entity\", \"number\"]")
            .semantic(&folder)
            .open()
    };
    let clear = open("store.prompts = true").await;
    clear.send(&Ask::chat("Is Anthony allowed to swim near Ravenna")).await;
    clear.stop().await;
    let covered = open("store.prompts = false").await;
    covered.send(&Ask::chat("Is Bernard allowed to swim near Ravenna")).await;
    covered.stop().await;
    let proxy = open("store.prompts = true").await;
    let calls = origin.calls();
    for asked in
        ["near Ravenna is Anthony allowed to swim", "near Ravenna is Bernard allowed to swim"]
    {
        let hit = proxy.send(&Ask::chat(asked)).await;
        assert_eq!(hit.cache_status().detail.as_deref(), Some("semantic"), "{asked}");
    }
    assert_eq!(
        proxy.send(&Ask::chat("Is Anthony not allowed to swim near Ravenna")).await.x_cache(),
        "MISS"
    );
    assert_eq!(origin.calls(), calls + 1);
    proxy.stop().await;
}
