//! The live false-hit rate as Prometheus families, and the judge that it rests on.

use super::sources::{Done, Family, Sampled};
use crate::cache::VerdictReport;

/// Series of all namespaces together and of the most audited ones; the others are one series.
pub(super) fn families(out: &mut Sampled, report: &VerdictReport) -> Done {
    let rates =
        || report.wrong_hits.iter().map(|one| (vec![one.tenant.clone(), one.model.clone()], one));
    let bounds = rates().flat_map(|(labels, one)| {
        [("low", one.low), ("point", one.point), ("high", one.high)].map(|(bound, value)| {
            let mut labels = labels.clone();
            labels.push(bound.to_owned());
            (labels, value)
        })
    });
    out.labelled(
        Family::Gauge,
        "reprise_wrong_hit_ratio",
        "Wrong answers per semantic hit, as audits show it, with its 95 % interval: high is 1 while \
         nothing was judged.",
        &["tenant", "model", "bound"],
        bounds,
    )?;
    let labels = ["tenant", "model"];
    out.labelled(
        Family::Gauge,
        "reprise_audited_hits",
        "Would-be semantic hits that were judged; a label's weight halves over 1040.",
        &labels,
        rates().map(|(labels, one)| (labels, one.audited)),
    )?;
    out.labelled(
        Family::Counter,
        "reprise_would_be_hits_total",
        "Semantic hits served, checked, suspended, or in shadow mode only counted.",
        &labels,
        rates().map(|(labels, one)| (labels, one.would_be_hits as f64)),
    )?;
    out.labelled(
        Family::Gauge,
        "reprise_exact_only_namespaces",
        "Namespaces whose near questions are not served until their error is back in bounds.",
        &labels,
        rates().map(|(labels, one)| (labels, one.exact_only as f64)),
    )?;
    judge(out, report)
}

fn judge(out: &mut Sampled, report: &VerdictReport) -> Done {
    let Some(judge) = &report.judge else { return Ok(()) };
    let is = |state: &str| f64::from(u8::from(judge.state == state));
    out.labelled(
        Family::Gauge,
        "reprise_judge_state",
        "1 for what the judging language model is: near questions are not served beside one that is \
         unsound or silent.",
        &["state"],
        crate::cache::judge::llm::State::ALL
            .map(|state| (vec![state.name().to_owned()], is(state.name()))),
    )?;
    let results = [
        ("judged", judge.judged_total),
        ("dropped", judge.dropped_total),
        ("unanswered", judge.unanswered_total),
        ("unheard", judge.unheard_total),
    ];
    out.labelled(
        Family::Counter,
        "reprise_judgements_total",
        "Comparisons given to the judging language model, by what became of them.",
        &["result"],
        results.map(|(result, count)| (vec![result.to_owned()], count as f64)),
    )?;
    let kinds = [
        ("false_rejection", judge.false_rejections),
        ("false_acceptance", judge.false_acceptances),
    ];
    out.labelled(
        Family::Gauge,
        "reprise_judge_error_ratio",
        "How often the judging language model errs on pairs whose truth is known.",
        &["kind"],
        kinds.map(|(kind, share)| (vec![kind.to_owned()], share)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{JudgeReport, WrongHits};

    #[test]
    fn every_rate_has_its_interval() {
        let rate = |tenant: &str, low, point, high| WrongHits {
            tenant: tenant.into(),
            low,
            point,
            high,
            would_be_hits: 7,
            ..WrongHits::default()
        };
        let report = VerdictReport {
            wrong_hits: vec![rate("all", 0.1, 0.2, 0.4), rate("t", 0.0, 0.0, 1.0)],
            judge: Some(JudgeReport { state: "silent", ..JudgeReport::default() }),
        };
        let mut out = Sampled(Vec::new());
        families(&mut out, &report).unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&out.0).unwrap();
        for line in [
            "reprise_wrong_hit_ratio{bound=\"high\",model=\"\",tenant=\"all\"} 0.4",
            "reprise_wrong_hit_ratio{bound=\"low\",model=\"\",tenant=\"all\"} 0.1",
            "reprise_wrong_hit_ratio{bound=\"high\",model=\"\",tenant=\"t\"} 1",
            "reprise_would_be_hits_total{model=\"\",tenant=\"all\"} 7",
            "reprise_judge_state{state=\"silent\"} 1",
            "reprise_judge_state{state=\"sound\"} 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
