//! What must hold for upstreams: their dialects, addresses, routes and stand-ins.

use std::collections::BTreeSet;

use http::{Uri, uri::Scheme};

use super::{Wrong, say};
use crate::config::{Config, Family, Upstream};

/// Each described dialect is sound, and each upstream's is built in or described.
pub(super) fn dialects(config: &mut Config, wrong: &mut Wrong) {
    for (name, custom) in &mut config.dialect {
        custom.name.clone_from(name);
        for (key, message) in custom.problems() {
            say(wrong, &format!("dialect.{name}.{key}"), message);
        }
        if Family::ALL.iter().any(|(known, _)| known == name) {
            say(
                wrong,
                &format!("dialect.{name}"),
                "is the name of a built-in dialect: choose another",
            );
        }
    }
    for (index, upstream) in config.upstream.iter_mut().enumerate() {
        let Family::Custom(custom) = &mut upstream.dialect else { continue };
        match config.dialect.get(&custom.name) {
            Some(described) => custom.clone_from(&Box::new(described.clone())),
            None => {
                let known = Family::ALL.map(|(name, _)| name).join("`, `");
                let name = &custom.name;
                let message =
                    format!("unknown dialect `{name}`: a [dialect.{name}] section, or `{known}`");
                say(wrong, &format!("upstream[{index}].dialect"), message);
            }
        }
    }
}

/// Each upstream is whole in itself, and no two claim the same name or path.
pub(super) fn upstreams(upstreams: &[Upstream], wrong: &mut Wrong) {
    if upstreams.is_empty() {
        say(
            wrong,
            "upstream",
            "no upstream is configured: name the model server with `--upstream http://HOST:PORT` \
             or an [[upstream]] section with `urls`",
        );
    }
    let mut names = BTreeSet::new();
    let mut routes = BTreeSet::new();
    for (index, upstream) in upstreams.iter().enumerate() {
        let key = |field: &str| format!("upstream[{index}].{field}");
        if upstream.name.is_empty() {
            say(wrong, &key("name"), "is missing: a short name for metrics and errors");
        } else if !names.insert(&upstream.name) {
            say(wrong, &key("name"), format!("`{}` is used twice", upstream.name));
        }
        if upstream.urls.is_empty() {
            say(wrong, &key("urls"), "is missing: at least one \"http://HOST:PORT\"");
        }
        if upstream.ttl.is_some_and(|ttl| ttl.get().is_zero()) {
            say(wrong, &key("ttl"), "must be longer than zero");
        }
        for url in &upstream.urls {
            if let Err(message) = base_url(url) {
                say(wrong, &key("urls"), message);
            }
        }
        if !upstream.check.is_empty() && !upstream.check.starts_with('/') {
            say(wrong, &key("check"), "expected a path such as \"/health\"");
        }
        if !upstream.metrics.is_empty() && !upstream.metrics.starts_with('/') {
            say(wrong, &key("metrics"), "expected a path such as \"/metrics\"");
        }
        if upstream.budget.is_some_and(|budget| budget.get().is_zero()) {
            say(wrong, &key("budget"), "must be longer than zero");
        }
        if !(upstream.budget_share > 0.0 && upstream.budget_share < 1.0) {
            say(wrong, &key("budget_share"), "expected a share in (0, 1): 0.99 is 99 %");
        }
        for route in &upstream.routes {
            let headers = format!("{:?}", upstream.headers);
            if !route.starts_with('/') {
                say(wrong, &key("routes"), format!("`{route}` must begin with `/`"));
            } else if !routes.insert((route, headers, &upstream.models)) {
                let message = format!(
                    "`{route}` is already another upstream's: tell them apart by `models` or \
                     `headers`"
                );
                say(wrong, &key("routes"), message);
            }
        }
        if upstream.cert.is_some() != upstream.key.is_some() {
            say(wrong, &key("cert"), "cert and key belong together: one of them is not set");
        }
        if upstream.hedge.is_some_and(|after| after.get().is_zero()) {
            say(wrong, &key("hedge"), "must be longer than zero, or \"\" for never");
        }
        if !(upstream.hedge_share > 0.0 && upstream.hedge_share <= 1.0) {
            say(wrong, &key("hedge_share"), "expected a share in (0, 1]: 0.05 is 5 %");
        }
        if !(0.0..=1.0).contains(&upstream.speculate) {
            say(wrong, &key("speculate"), "expected a share in [0, 1]: 0.02 is 2 %, 0 is never");
        }
    }
    failover(upstreams, wrong);
}

/// Whoever stands in must exist, be another, and understand the same requests.
fn failover(upstreams: &[Upstream], wrong: &mut Wrong) {
    for (index, upstream) in upstreams.iter().enumerate() {
        for name in &upstream.failover {
            let message = match upstreams.iter().find(|one| one.name == *name) {
                None => format!("no upstream is named `{name}`"),
                Some(one) if one.name == upstream.name => {
                    "an upstream cannot stand in for itself".into()
                }
                Some(one) if one.dialect != upstream.dialect => {
                    format!("`{name}` speaks another dialect: it would not understand the request")
                }
                Some(_) => continue,
            };
            say(wrong, &format!("upstream[{index}].failover"), message);
        }
    }
}

/// A base URL: http or https, a host, maybe a path, nothing behind it.
pub(super) fn base_url(url: &str) -> Result<(), String> {
    let expected = || format!("expected a URL such as \"http://127.0.0.1:8000\", not \"{url}\"");
    if let Some(path) = url.strip_prefix("unix:") {
        return match path.starts_with('/') && !path.ends_with('/') {
            true => Ok(()),
            false => Err(format!(
                "expected a socket's path as in \"unix:/run/vllm.sock\", not \"{url}\""
            )),
        };
    }
    let uri: Uri = url.parse().map_err(|_| expected())?;
    let known = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
    if !known || uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
        return Err(expected());
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(format!("\"{}\" holds a credential: clients bring their own", uri.path()));
    }
    Ok(())
}
