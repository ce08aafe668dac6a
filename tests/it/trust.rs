//! Marks, confirmations, limits on probing, freshness, pacing: what keeps a hit from being wrong or
//! from telling too much.

use std::time::{Duration, Instant};

use reprise::{cache::Mark, store::EntryId};

use crate::{
    client::{Answer, Ask},
    origin::{Gate, Origin, Reply, Step},
    proxy::{Proxy, Setup, eventually},
    talk,
};

fn detail(answer: &Answer) -> String {
    answer.cache_status().detail.unwrap_or_default()
}

fn entry(answer: &Answer) -> EntryId {
    answer.header("x-reprise-entry").parse().unwrap()
}

async fn marked(proxy: &Proxy, id: EntryId, mark: Mark) -> Option<u64> {
    proxy.house().cache.mark(id, mark).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_mark_takes_an_answer_out_of_every_tier_and_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let open = || Setup::new(&origin).semantic(&folder).open();
    let proxy = open().await;
    let first = proxy.send(&Ask::chat("how do I reset my password")).await;
    proxy.written(1).await;
    let near = Ask::chat("my password how do I reset");
    let hit = proxy.send(&near).await;
    assert_eq!((detail(&hit).as_str(), entry(&hit)), ("semantic", entry(&first)));
    assert_eq!(marked(&proxy, EntryId(1), Mark::Wrong).await, None, "no such entry");
    assert_eq!(marked(&proxy, entry(&hit), Mark::Right).await, Some(0));
    assert_eq!(detail(&proxy.send(&near).await), "semantic");

    assert_eq!(marked(&proxy, entry(&hit), Mark::Wrong).await, Some(1));
    let exact = Ask::chat("how do I reset my password").header("cache-control", "only-if-cached");
    assert_eq!(proxy.send(&exact).await.status, 504, "neither memory nor the store has it");
    assert_eq!(detail(&proxy.send(&near).await), "no_neighbour");
    proxy.written(2).await;

    // Its question may have a fresh answer, for itself alone.
    let itself = Ask::chat("how do I reset my password").header("x-reprise-mode", "exact");
    assert_eq!(proxy.send(&itself).await.x_cache(), "MISS");
    proxy.written(3).await;
    assert_eq!(detail(&proxy.send(&exact).await), "exact");
    let other = Ask::chat("reset my password how do I");
    let other = proxy.send(&other).await;
    assert_ne!(entry(&other), entry(&first));
    proxy.stop().await;

    let proxy = open().await;
    for question in ["password how do I reset my", "I how do reset my password"] {
        let answer = proxy.send(&Ask::chat(question)).await;
        assert_ne!(entry(&answer), entry(&first), "served again after a restart");
    }
    proxy.stop().await;
}

fn always(text: &'static str) -> impl Fn(&crate::origin::Seen, usize) -> Reply + Send + Sync {
    move |_, _| Reply::json(talk::whole(text, "stop"))
}

fn by(key: &str, question: &str) -> Ask {
    Ask::chat(question).header("authorization", &format!("Bearer {key}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_shared_scope_an_answer_is_shared_once_others_confirmed_it() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(always("It is on the front page, at the very top.")).await;
    let setup = Setup::new(&origin).with("cache.scope = \"shared\"");
    let proxy = setup.semantic(&folder).open().await;
    proxy.send(&by("planter", "how do I reset my password")).await;
    proxy.written(1).await;
    // Exact repeats are the same question, whoever asks.
    assert_eq!(detail(&proxy.send(&by("b", "how do I reset my password")).await), "exact");
    let own = proxy.send(&by("planter", "my password how do I reset")).await;
    assert_eq!(detail(&own), "semantic", "whoever stands behind it may have it");
    for (at, other) in ["b", "c"].into_iter().enumerate() {
        let question = ["password my how do I reset", "reset how do I my password"][at];
        let answer = proxy.send(&by(other, question)).await;
        assert_eq!((answer.x_cache(), detail(&answer).as_str()), ("MISS", "unconfirmed"));
        proxy.written(2 + at as u64).await;
        let again = ["I reset my password how do", "do I reset my password how"][at];
        assert_eq!(detail(&proxy.send(&by(other, again)).await), "semantic", "it confirmed it");
    }
    let stranger = proxy.send(&by("d", "how reset do I my password")).await;
    assert_eq!(detail(&stranger), "semantic", "two others agreed");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_shared_scope_probing_is_limited_by_client() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let setup = Setup::new(&origin).with(
        "cache.scope = \"shared\"\ncache.semantic.probe_limit = 2\ncache.semantic.confirmations = 0",
    );
    let proxy = setup.semantic(&folder).open().await;
    proxy.send(&by("a", "how do I reset my password")).await;
    proxy.written(1).await;
    for (question, expected) in [
        ("my password how do I reset", "semantic"),
        ("password my how do I reset", "semantic"),
        ("reset how do I my password", "probing"),
        ("tell us about canyons found on mars", "no_neighbour"),
    ] {
        let answer = proxy.send(&by("prober", question)).await;
        // Words that fall into one bucket make unlike texts a little alike.
        let found = detail(&answer).replace("below_similarity", "no_neighbour");
        assert_eq!(found, expected, "{question}");
    }
    let other = proxy.send(&by("b", "reset my password how do I")).await;
    assert_eq!(detail(&other), "semantic");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_has_a_life_of_its_own() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).upstream("ttl = \"70s\"").open().await;
    let ask = Ask::chat("why?");
    proxy.send(&ask).await;
    let left = proxy.send(&ask).await.cache_status().ttl.unwrap();
    assert!((0..=70).contains(&left), "{left}");
    let own = Ask::chat("why not?").header("x-reprise-ttl", "1h");
    proxy.send(&own).await;
    assert!(proxy.send(&own).await.cache_status().ttl.unwrap() > 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moves_with_the_clock_is_short_lived_and_never_stale() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin)
        .with("cache.grace = \"1h\"")
        .with("cache.semantic.volatile_ttl = \"40ms\"")
        .with("cache.semantic.volatile = [\"in stock\"]\ncache.semantic.stable = [\"price\"]")
        .open()
        .await;
    for question in ["What is the weather like in Rome?", "Is the blue shirt in stock?"] {
        let ask = Ask::chat(question);
        let first = proxy.send(&ask).await;
        let begun = Instant::now();
        loop {
            let answer = proxy.send(&ask).await;
            assert!(answer.x_cache() == "MISS" || detail(&answer) == "exact", "{question}");
            if answer.body != first.body {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{question}");
        }
    }
    // No word of the moment by this operator's rules.
    let ask = Ask::chat("How is the price of an option computed?");
    proxy.send(&ask).await;
    assert!(proxy.send(&ask).await.cache_status().ttl.unwrap() > 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paced_hit_takes_as_long_as_its_answer_took() {
    const TOOK: Duration = Duration::from_millis(150);
    let gate = Gate::new();
    let script = gate.clone();
    let origin =
        Origin::start(move |seen, call| talk::model(seen, call).after(Step::Await(script.clone())))
            .await;
    let proxy = Setup::new(&origin).with("cache.replay = \"paced\"").open().await;
    let ask = Ask::chat("why?");
    let miss = proxy.spawn(&ask);
    origin.called(1).await;
    tokio::time::sleep(TOOK).await;
    gate.open();
    assert_eq!(miss.await.unwrap().x_cache(), "MISS");
    let begun = Instant::now();
    assert_eq!(proxy.send(&ask).await.x_cache(), "HIT");
    assert!(begun.elapsed() >= TOOK, "{:?}", begun.elapsed());
}

/// In shadow mode every would-be hit is judged: it learns, and says what it would have done.
#[tokio::test(flavor = "multi_thread")]
async fn shadow_mode_learns_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(always("It is on the front page, at the very top.")).await;
    let setup = Setup::new(&origin).with("cache.semantic.mode = \"shadow\"");
    let proxy = setup.with_the_real_model(&folder).open().await;
    proxy.send(&Ask::chat("How do I reset my password?")).await;
    proxy.written(1).await;
    let near = proxy.send(&Ask::chat("How can I reset my password?")).await;
    assert_eq!((near.x_cache(), detail(&near).as_str()), ("MISS", "shadow"));
    let all = || proxy.house().cache.verdict_report().wrong_hits[0].clone();
    eventually("it is judged", || all().audited > 0.0).await;
    let all = all();
    assert_eq!((all.tenant.as_str(), all.would_be_hits, all.point), ("all", 1, 0.0));
    assert!(all.high < 1.0 && all.low == 0.0, "{all:?}");
    proxy.stop().await;
}
