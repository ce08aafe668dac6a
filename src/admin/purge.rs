//! Deleting many entries at once, with a look at how many first.

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, authority::Writer, refusal::Refusal};
use crate::store::Selector;

/// Whether a purge deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgeMode {
    /// Only says how many there are.
    Count,
    /// Deletes them.
    Delete,
}

/// `{"model": "gpt-4o", "dry_run": true}`: exactly one selector.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Order {
    all: Option<bool>,
    model: Option<String>,
    tag: Option<String>,
    tenant: Option<String>,
    route: Option<String>,
    before: Option<Moment>,
    dry_run: bool,
}

/// A time as programs or as people write it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Moment {
    UnixMs(u64),
    Text(String),
}

impl Moment {
    fn unix_ms(&self) -> Option<u64> {
        match self {
            Self::UnixMs(ms) => Some(*ms),
            Self::Text(text) => {
                let time = humantime::parse_rfc3339_weak(text).ok()?;
                let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
                u64::try_from(since.as_millis()).ok()
            }
        }
    }
}

impl Order {
    fn selector(self) -> Result<Selector, Refusal> {
        let before = self.before.map(|moment| {
            moment.unix_ms().map(Selector::Before).ok_or_else(|| {
                Refusal::bad_request(
                    "`before` is a time in Unix milliseconds or like \"2026-01-31T12:00:00Z\"",
                )
            })
        });
        let named = [
            // `"all": false` selects nothing, and is surely no wish to delete.
            self.all.filter(|all| *all).map(|_| Selector::All),
            self.model.map(Selector::Model),
            self.tag.map(Selector::Tag),
            self.tenant.map(Selector::Tenant),
            self.route.map(Selector::Route),
            before.transpose()?,
        ];
        let mut given = named.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(selector), None) => Ok(selector),
            _ => Err(Refusal::bad_request(
                "name exactly one of `all` (true), `model`, `tag`, `tenant`, `route`, `before`",
            )),
        }
    }
}

pub(super) async fn purge(
    writer: Writer,
    State(admin): State<Admin>,
    order: Result<Json<Order>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let Json(order) = order.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
    let mode = if order.dry_run { PurgeMode::Count } else { PurgeMode::Delete };
    let selector = order.selector()?;
    let subject = format!("{selector:?}");
    let entries = admin.entries.purge(selector, mode).await?;
    if mode == PurgeMode::Delete {
        writer.audit("purge", &subject, entries);
    }
    Ok(Json(json!({"dry_run": mode == PurgeMode::Count, "entries": entries})))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(json: Value) -> Result<Selector, String> {
        let order: Order = serde_json::from_value(json).map_err(|error| error.to_string())?;
        order.selector().map_err(|refusal| refusal.message.into_owned())
    }

    #[test]
    fn each_selector_can_be_said() {
        let cases = [
            (json!({"all": true}), Selector::All),
            (json!({"model": "m"}), Selector::Model("m".into())),
            (json!({"tag": "t"}), Selector::Tag("t".into())),
            (json!({"tenant": "h"}), Selector::Tenant("h".into())),
            (json!({"route": "r"}), Selector::Route("r".into())),
            (json!({"before": 1000}), Selector::Before(1000)),
            (json!({"before": "1970-01-01T00:00:02Z"}), Selector::Before(2000)),
            (json!({"before": "1970-01-01 00:00:02"}), Selector::Before(2000)),
        ];
        for (json, expected) in cases {
            assert_eq!(selector(json.clone()), Ok(expected), "{json}");
        }
    }

    #[test]
    fn nothing_is_deleted_by_accident() {
        for json in [
            json!({}),
            json!({"all": false}),
            json!({"model": "m", "tag": "t"}),
            json!({"all": true, "model": "m"}),
        ] {
            let error = selector(json.clone()).unwrap_err();
            assert!(error.contains("exactly one"), "{json}: {error}");
        }
        assert!(selector(json!({"before": "yesterday"})).unwrap_err().contains("`before`"));
        // A misspelt selector beside a good one must not be overlooked.
        assert!(selector(json!({"all": true, "modle": "m"})).unwrap_err().contains("modle"));
    }
}
