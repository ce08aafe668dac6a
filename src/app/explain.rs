//! What the exchange tells about a request in the words of [`admin`](crate::admin).

use std::{net::SocketAddr, time::Duration};

use crate::{
    admin::{ExactAnswer, Explained, Judged, Nearest, Question, Took},
    cache::{
        HitKind,
        explain::{Explanation, Near, Standing},
        guards::{Guard, GuardSet, Veil},
        key::Key,
        reason::Reason,
        semantic::Times,
    },
    exchange::{Asked, House, Told},
    fault::Fault,
    front::{Origin, Peer},
    store::EntryId,
};

/// Explains a request to a person at the admin listener.
pub(super) async fn explain(
    house: &House,
    peer: SocketAddr,
    question: Question,
) -> Result<Explained, Fault> {
    let peer = Peer { origin: Origin::Tcp(peer), tls: None };
    let Question { target, headers, body } = question;
    let told = house.explain(peer, Asked { target, headers, body }).await?;
    Ok(explained(told))
}

fn explained(told: Told) -> Explained {
    let Told { route, dialect, model, question, cache } = told;
    let mut out =
        Explained { route, dialect: dialect.to_owned(), model, question, ..Explained::default() };
    match cache {
        Err(reason) => {
            out.outcome = "bypass".into();
            out.detail = reason.name().into();
            out.why = because(reason, None);
        }
        Ok((key, explanation)) => looked_up(&mut out, &key, &explanation),
    }
    out
}

fn looked_up(out: &mut Explained, key: &Key, told: &Explanation) {
    out.tenant = Some(key.tenant.to_string());
    out.partition = Some(key.partition.to_string());
    out.entry = Some(key.id.to_string());
    out.answer = told.answer.as_ref().map(EntryId::to_string);
    out.exact = told.exact.as_ref().map(|(entry, tier, acceptable)| ExactAnswer {
        tier: tier.name().into(),
        generated_ms: entry.generated_ms,
        expires_ms: entry.expires_ms,
        refused: acceptable.err().map(|reason| reason.name().into()),
    });
    let on = told.verdict.as_ref().map_or(GuardSet::NONE, |standing| standing.guards);
    out.nearest = told.near.iter().map(|near| nearest(near, on)).collect();
    out.verdict = told.verdict.as_ref().map(|standing| judged(standing, &told.near));
    out.took_us = took(told.times);
    let (outcome, detail, why) = match told.outcome {
        Some(Ok(kind)) => {
            let (detail, why) = served(kind, told.verdict.as_ref());
            ("hit", detail, why)
        }
        Some(Err(reason)) => ("miss", reason.name(), because(reason, told.verdict.as_ref())),
        None => ("miss", Reason::LookupDeadline.name(), String::new()),
    };
    (out.outcome, out.detail, out.why) = (outcome.into(), detail.into(), why);
}

fn nearest(near: &Near, on: GuardSet) -> Nearest {
    Nearest {
        entry: near.key.id.to_string(),
        answer: near.key.answer.to_string(),
        similarity: near.key.similarity,
        guards: names(near.differences.and(on)),
        guards_off: names(near.differences.without(on)),
        expires_ms: near.key.expires_ms,
        question: readable(&near.key.question),
    }
}

/// A stored question's text, where the store has it.
pub(super) fn readable(question: &str) -> Option<String> {
    (!Veil::is_covered(question)).then(|| question.to_owned())
}

fn judged(standing: &Standing, near: &[Near]) -> Judged {
    let decision = &standing.decision;
    let wrong = standing.wrong_hits;
    Judged {
        policy: standing.policy.name().into(),
        ruling: decision.ruling.name().into(),
        key: decision.chosen.and_then(|at| near.get(at)).map(|near| near.key.id.to_string()),
        similarity: decision.similarity,
        rival: decision.rival,
        margin: decision.similarity - decision.rival,
        feature: decision.feature,
        alpha: decision.alpha,
        line: standing.line,
        guards: names(decision.guards),
        trust: standing.trust.name().into(),
        wrong_hits: [wrong.low, wrong.point, wrong.high],
    }
}

fn took(times: Times) -> Took {
    let us = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    Took {
        by_id: us(times.by_id),
        embed: us(times.embed),
        search: us(times.search),
        verdict: us(times.verdict),
    }
}

fn names(guards: GuardSet) -> Vec<String> {
    guards.iter().map(|guard| Guard::name(guard).to_owned()).collect()
}

// === sentences ===

fn served(kind: HitKind, standing: Option<&Standing>) -> (&'static str, String) {
    match kind {
        HitKind::Exact => ("exact", "this very request has a fresh answer".into()),
        HitKind::Stale | HitKind::StaleOnError => (
            "stale",
            "its own answer is past its life, within cache.grace, and refreshed behind".into(),
        ),
        HitKind::Semantic { similarity } => (
            "semantic",
            format!("a stored question is {similarity:.3} similar{}", belief(standing)),
        ),
    }
}

fn because(reason: Reason, standing: Option<&Standing>) -> String {
    let near = standing.map_or(0.0, |standing| standing.decision.similarity);
    match reason {
        Reason::Guarded(_) => {
            let guards = standing.map_or(vec![], |standing| names(standing.decision.guards));
            format!("the nearest question is {near:.3} similar, but differs: {}", guards.join(", "))
        }
        Reason::Doubtful => {
            format!("the nearest question is {near:.3} similar{}", belief(standing))
        }
        Reason::BelowSimilarity => {
            let line = standing.and_then(|standing| standing.line).unwrap_or_default();
            format!("the nearest question is {near:.3} similar, and {line:.3} is asked for")
        }
        Reason::Suspended => {
            "it would be a hit, but too many hits went wrong here of late: exact repeats only"
                .into()
        }
        Reason::Shadow => "it would be a hit, but cache.semantic.mode = \"shadow\"".into(),
        Reason::NoNeighbour => "nothing is stored with the same model, system prompt, history, \
                                parameters and tenant"
            .into(),
        Reason::Alone(_) => "such a question is only repeated exactly".into(),
        Reason::NotCacheable => "no call whose answer can be kept: see `path`".into(),
        Reason::Unreadable => {
            "this is not a request that the dialect can read with certainty".into()
        }
        other => format!("{}: see the list of reasons in src/cache/reason.rs", other.name()),
    }
}

/// What the policy believes, against what it asks for.
fn belief(standing: Option<&Standing>) -> String {
    let Some(standing) = standing else { return String::new() };
    let alpha = standing.decision.alpha;
    match standing.line {
        Some(line) if standing.policy == crate::config::Policy::Verified => {
            format!(", and its answer believed right with {alpha:.4}; {line:.4} is asked for")
        }
        Some(line) => format!("; {line:.3} is asked for"),
        None => format!("; it is forwarded with probability {:.3} to learn", 1.0 - alpha),
    }
}
