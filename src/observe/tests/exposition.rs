//! What a scrape finds.

use std::{collections::BTreeSet, time::Duration};

use http::StatusCode;

use super::*;

#[test]
fn the_contracts_series_exist_at_zero_from_the_start() {
    let observer = observer();
    observer.route("vllm", "openai");
    let text = observer.scrape(&Rooms).unwrap();
    for series in [
        r#"reprise_requests_total{dialect="openai",outcome="hit_exact",route="vllm"}"#,
        r#"reprise_requests_total{dialect="none",outcome="error",route="none"}"#,
        r#"reprise_stage_seconds_count{stage="embed"}"#,
        r#"reprise_first_token_seconds_count{outcome="miss"}"#,
        "reprise_saved_tokens_total",
        "reprise_saved_upstream_seconds_total",
        r#"reprise_verdict_total{verdict="serve"}"#,
        r#"reprise_bypass_total{reason="no_store"}"#,
    ] {
        assert_eq!(line(&text, series), Some("0"), "{series}\n{text}");
    }
    let build = format!("reprise_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(line(&text, &build), Some("1"));
}

#[test]
fn the_rooms_reports_become_series() {
    let text = observer().scrape(&Rooms).unwrap();
    for (series, value) in [
        ("reprise_memory_entries", "3"),
        ("reprise_store_records", "7"),
        (r#"reprise_store_up{kind="embedded"}"#, "1"),
        (r#"reprise_store_writes_total{result="dropped"}"#, "2"),
        (r#"reprise_store_evicted_total{reason="tenant_bytes"}"#, "3"),
        ("reprise_embed_queue", "5"),
        (r#"reprise_embed_texts_total{result="vector"}"#, "8"),
        (r#"reprise_server_waiting{replica="http://a",route="vllm"}"#, "3"),
        (r#"reprise_server_up{replica="http://a",route="vllm"}"#, "1"),
        (r#"reprise_embed_up{model="m"}"#, "1"),
        (r#"reprise_upstream_in_flight{replica="http://a",route="vllm"}"#, "2"),
        (r#"reprise_upstream_connections_total{replica="http://b",route="vllm"}"#, "11"),
        ("reprise_flight_joined_total", "4"),
        ("reprise_log_dropped_lines_total", "6"),
    ] {
        assert_eq!(line(&text, series), Some(value), "{series}\n{text}");
    }
    if cfg!(target_os = "linux") {
        let resident: f64 = line(&text, "process_resident_memory_bytes").unwrap().parse().unwrap();
        assert!(resident > 1e6);
        assert!(line(&text, "process_open_fds").is_some(), "{text}");
    }
}

/// The rules of `promtool check metrics` that can be told from the text.
#[test]
fn names_follow_prometheus_habits() {
    let observer = observer();
    request(&observer, Outcome::Miss, |record| record.fault = Some(crate::fault::Kind::Cut));
    let text = observer.scrape(&Rooms).unwrap();
    let mut helped = BTreeSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(help.ends_with('.'), "{name}: help is a sentence");
            assert!(helped.insert(name.to_owned()), "{name} is there twice");
        }
        let Some(kind) = line.strip_prefix("# TYPE ") else { continue };
        let (name, kind) = kind.split_once(' ').unwrap();
        assert!(helped.contains(name), "{name} has no help");
        assert!(name.starts_with("reprise_") || name.starts_with("process_"), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        for reserved in ["_count", "_sum", "_bucket", "_info_total"] {
            assert!(!name.ends_with(reserved), "{name}");
        }
        for unit in ["milliseconds", "_ms", "_kb", "minutes", "megabytes"] {
            assert!(!name.contains(unit), "{name}: base units only");
        }
        if kind == "histogram" {
            assert!(name.ends_with("_seconds"), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_finished_request_is_counted_everywhere() {
    let observer = observer();
    request(&observer, Outcome::HitSemantic, |record| {
        record.stages.record(Stage::Embed, Duration::from_micros(1700));
        record.reason = Some("lookup_deadline");
        record.verdict = Some("serve");
        record.tokens_saved = 21;
        record.upstream_saved = Duration::from_millis(2500);
        record.bytes_in = 5;
        record.sent(8);
    });
    let text = observer.scrape(&Rooms).unwrap();
    for (series, value) in [
        (r#"reprise_requests_total{dialect="openai",outcome="hit_semantic",route="vllm"}"#, "1"),
        (r#"reprise_stage_seconds_bucket{stage="embed",le="0.001"}"#, "0"),
        (r#"reprise_stage_seconds_bucket{stage="embed",le="0.0025"}"#, "1"),
        (r#"reprise_stage_seconds_count{stage="total"}"#, "1"),
        (r#"reprise_first_token_seconds_count{outcome="hit_semantic"}"#, "1"),
        (r#"reprise_bypass_total{reason="lookup_deadline"}"#, "1"),
        (r#"reprise_verdict_total{verdict="serve"}"#, "1"),
        ("reprise_saved_tokens_total", "21"),
        ("reprise_saved_upstream_seconds_total", "2.5"),
        ("reprise_received_bytes_total", "5"),
        ("reprise_sent_bytes_total", "8"),
        (r#"reprise_body_ends_total{end="complete"}"#, "1"),
    ] {
        assert_eq!(line(&text, series), Some(value), "{series}\n{text}");
    }
}

#[test]
fn a_route_asked_for_twice_is_the_same_one() {
    let observer = observer();
    assert!(Arc::ptr_eq(&observer.route("a", "openai"), &observer.route("a", "openai")));
    assert!(!Arc::ptr_eq(&observer.route("a", "openai"), &observer.route("b", "openai")));
}

#[test]
fn ten_thousand_models_and_tenants_do_not_grow_the_series_past_the_bound() {
    let observer = observer();
    let series = |observer: &Observer| observer.scrape(&Rooms).unwrap().lines().count();
    let of_models = |observer: &Observer| {
        let text = observer.scrape(&Rooms).unwrap();
        text.lines().filter(|line| line.starts_with("reprise_request_seconds_count")).count()
    };
    let ask = |number: u64, status: StatusCode, outcome: Outcome| {
        request(&observer, outcome, |record| {
            record.status = Some(status);
            record.model = Some(format!("model-{number}").into());
            record.tenant = Some(format!("tenant-{number}").into());
            record.path = format!("/{number}");
        });
    };
    for number in 0..10_000 {
        ask(number, StatusCode::NOT_FOUND, Outcome::Miss);
    }
    assert_eq!(of_models(&observer), 1, "what nobody answered for is other");
    for number in 0..10_000 {
        for outcome in Outcome::ALL {
            ask(number, StatusCode::OK, outcome);
        }
    }
    assert_eq!(of_models(&observer), (models::MAX_MODELS + 1) * Outcome::ALL.len());
    let before = series(&observer);
    for number in 10_000..20_000 {
        ask(number, StatusCode::OK, Outcome::HitExact);
    }
    assert_eq!(series(&observer), before);
}

#[tokio::test(start_paused = true)]
async fn savings_have_a_price_where_the_model_has_one() {
    let price = crate::config::Price { input: 2.0, output: 10.0 };
    let models = [("llama*".to_owned(), price)].into();
    let prices = crate::config::Prices { date: Some("2026-11-24".into()), models };
    let settings = Settings { prices: PriceTable::new(&prices), ..settings() };
    let observer = Observer::new(settings).unwrap();
    for model in ["llama-3", "unknown"] {
        request(&observer, Outcome::HitExact, |record| {
            record.model = Some(model.into());
            record.tokens_prompt = Some(100_000);
            record.tokens_completion = Some(50_000);
            record.tokens_saved = 150_000;
        });
    }
    let text = observer.scrape(&Rooms).unwrap();
    assert_eq!(line(&text, "reprise_saved_usd_total"), Some("0.7"));
    assert_eq!(line(&text, "reprise_saved_unpriced_tokens_total"), Some("150000"));
    let stats = serde_json::to_value(observer.stats(&Rooms)).unwrap();
    assert_eq!(stats["saved"]["usd"], 0.7);
    assert_eq!(stats["saved"]["priced_at"], "2026-11-24");
}

#[tokio::test(start_paused = true)]
async fn the_gaps_of_a_stream_are_the_latency_between_tokens() {
    let observer = observer();
    let mut guard = observer.begin(observer.request_id(&HeaderMap::new()));
    guard.shape = Some("stream");
    for ms in [500, 20, 40] {
        tokio::time::advance(Duration::from_millis(ms)).await;
        guard.sent(10);
    }
    drop(guard);
    let mut whole = observer.begin(observer.request_id(&HeaderMap::new()));
    whole.shape = Some("whole");
    whole.sent(10);
    tokio::time::advance(Duration::from_secs(1)).await;
    whole.sent(10);
    drop(whole);
    let text = observer.scrape(&Rooms).unwrap();
    assert_eq!(line(&text, "reprise_inter_token_seconds_count"), Some("2"));
    assert_eq!(line(&text, "reprise_inter_token_seconds_sum"), Some("0.06"));
}

#[test]
fn a_promise_is_counted_and_shown() {
    let observer = observer();
    let route = observer.route("vllm", "openai");
    observer.promise(&route, Promise { budget: Duration::from_millis(200), share: 0.9 });
    request(&observer, Outcome::Miss, |record| record.first_token = Some(Duration::from_secs(1)));
    request(&observer, Outcome::Miss, |_| {});
    let text = observer.scrape(&Rooms).unwrap();
    for (series, value) in [
        (r#"reprise_slo_requests_total{result="broken",route="vllm"}"#, "1"),
        (r#"reprise_slo_requests_total{result="met",route="vllm"}"#, "1"),
        (r#"reprise_slo_budget_seconds{route="vllm"}"#, "0.2"),
        (r#"reprise_slo_share_ratio{route="vllm"}"#, "0.9"),
    ] {
        assert_eq!(line(&text, series), Some(value), "{series}\n{text}");
    }
    let burn: f64 = line(&text, r#"reprise_slo_burn_rate{route="vllm"}"#).unwrap().parse().unwrap();
    assert!((burn - 5.0).abs() < 1e-9, "{burn}");
}
