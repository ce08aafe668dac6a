//! Answers outlive the process.

use crate::{client::Ask, origin::Origin, proxy::Setup, talk};

#[tokio::test(flavor = "multi_thread")]
async fn answers_survive_a_restart_by_id_and_by_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let ask = |number: usize| Ask::stream(&format!("please tell me all about topic{number} today"));
    let open = || Setup::new(&origin).with("cache.ttl = \"1h\"").semantic(&folder).open();
    let proxy = open().await;
    let mut bodies = Vec::new();
    for number in 0..20 {
        // Each in a partition of its own: they are no neighbours of one another.
        let scoped = ask(number).header("x-reprise-namespace", &format!("n{number}"));
        bodies.push(proxy.send(&scoped).await.body);
    }
    // Not waited for: stopping writes what waits.
    proxy.stop().await;
    let proxy = open().await;
    for (number, body) in bodies.iter().enumerate() {
        let scoped = ask(number).header("x-reprise-namespace", &format!("n{number}"));
        let hit = proxy.send(&scoped).await;
        assert_eq!((hit.x_cache(), &hit.body), ("HIT", body), "{number}");
        assert_eq!(hit.cache_status().detail.as_deref(), Some("exact"));
    }
    let near =
        Ask::stream("today please tell me all about topic7").header("x-reprise-namespace", "n7");
    let hit = proxy.send(&near).await;
    assert_eq!(hit.cache_status().detail.as_deref(), Some("semantic"));
    assert_eq!(hit.body, bodies[7]);
    assert_eq!(origin.calls(), 20);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn life_goes_on_from_generation_through_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let open = || Setup::new(&origin).semantic(&folder).open();
    let ask = Ask::chat("why?").header("x-reprise-ttl", "1h");
    let short = Ask::chat("how?").header("x-reprise-ttl", "1ms");
    let proxy = open().await;
    let first = proxy.send(&ask).await;
    proxy.send(&short).await;
    proxy.stop().await;
    let proxy = open().await;
    let hit = proxy.send(&ask).await;
    assert_eq!(hit.header("x-reprise-entry"), first.header("x-reprise-entry"));
    let (ttl, age) = (hit.cache_status().ttl.unwrap(), hit.header("age").parse::<i64>().unwrap());
    assert!(ttl <= 3600 && (3599..=3600).contains(&(ttl + age)), "{ttl} {age}");
    assert_eq!(proxy.send(&short).await.x_cache(), "MISS");
    assert_eq!(proxy.outcomes("hit_stale"), 0);
    proxy.stop().await;
}

/// Grace is for the end of life, wherever an answer was kept meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn grace_does_not_begin_again_with_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(|seen, call| {
        if call == 0 {
            talk::model(seen, call)
        } else {
            crate::origin::Reply::raw([crate::origin::Step::Cut])
        }
    })
    .await;
    let open = || Setup::new(&origin).with("cache.grace = \"1ms\"").semantic(&folder).open();
    let ask = Ask::chat("why?").header("x-reprise-ttl", "1ms");
    let proxy = open().await;
    proxy.send(&ask).await;
    proxy.stop().await;
    let proxy = open().await;
    for _ in 0..3 {
        assert_eq!(proxy.send(&ask).await.status, 502);
    }
    proxy.stop().await;
}
