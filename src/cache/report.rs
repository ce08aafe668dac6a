//! What the semantic tier says of its own errors.

use serde::Serialize;

use super::{Cache, verdict::NamespaceReport};
use crate::cache::judge::{JudgeError, llm::LlmJudge};

/// Namespaces that have series of their own; the rest are summed up, so that no number of tenants
/// fills a metrics store.
const NAMED: usize = 20;
/// Longest part of a model's name in a label.
const MODEL_BYTES: usize = 64;

/// Wrong answers per hit, as unbiased labels show it, corrected for the judge's own errors.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WrongHits {
    /// Whose: a tenant's keyed hash, `all` for all of them together, `other` for those not named.
    pub tenant: String,
    /// Which model's; empty for several.
    pub model: String,
    /// Lower limit of the 95 % interval.
    pub low: f64,
    /// The estimate; 0 while nothing was judged.
    pub point: f64,
    /// Upper limit; 1 while nothing was judged.
    pub high: f64,
    /// Decayed count of would-be hits that were judged.
    pub audited: f64,
    /// Labels that what is believed rests on: audits, forwarded doubts, what clients said.
    pub labels: f64,
    /// Would-be hits: served, checked and suspended ones, in shadow mode all that would have been
    /// served.
    pub would_be_hits: u64,
    /// Namespaces that serve exact repeats only, until their error is back in bounds.
    pub exact_only: u64,
}

/// The language model that judges.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JudgeReport {
    /// `probation`, `sound`, `unsound` or `silent`; near questions are served in the first two only.
    pub state: &'static str,
    /// Judgements that were heard.
    pub judged_total: u64,
    /// Comparisons that found the queue full.
    pub dropped_total: u64,
    /// Requests to it without a usable reply.
    pub unanswered_total: u64,
    /// Comparisons whose judgement was not asked or not heard, since it is not to be believed.
    pub unheard_total: u64,
    /// Share of agreeing answers that it calls different, by known pairs.
    pub false_rejections: f64,
    /// Share of differing answers that it calls the same, by known pairs.
    pub false_acceptances: f64,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VerdictReport {
    /// `all` first, then each named namespace, then `other`.
    pub wrong_hits: Vec<WrongHits>,
    /// The language model that judges, where one is configured.
    pub judge: Option<JudgeReport>,
}

impl Cache {
    /// The live rates and how they come about.
    pub fn verdict_report(&self) -> VerdictReport {
        let error = self.judge_error();
        let mut named = self.namespaces.reports();
        let all = sum(named.iter().map(|(_, _, report)| report));
        // The most audited are the best known; by name among equals, so that scrapes agree.
        named.sort_by(|a, b| {
            b.2.audited.total_cmp(&a.2.audited).then_with(|| (&a.0, &a.1).cmp(&(&b.0, &b.1)))
        });
        let rest = named.split_off(named.len().min(NAMED));
        let mut wrong_hits = vec![rate("all", "", &all, error)];
        wrong_hits.extend(named.iter().map(|(tenant, model, one)| rate(tenant, model, one, error)));
        if !rest.is_empty() {
            let rest = sum(rest.iter().map(|(_, _, report)| report));
            wrong_hits.push(rate("other", "", &rest, error));
        }
        VerdictReport { wrong_hits, judge: self.judge.as_ref().map(judge) }
    }
}

fn sum<'a>(reports: impl Iterator<Item = &'a NamespaceReport>) -> NamespaceReport {
    let mut all = NamespaceReport::default();
    reports.for_each(|one| all.add(one));
    all
}

fn rate(tenant: &str, model: &str, report: &NamespaceReport, error: JudgeError) -> WrongHits {
    let interval = report.wrong_hits(error);
    WrongHits {
        tenant: tenant.to_owned(),
        model: model[..model.floor_char_boundary(MODEL_BYTES)].to_owned(),
        low: interval.low,
        point: interval.point,
        high: interval.high,
        audited: report.audited,
        labels: report.labels,
        would_be_hits: report.would_be,
        exact_only: report.exact_only,
    }
}

fn judge(judge: &LlmJudge) -> JudgeReport {
    let (counts, error) = (judge.report(), judge.error());
    JudgeReport {
        state: judge.state().name(),
        judged_total: counts.judged,
        dropped_total: counts.dropped,
        unanswered_total: counts.unanswered,
        unheard_total: counts.unheard,
        false_rejections: error.false_rejections,
        false_acceptances: error.false_acceptances,
    }
}
