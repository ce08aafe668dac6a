//! The admin API of a running Reprise, for commands that look at it or move it.

use std::{io::Write as _, net::IpAddr, time::Duration};

use clap::Args;
use serde_json::Value;

use crate::config::Config;

/// The admin listener answers at once, or something is wrong with it; a purge of a large store may
/// take longer, and it has its own limit.
const PATIENCE: Duration = Duration::from_secs(65);

/// Where the running Reprise is.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct Address {
    /// Its admin listener, e.g. http://10.0.0.5:9090; without it: listen.admin of the
    /// configuration. admin.token (REPRISE__ADMIN__TOKEN) goes along.
    #[arg(long, value_name = "URL", env = "REPRISE_ADMIN_URL")]
    pub url: Option<String>,
}

/// Why a command cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum DeskFault {
    /// `listen.admin` is off and no `--url` was given.
    #[error("listen.admin is off: name the running Reprise with --url http://HOST:PORT")]
    NoAddress,
    /// Nobody answers.
    #[error("no answer from {url}: {reason}. Is Reprise running there?")]
    Unreachable {
        /// Where it was asked.
        url: String,
        /// Why.
        reason: String,
    },
    /// It answered that it will not.
    #[error("{0}")]
    Refused(String),
    /// The terminal or a file cannot be written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// A client of the admin API.
pub struct Desk {
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    base: String,
    token: Option<String>,
}

impl Desk {
    /// Finds the address; asks nothing yet.
    ///
    /// # Errors
    /// No address, or no client.
    pub fn new(address: &Address, config: &Config) -> Result<Self, DeskFault> {
        let base = match &address.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => local(config)?,
        };
        // The admin listener is near: a proxy for the outside does not know it.
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
        let client =
            client.map_err(|error| DeskFault::Io(std::io::Error::other(error.to_string())))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { client, runtime, base, token: config.admin.token.clone() })
    }

    /// Where it asks.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A JSON answer.
    ///
    /// # Errors
    /// Nobody answers, or what it answers is a refusal.
    pub fn get(&self, path: &str) -> Result<Value, DeskFault> {
        self.send(self.client.get(format!("{}{path}", self.base)))
    }

    /// The same to a request with a JSON body.
    ///
    /// # Errors
    /// Nobody answers, or what it answers is a refusal.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, DeskFault> {
        self.send(self.client.post(format!("{}{path}", self.base)).json(body))
    }

    /// The same to a body as it is, with parameters of the query and headers.
    ///
    /// # Errors
    /// Nobody answers, what it answers is a refusal, or a header is none.
    pub fn post_as_it_is(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        headers: &[(String, String)],
        body: Vec<u8>,
    ) -> Result<Value, DeskFault> {
        let refused = |why: &dyn std::fmt::Display| DeskFault::Refused(why.to_string());
        let url = reqwest::Url::parse_with_params(&format!("{}{path}", self.base), parameters)
            .map_err(|error| refused(&error))?;
        let mut request = self.client.post(url).body(body);
        for (name, value) in headers {
            let header = http::HeaderName::from_bytes(name.as_bytes());
            let header = header.map_err(|_| refused(&format!("`{name}` is no header's name")))?;
            request = request.header(header, value);
        }
        self.send(request)
    }

    /// Whether it is ready, and what it says of its parts.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn readiness(&self) -> Result<(bool, String), DeskFault> {
        let request = self.client.get(format!("{}/readyz?verbose", self.base));
        self.runtime.block_on(async {
            let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
            let ready = answer.status().is_success();
            let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
            Ok((ready, text))
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> DeskFault {
        DeskFault::Unreachable { url: self.base.clone(), reason: root_cause(error) }
    }

    fn send(&self, mut request: reqwest::RequestBuilder) -> Result<Value, DeskFault> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let told = |error: reqwest::Error| self.unreachable(&error);
        self.runtime.block_on(async {
            let answer = request.send().await.map_err(told)?;
            let status = answer.status();
            let value: Value = answer.json().await.map_err(told)?;
            if status.is_success() {
                return Ok(value);
            }
            let message = value["error"]["message"].as_str().unwrap_or("no reason given");
            Err(DeskFault::Refused(format!("{} says {status}: {message}", self.base)))
        })
    }
}

/// Whoever listens everywhere is reached on this machine.
fn local(config: &Config) -> Result<String, DeskFault> {
    let mut address = config.listen.admin.ok_or(DeskFault::NoAddress)?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => [127, 0, 0, 1].into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(format!("http://{address}"))
}

/// What is really wrong: the outer errors say little more than "error sending request".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// Writes to standard output; whoever closed it wants no more.
///
/// # Errors
/// Anything but a closed pipe.
pub(super) fn print(text: &str) -> Result<(), DeskFault> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
