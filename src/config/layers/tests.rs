use std::io::Write as _;

use super::*;

fn load_text(text: &str) -> Result<Config, Problems> {
    load_with(text, &[])
}

fn load_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, Problems> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let environment =
        environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let overrides =
        Overrides { upstream: Some("http://127.0.0.1:1".into()), ..Overrides::default() };
    load(Some(file.path()), &environment, &overrides)
}

fn problems(text: &str) -> Vec<Problem> {
    load_text(text).unwrap_err().0
}

#[test]
fn the_compiled_in_file_is_complete_and_good() {
    let config = load_text("").unwrap();
    assert_eq!(config.cache.ttl.get().as_secs(), 3600);
    assert_eq!(config.listen.http.unwrap().port(), 8080);
    assert!(config.listen.https.is_none());
}

#[test]
fn no_upstream_says_how_to_name_one() {
    let wrong = load(None, &BTreeMap::new(), &Overrides::default()).unwrap_err();
    assert_eq!(wrong.0.len(), 1);
    assert!(wrong.0[0].message.contains("--upstream http://HOST:PORT"), "{wrong}");
}

#[test]
fn every_problem_is_said_at_once_with_key_and_line() {
    let wrong = problems(
        "[cache]\nttll = \"5m\"\nmax_bytes = 7\n\n[cache.semantic]\nmin_similarity = 1.5\n\n\
         [listen]\nhttp = \"nowhere\"\n\n[[upstream]]\nname = \"a\"\nurl = [\"http://x\"]\n",
    );
    let said: Vec<String> = wrong
        .iter()
        .map(|problem| format!("{}@{}", problem.key, problem.place.rsplit(':').next().unwrap()))
        .collect();
    for expected in [
        "cache.ttll@2",
        "cache.max_bytes@3",
        "cache.semantic.min_similarity@6",
        "listen.http@9",
        "upstream[0].url@13",
    ] {
        assert!(said.iter().any(|one| one == expected), "{expected} is missing in {said:?}");
    }
    assert!(wrong.iter().any(|problem| problem.message.contains("did you mean `ttl`?")));
}

#[test]
fn a_syntax_error_names_its_line() {
    let wrong = problems("[cache]\nttl = \"5m\nmax_bytes = \"1MiB\"\n");
    assert!(wrong[0].place.ends_with(":2"), "{wrong:?}");
}

#[test]
fn the_environment_overrides_the_file_and_fills_strings() {
    let text = "[cache]\nttl = \"5m\"\n[admin]\ntoken = \"${SECRET}\"\n";
    let environment =
        [("REPRISE__CACHE__TTL", "10m"), ("REPRISE__EMBED__THREADS", "3"), ("SECRET", "hush")];
    let config = load_with(text, &environment).unwrap();
    assert_eq!(config.cache.ttl.get().as_secs(), 600);
    assert_eq!(config.embed.threads, 3);
    assert_eq!(config.admin.token.as_deref(), Some("hush"));
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn an_unset_variable_and_an_unknown_override_are_errors() {
    let wrong = load_with("[admin]\ntoken = \"${NOPE}\"\n", &[("REPRISE__CACHE__TLL", "1s")])
        .unwrap_err()
        .0;
    assert!(wrong.iter().any(|problem| problem.message.contains("NOPE is not set")), "{wrong:?}");
    assert!(wrong.iter().any(|problem| problem.place.contains("REPRISE__CACHE__TLL")), "{wrong:?}");
}

#[test]
fn self_signed_brings_its_own_port() {
    let overrides = Overrides {
        upstream: Some("http://127.0.0.1:1".into()),
        tls_self_signed: true,
        ..Overrides::default()
    };
    let config = load(None, &BTreeMap::new(), &overrides).unwrap();
    assert_eq!(config.listen.https.unwrap().port(), 8443);
}

#[test]
fn urls_are_checked() {
    for bad in ["ftp://x", "http://", "x", "http://a?b", "http://user:pw@h"] {
        let overrides = Overrides { upstream: Some(bad.into()), ..Overrides::default() };
        assert!(load(None, &BTreeMap::new(), &overrides).is_err(), "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_an_answer_and_never_a_panic(text in "\\PC{0,200}") {
        let _ = load_text(&text);
    }
}
