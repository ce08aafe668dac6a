//! `reprise explain`: what a running Reprise would do with a request, and why.

use std::{fmt::Write as _, fs, io::Read as _, path::PathBuf};

use clap::Args;

use super::desk::{Address, Desk, DeskFault, print};
use crate::{
    admin::{CLIENT, Explained, Judged, Nearest},
    config::Config,
};

/// The request to explain.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct Explain {
    /// Where the running Reprise is.
    #[command(flatten)]
    pub address: Address,
    /// The request's body as the client would send it; - reads stdin.
    #[arg(value_name = "FILE|-")]
    pub body: PathBuf,
    /// Where the client would post it.
    #[arg(long, default_value = "/v1/chat/completions")]
    pub path: String,
    /// A header that the client would send, such as "authorization: Bearer sk-1": whose answers are
    /// looked at depends on it. May be said more than once.
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// Print what the admin listener said, as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Asks the running Reprise and prints its answer.
///
/// # Errors
/// The body cannot be read, a header is none, nobody answers there, or it refuses.
pub fn run(wanted: &Explain, config: &Config) -> Result<(), DeskFault> {
    let headers = headers(&wanted.header)?;
    let body = if wanted.body.as_os_str() == "-" {
        let mut body = Vec::new();
        std::io::stdin().lock().read_to_end(&mut body).map(|_| body)
    } else {
        fs::read(&wanted.body)
    };
    let body = body.map_err(|error| {
        DeskFault::Refused(format!("{} cannot be read: {error}", wanted.body.display()))
    })?;
    let desk = Desk::new(&wanted.address, config)?;
    let path = [("path", wanted.path.as_str())];
    let told = desk.post_as_it_is("/api/v1/explain", &path, &headers, body)?;
    if wanted.json {
        return print(&format!("{told:#}\n"));
    }
    let told: Explained = serde_json::from_value(told).map_err(|error| {
        DeskFault::Refused(format!("{} speaks another version: {error}", desk.base()))
    })?;
    print(&report(&told))
}

/// The client's headers as the admin API takes them.
fn headers(given: &[String]) -> Result<Vec<(String, String)>, DeskFault> {
    given
        .iter()
        .map(|header| match header.split_once(':') {
            Some((name, value)) => {
                let name = name.trim().to_ascii_lowercase();
                Ok((format!("{CLIENT}{name}"), value.trim().to_owned()))
            }
            None => Err(DeskFault::Refused(format!("--header: write `{header}` as NAME: VALUE"))),
        })
        .collect()
}

/// The explanation for a terminal.
fn report(told: &Explained) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} ({}): {}", told.outcome.to_uppercase(), told.detail, told.why);
    let mut line = |name: &str, value: Option<&String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = writeln!(out, "  {name:<10} {value}");
        }
    };
    line("question", told.question.as_ref());
    line("route", Some(&format!("{} ({})", told.route, told.dialect)));
    line("model", told.model.as_ref());
    line("tenant", told.tenant.as_ref());
    line("partition", told.partition.as_ref());
    line("entry", told.entry.as_ref());
    line("answer", told.answer.as_ref());
    if let Some(exact) = &told.exact {
        let refused =
            exact.refused.as_ref().map_or(String::new(), |why| format!(", not served: {why}"));
        line("exact", Some(&format!("in {}{refused}", exact.tier)));
    }
    if let Some(verdict) = &told.verdict {
        verdict_lines(&mut out, verdict);
    }
    if !told.nearest.is_empty() {
        let _ = writeln!(out, "  nearest stored questions:");
    }
    for near in &told.nearest {
        nearest_line(&mut out, near);
    }
    let took = told.took_us;
    let _ = writeln!(
        out,
        "  took       by id {}, embed {}, search {}, verdict {} us",
        took.by_id, took.embed, took.search, took.verdict
    );
    out
}

fn verdict_lines(out: &mut String, verdict: &Judged) {
    let Judged { policy, ruling, similarity, rival, margin, feature, alpha, trust, .. } = verdict;
    let _ = writeln!(out, "  verdict    {ruling} by policy {policy}, which is {trust}");
    let _ = writeln!(
        out,
        "  nearest    {similarity:.4} similar, its rival {rival:.4}, margin {margin:.4}, feature {feature:.4}"
    );
    let line = verdict.line.map_or(String::new(), |line| format!(", line {line:.4}"));
    let _ = writeln!(out, "  alpha      {alpha:.4}{line}");
    if !verdict.guards.is_empty() {
        let _ = writeln!(out, "  guards     {}", verdict.guards.join(", "));
    }
    let [low, point, high] = verdict.wrong_hits.map(|share| 100.0 * share);
    let _ = writeln!(
        out,
        "  audits     {point:.2} % of hits were wrong here (95 %: {low:.2} to {high:.2})"
    );
}

fn nearest_line(out: &mut String, near: &Nearest) {
    let mut notes = near.guards.clone();
    notes.extend(near.guards_off.iter().map(|name| format!("{name} (off)")));
    let differs =
        if notes.is_empty() { String::new() } else { format!("  differs: {}", notes.join(", ")) };
    let text = near.question.as_ref().map_or(String::new(), |text| format!("  {text:?}"));
    let _ = writeln!(out, "    {:.4}  {}{text}{differs}", near.similarity, near.answer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_the_json_says() {
        let told = Explained {
            outcome: "miss".into(),
            detail: "guard_number".into(),
            why: "it differs".into(),
            route: "vllm".into(),
            dialect: "openai".into(),
            verdict: Some(Judged {
                policy: "verified".into(),
                ruling: "guarded".into(),
                similarity: 0.97,
                alpha: 0.995,
                line: Some(0.99),
                guards: vec!["number".into()],
                ..Judged::default()
            }),
            nearest: vec![Nearest {
                answer: "ab".into(),
                similarity: 0.97,
                guards: vec!["number".into()],
                guards_off: vec!["comparison".into()],
                question: Some("how many?".into()),
                ..Nearest::default()
            }],
            ..Explained::default()
        };
        let said = report(&told);
        for part in [
            "MISS (guard_number): it differs",
            "route      vllm (openai)",
            "guarded by policy verified",
            "alpha      0.9950, line 0.9900",
            "0.9700  ab  \"how many?\"  differs: number, comparison (off)",
        ] {
            assert!(said.contains(part), "{part:?} is not in\n{said}");
        }
        assert!(!said.contains("model"), "what is not known is not shown");
    }

    #[test]
    fn headers_are_named_and_go_under_the_clients_name() {
        let given = ["Authorization: Bearer a:b".to_owned()];
        let sent = headers(&given).unwrap();
        assert_eq!(sent, [("x-client-authorization".to_owned(), "Bearer a:b".to_owned())]);
        assert!(headers(&["authorization".to_owned()]).unwrap_err().to_string().contains("NAME"));
    }
}
