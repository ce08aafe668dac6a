//! Kept answers on their way out: in the shape, the dress and at the pace that is wanted.

use std::time::Duration;

use bytes::Bytes;
use http::Response;

use super::{Body, House, note, report};
use crate::{
    cache::{Hit, HitKind, semantic::Times, verdict::Ruling},
    config::{Identity, Replay, ReplayUsage},
    observe::{Outcome, RecordGuard},
    wire::{
        Dialect, Shape,
        dress::{Dress, dressed},
        reshaped,
    },
};

/// A kept answer in the shape that the client asked for; `None` where it cannot have that shape.
pub(super) fn replay(
    house: &House,
    dialect: &dyn Dialect,
    wanted: Shape,
    hit: &Hit,
    times: Times,
    record: &mut RecordGuard,
) -> Option<Response<Body>> {
    let entry = &hit.entry;
    let body = reshaped(dialect, entry.shape, &entry.body, wanted)?;
    let usage = entry.usage.unwrap_or_default();
    record.entry = Some(entry.id);
    record.tokens_prompt = entry.usage.map(|usage| usage.prompt);
    record.tokens_completion = entry.usage.map(|usage| usage.completion);
    record.tokens_saved = usage.prompt + usage.completion;
    record.upstream_saved = Duration::from_millis(entry.upstream_ms);
    record.outcome = match hit.kind {
        HitKind::Exact => Outcome::HitExact,
        HitKind::Stale | HitKind::StaleOnError => Outcome::HitStale,
        HitKind::Semantic { similarity } => {
            record.similarity = Some(similarity);
            record.verdict = Some(Ruling::Serve.name());
            Outcome::HitSemantic
        }
    };
    note(record, times);
    let same = entry.shape == wanted;
    let kind = if same { &entry.content_type } else { dialect.content_type(wanted) };
    let more = dialect.header(&body, kind);
    Some(report::hit(hit, kind, more, staged(house, dialect, wanted, hit, body)))
}

/// A replay's body as `cache.replay` wants it.
fn staged(house: &House, dialect: &dyn Dialect, shape: Shape, hit: &Hit, body: Bytes) -> Body {
    let cache = &house.config.cache;
    let dress = Dress {
        fresh: cache.replay_identity == Identity::Fresh,
        uncounted: cache.replay_usage == ReplayUsage::Zero,
    };
    let verbatim = !dress.fresh && !dress.uncounted;
    let body = if verbatim { body } else { dressed(dialect, shape, &body, dress) };
    match cache.replay {
        Replay::Recorded if shape.is_events() => {
            let total = Duration::from_millis(hit.entry.upstream_ms);
            Body::paced(&body, &hit.entry.pace, total)
        }
        Replay::Recorded | Replay::Paced | Replay::Instant => {
            Body::whole(body).ending(dialect.trailers(Ok(())))
        }
    }
}
