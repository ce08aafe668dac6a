//! Which upstream serves a request: by path, headers and model.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Upstream;
use crate::config;

/// Rules in the order in which they are tried.
#[derive(Clone, Debug)]
pub(super) struct Table(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Empty: all.
    models: Vec<String>,
    upstream: Arc<Upstream>,
}

impl Table {
    /// `all` stands in the order of `settings`.
    pub(super) fn new(settings: &[config::Upstream], all: &[Arc<Upstream>]) -> Self {
        let mut rules = Vec::new();
        for (settings, upstream) in settings.iter().zip(all) {
            for path in &settings.routes {
                rules.push(Rule {
                    path: path.clone(),
                    headers: settings.headers.0.clone(),
                    models: settings.models.clone(),
                    upstream: Arc::clone(upstream),
                });
            }
        }
        // The most particular first; the sort is stable, so the file's order decides the rest.
        rules.sort_by_key(|rule| {
            std::cmp::Reverse((rule.path.len(), rule.headers.len(), !rule.models.is_empty()))
        });
        Self(rules)
    }

    /// See [`super::Upstreams::route`].
    pub(super) fn find(
        &self,
        path: &str,
        headers: &HeaderMap,
        model: Option<&str>,
    ) -> Option<&Arc<Upstream>> {
        let mut fits = self.0.iter().filter(|rule| rule.covers(path) && rule.has(headers));
        let found = match model {
            Some(model) => fits.find(|rule| rule.serves(model)),
            None => {
                let first = fits.next()?;
                let open = |rule: &&Rule| rule.models.is_empty();
                Some(first).filter(open).or_else(|| fits.find(open)).or(Some(first))
            }
        };
        found.map(|rule| &rule.upstream)
    }
}

impl Rule {
    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(self.path.as_str()).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/')
        })
    }

    fn has(&self, headers: &HeaderMap) -> bool {
        self.headers
            .iter()
            .all(|(name, wanted)| headers.get_all(name).iter().any(|value| value == wanted))
    }

    fn serves(&self, model: &str) -> bool {
        let names = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => model == pattern,
        };
        self.models.is_empty() || self.models.iter().any(names)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{config::Overrides, upstream::Upstreams};

    fn table(upstreams: &str) -> Upstreams {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, upstreams).unwrap();
        let config = config::load(Some(&path), &BTreeMap::new(), &Overrides::default());
        Upstreams::open(&config.unwrap_or_else(|wrong| panic!("{wrong}"))).unwrap()
    }

    const THREE: &str = r#"
        [[upstream]]
        name = "rest"
        urls = ["http://h:1"]
        [[upstream]]
        name = "large"
        urls = ["http://h:2"]
        models = ["gpt-4*", "o3"]
        [[upstream]]
        name = "blue"
        urls = ["http://h:3"]
        headers = { x-team = "blue" }
        [[upstream]]
        name = "images"
        urls = ["http://h:4"]
        routes = ["/v1/images"]
    "#;

    #[tokio::test]
    async fn the_longest_path_then_headers_then_models_decide() {
        let all = table(THREE);
        let none = HeaderMap::new();
        let mut blue = HeaderMap::new();
        blue.insert("x-team", HeaderValue::from_static("blue"));
        let mut red = HeaderMap::new();
        red.insert("x-team", HeaderValue::from_static("red"));
        let name = |path, headers, model| all.route(path, headers, model).unwrap().name();
        for (path, headers, model, expected) in [
            ("/v1/chat/completions", &none, Some("gpt-4o"), "large"),
            ("/v1/chat/completions", &none, Some("o3"), "large"),
            ("/v1/chat/completions", &none, Some("o3-mini"), "rest"),
            ("/v1/chat/completions", &none, None, "rest"),
            ("/v1/chat/completions", &blue, Some("gpt-4o"), "blue"),
            ("/v1/chat/completions", &red, Some("gpt-4o"), "large"),
            ("/v1/images/edits", &blue, Some("gpt-4o"), "images"),
            ("/v1/imagesque", &none, None, "rest"),
        ] {
            assert_eq!(name(path, headers, model), expected, "{path} {headers:?} {model:?}");
        }
    }

    #[tokio::test]
    async fn a_model_that_nobody_serves_has_no_upstream_but_a_request_without_model_has() {
        let all = table("[[upstream]]\nname = \"a\"\nurls = [\"http://h:1\"]\nmodels = [\"m\"]");
        let none = HeaderMap::new();
        assert!(all.route("/v1/chat/completions", &none, Some("x")).is_none());
        assert!(all.route("/v1/models", &none, None).is_some());
    }
}
