//! `reprise explain`: what a running Reprise would do with a request, and why.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use clap::Args;

use crate::{
    admin::{CLIENT, Explained, Judged, Nearest},
    config::Config,
};

/// Longer than the admin listener lets itself take.
const PATIENCE: Duration = Duration::from_secs(70);

/// The request to explain.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Explain {
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

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A header without a colon, or with letters that no header has.
    #[error("--header {0}: write it as NAME: VALUE")]
    Header(String),
    /// The body cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Body {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `listen.admin = ""`.
    #[error("there is no admin listener to ask: set listen.admin, or say --admin ADDR")]
    NoAdmin,
    /// No Reprise answers there.
    #[error("no Reprise answers at {address}: {why}; is it running, and is --admin right?")]
    Unreachable {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        why: String,
    },
    /// It answered with an error of its own.
    #[error("{0}")]
    Refused(String),
}

/// Asks the admin listener of the configuration, with its token, and prints the answer to stdout.
///
/// # Errors
/// The first thing that is wrong.
pub fn run(explain: &Explain, config: &Config) -> Result<(), Fault> {
    let body = if explain.body.as_os_str() == "-" {
        let mut body = Vec::new();
        std::io::stdin().lock().read_to_end(&mut body).map(|_| body)
    } else {
        fs::read(&explain.body)
    };
    let body = body.map_err(|source| Fault::Body { path: explain.body.clone(), source })?;
    let text = ask(explain, config, body)?;
    let told: Explained = serde_json::from_str(&text)
        .map_err(|error| Fault::Refused(format!("not an explanation ({error}): {text}")))?;
    let shown = if explain.json { format!("{text}\n") } else { report(&told) };
    // A closed pipe is the reader's choice.
    let _ = std::io::stdout().lock().write_all(shown.as_bytes());
    Ok(())
}

fn ask(explain: &Explain, config: &Config, body: Vec<u8>) -> Result<String, Fault> {
    let address = config.listen.admin.ok_or(Fault::NoAdmin)?;
    let unreachable = |error: &dyn std::error::Error| {
        // The innermost cause says it: "connection refused".
        let mut cause = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Fault::Unreachable { address, why: cause.to_string() }
    };
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .map_err(|error| unreachable(&error))?;
    let url = format!("http://{address}/api/v1/explain");
    let url = reqwest::Url::parse_with_params(&url, [("path", &explain.path)])
        .map_err(|error| unreachable(&error))?;
    let mut request = client.post(url).body(body);
    for header in &explain.header {
        let (name, value) = header.split_once(':').ok_or_else(|| Fault::Header(header.clone()))?;
        request = request.header(format!("{CLIENT}{}", name.trim()), value.trim());
    }
    if let Some(token) = &config.admin.token {
        request = request.bearer_auth(token);
    }
    let request = request.build().map_err(|_| Fault::Header(explain.header.join(", ")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| unreachable(&error))?;
    runtime.block_on(async {
        let answer = client.execute(request).await.map_err(|error| unreachable(&error))?;
        let good = answer.status().is_success();
        let text = answer.text().await.map_err(|error| unreachable(&error))?;
        if good { Ok(text) } else { Err(Fault::Refused(message(&text))) }
    })
}

/// What an error of the admin API says to a person.
fn message(text: &str) -> String {
    let body: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let said = body.as_ref().and_then(|body| body["error"]["message"].as_str());
    said.unwrap_or(text).to_owned()
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
    fn errors_of_the_admin_api_are_shown_in_words() {
        assert_eq!(message(r#"{"error":{"message":"send a token"}}"#), "send a token");
        assert_eq!(message("<html>"), "<html>");
    }
}
