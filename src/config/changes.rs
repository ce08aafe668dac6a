//! From one configuration to the next while we serve: a list of typed changes, or the settings that
//! only a restart can change.

use super::Config;

/// What differs between two configurations and can be taken over at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Server certificates, or whom to trust.
    Tls,
    /// Model servers, where they are asked, or how long they may take.
    Upstreams,
    /// How many requests, and how large.
    Limits,
    /// What is kept and for how long.
    Cache,
}

impl Change {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Upstreams => "upstreams",
            Self::Limits => "limits",
            Self::Cache => "cache",
        }
    }
}

/// What it takes to get from `old` to `new`; empty when they are the same.
///
/// # Errors
/// The settings that differ and that a running process cannot change. Nothing of the rest may be
/// taken over then: half a configuration is one that nobody wrote.
pub fn changes(old: &Config, new: &Config) -> Result<Vec<Change>, Vec<&'static str>> {
    let fixed: Vec<_> =
        fixed(old, new).into_iter().filter_map(|(key, same)| (!same).then_some(key)).collect();
    if !fixed.is_empty() {
        return Err(fixed);
    }
    let found = [
        (Change::Tls, old.tls != new.tls),
        (Change::Upstreams, old.upstream != new.upstream || old.timeouts != new.timeouts),
        (Change::Limits, old.limits != new.limits),
        (Change::Cache, old.cache != new.cache),
    ];
    Ok(found.into_iter().filter_map(|(change, differs)| differs.then_some(change)).collect())
}

/// Settings that are built into something for as long as the process lives, and whether they are
/// the same.
fn fixed(old: &Config, new: &Config) -> [(&'static str, bool); 30] {
    // All named, so that a new section cannot be forgotten here.
    let Config {
        listen,
        tls: _,
        dialect: _, // each upstream holds its own
        upstream: _,
        limits,
        timeouts: _,
        cache,
        embed,
        store,
        admin,
        log,
        telemetry,
        prices,
        drain,
    } = old;
    let (other, kept) = (&new.limits, &new.cache);
    let (semantic, near) = (&cache.semantic, &kept.semantic);
    [
        ("listen", *listen == new.listen),
        ("limits.connections", limits.connections == other.connections),
        ("limits.header_count", limits.header_count == other.header_count),
        ("limits.header_bytes", limits.header_bytes == other.header_bytes),
        ("limits.header_time", limits.header_time == other.header_time),
        ("limits.handshake_time", limits.handshake_time == other.handshake_time),
        ("limits.write_stall", limits.write_stall == other.write_stall),
        ("limits.h2_streams", limits.h2_streams == other.h2_streams),
        ("cache.scope", cache.scope == kept.scope),
        ("cache.grace", cache.grace == kept.grace),
        ("cache.max_bytes", cache.max_bytes == kept.max_bytes),
        ("cache.flight_bytes", cache.flight_bytes == kept.flight_bytes),
        ("cache.flights_bytes", cache.flights_bytes == kept.flights_bytes),
        ("cache.semantic.policy", semantic.policy == near.policy),
        ("cache.semantic.max_wrong_hits", semantic.max_wrong_hits == near.max_wrong_hits),
        ("cache.semantic.audit", semantic.audit == near.audit),
        ("cache.semantic.guards", semantic.guards == near.guards),
        ("cache.semantic.volatile", semantic.volatile == near.volatile),
        ("cache.semantic.stable", semantic.stable == near.stable),
        ("cache.semantic.confirmations", semantic.confirmations == near.confirmations),
        ("cache.semantic.probe_limit", semantic.probe_limit == near.probe_limit),
        ("cache.semantic.vectors_bytes", semantic.vectors_bytes == near.vectors_bytes),
        ("cache.semantic.judge", semantic.judge == near.judge),
        ("embed", *embed == new.embed),
        ("store", *store == new.store),
        ("admin", *admin == new.admin),
        ("log", *log == new.log),
        ("telemetry", *telemetry == new.telemetry),
        ("prices", *prices == new.prices),
        ("drain", *drain == new.drain),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Overrides, load};

    fn with(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let text = format!("{text}\n[[upstream]]\nname = \"a\"\nurls = [\"http://h:1\"]\n");
        std::fs::write(&path, text).unwrap();
        let loaded = load(Some(&path), &BTreeMap::new(), &Overrides::default());
        loaded.unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    #[test]
    fn each_setting_belongs_to_one_change() {
        let old = with("");
        assert_eq!(changes(&old, &with("")), Ok(vec![]));
        for (text, change) in [
            ("tls.min_version = \"1.3\"", Change::Tls),
            ("timeouts.idle = \"1s\"", Change::Upstreams),
            ("limits.requests = 7", Change::Limits),
            ("cache.ttl = \"1s\"", Change::Cache),
            ("cache.semantic.min_similarity = 0.99", Change::Cache),
        ] {
            assert_eq!(changes(&old, &with(text)), Ok(vec![change]), "{text}");
        }
        let mut new = with("limits.requests = 7");
        new.upstream[0].urls.push("http://h:2".into());
        assert_eq!(changes(&old, &new), Ok(vec![Change::Upstreams, Change::Limits]));
    }

    #[test]
    fn what_cannot_change_is_named_all_of_it() {
        let new =
            with("listen.http = \"127.0.0.1:1\"\ncache.max_bytes = \"1MiB\"\ncache.ttl = \"1s\"");
        assert_eq!(changes(&with(""), &new), Err(vec!["listen", "cache.max_bytes"]));
    }
}
