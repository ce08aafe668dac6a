//! The page for people: one document that asks nobody but this listener.

use std::sync::LazyLock;

use axum::{
    http::{HeaderValue, header},
    response::{Html, IntoResponse, Response},
};

use super::refusal::Refusal;

const STYLE: &str = include_str!("dashboard/style.css");
/// One script in chapters, in the order in which they need one another.
const SCRIPT: &str = concat!(
    "'use strict';\n(() => {\n",
    include_str!("dashboard/elements.js"),
    include_str!("dashboard/charts.js"),
    include_str!("dashboard/parts.js"),
    include_str!("dashboard/writing.js"),
    include_str!("dashboard/script.js"),
    "})();\n",
);

/// The page with its style and its script, but for the nonce.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    include_str!("dashboard/page.html")
        .replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT)
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
});

/// The nonce makes this page's own style and script the only ones that a browser runs in it, and
/// the policy lets them talk to this listener only: what a client wrote into a model's name stays
/// text even if the script once failed to treat it so.
pub(super) async fn page() -> Result<Response, Refusal> {
    let nonce = getrandom::u64()
        .map(|random| format!("{random:016x}"))
        .map_err(|error| Refusal::broken(error.to_string()))?;
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let policy =
        HeaderValue::try_from(policy).map_err(|error| Refusal::broken(error.to_string()))?;
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Ok((headers, Html(PAGE.replace("{{nonce}}", &nonce))).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_nobody_else() {
        assert!(!PAGE.replace("{{nonce}}", "").contains("{{"), "a placeholder is left");
        let namespace = "http://www.w3.org/2000/svg";
        let rest = PAGE.replace(namespace, "");
        for outside in ["http://", "https://", "//cdn", "@import", "url("] {
            assert!(!rest.contains(outside), "{outside}");
        }
        // Only text is ever made of what clients wrote.
        for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!PAGE.contains(markup), "{markup}");
        }
    }

    #[test]
    fn every_id_that_the_script_looks_for_is_on_the_page() {
        let html = include_str!("dashboard/page.html");
        let mut asked = 0;
        for part in SCRIPT.split("$('").skip(1) {
            let id = part.split('\'').next().unwrap();
            assert!(html.contains(&format!("id=\"{id}\"")), "{id}");
            asked += 1;
        }
        assert!(asked > 20, "{asked}");
    }
}
