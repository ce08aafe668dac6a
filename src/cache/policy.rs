//! May this request be looked up, may its answer be kept, for how long?
//!
//! The client speaks by standard `Cache-Control` (RFC 9111, 5.2.1) and by a few `x-reprise-*`
//! headers; the operator by the config. Between them the stricter wins.

use std::time::Duration;

use http::{HeaderMap, HeaderName, header::CACHE_CONTROL};

use super::reason::Reason;
use crate::{
    config,
    fault::{Fault, Kind},
    wire::Prompt,
};

/// How a client wants its request to be treated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Control {
    /// Do not answer from the cache (but the answer may be kept).
    pub no_cache: bool,
    /// Neither answer from the cache nor keep.
    pub no_store: bool,
    /// The oldest acceptable answer.
    pub max_age: Option<Duration>,
    /// Answer from the cache or not at all.
    pub only_if_cached: bool,
    /// Which tiers.
    pub mode: Mode,
    /// Life of the answer, instead of the configured one.
    pub ttl: Option<Duration>,
    /// A cache of its own inside the tenant's.
    pub namespace: Option<String>,
    /// A stricter threshold.
    pub min_similarity: Option<f32>,
    /// Names by which the answer can be purged.
    pub tags: Vec<String>,
}

/// Which tiers a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All.
    #[default]
    Semantic,
    /// Exact repeats only.
    Exact,
    /// None: a plain proxy.
    Off,
}

/// The request headers that are ours: read here, stripped before forwarding.
pub const PREFIX: &str = "x-reprise-";
/// The most tags of one request.
const TAGS_MAX: usize = 16;
/// The longest tag or namespace, bytes.
const NAME_MAX: usize = 128;

impl Control {
    /// Reads the headers.
    ///
    /// # Errors
    /// A [`Kind::BadRequest`] that names the header and what it expects, for one of our own headers
    /// with a value that we do not understand. Unknown `Cache-Control` directives are ignored, as
    /// RFC 9111 demands.
    pub fn read(headers: &HeaderMap) -> Result<Self, Fault> {
        let mut control = Self::default();
        for value in headers.get_all(CACHE_CONTROL) {
            for directive in value.to_str().unwrap_or_default().split(',') {
                control.directive(directive.trim());
            }
        }
        for (name, value) in headers {
            if let Some(own) = name.as_str().strip_prefix(PREFIX) {
                let value = value.to_str().map_err(|_| wrong(name, "visible ASCII"))?.trim();
                control.own(name, own, value)?;
            }
        }
        Ok(control)
    }

    fn directive(&mut self, directive: &str) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-cache" => self.no_cache = true,
            "no-store" => self.no_store = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => {
                let seconds = value.trim().trim_matches('"').parse().ok();
                self.max_age = seconds.map(Duration::from_secs).or(self.max_age);
            }
            _ => {}
        }
    }

    fn own(&mut self, header: &HeaderName, name: &str, value: &str) -> Result<(), Fault> {
        match name {
            "mode" => {
                self.mode = match value {
                    "semantic" => Mode::Semantic,
                    "exact" => Mode::Exact,
                    "off" => Mode::Off,
                    _ => return Err(wrong(header, "exact, semantic or off")),
                }
            }
            "ttl" => {
                let plain = value.parse().map(Duration::from_secs).ok();
                let ttl = plain.or_else(|| humantime::parse_duration(value).ok());
                let ttl = ttl.filter(|ttl| !ttl.is_zero());
                self.ttl =
                    Some(ttl.ok_or_else(|| wrong(header, "seconds or a duration such as 10m"))?);
            }
            "namespace" => {
                if value.is_empty() || value.len() > NAME_MAX {
                    return Err(wrong(header, "a name of 1 to 128 bytes"));
                }
                self.namespace = Some(value.to_owned());
            }
            "min-similarity" => {
                let similarity = value.parse().ok().filter(|value| *value > 0.0 && *value <= 1.0);
                self.min_similarity =
                    Some(similarity.ok_or_else(|| wrong(header, "a number in (0, 1]"))?);
            }
            "tags" => {
                let tags = value.split(',').map(str::trim).filter(|tag| !tag.is_empty());
                self.tags.extend(tags.map(str::to_owned));
                if self.tags.len() > TAGS_MAX || self.tags.iter().any(|tag| tag.len() > NAME_MAX) {
                    return Err(wrong(header, "up to 16 comma-separated tags of up to 128 bytes"));
                }
            }
            // A header of a later version or a typo: forwarding it would leak it, refusing it would
            // break the client; it is dropped like the others.
            _ => {}
        }
        Ok(())
    }
}

fn wrong(header: &HeaderName, expected: &str) -> Fault {
    Fault::new(Kind::BadRequest, format!("the header {header} expects {expected}"))
}

/// What may be done for one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Look for an answer; if not, why.
    pub read: Result<(), Reason>,
    /// Look by meaning too; if not, why.
    pub semantic: Result<(), Reason>,
    /// Life of the answer.
    pub ttl: Duration,
    /// The oldest acceptable answer.
    pub max_age: Option<Duration>,
    /// The threshold.
    pub min_similarity: f32,
}

/// Decides for one readable request; `ttl` is the life of its upstream's answers.
///
/// # Errors
/// Why the cache has no part in it at all.
pub fn decide(
    config: &config::Cache,
    ttl: Duration,
    control: &Control,
    prompt: &Prompt,
) -> Result<Plan, Reason> {
    if control.mode == Mode::Off {
        return Err(Reason::ModeOff);
    }
    if control.no_store {
        return Err(Reason::NoStore);
    }
    if prompt.temperature.is_some_and(|temperature| temperature > config.max_temperature) {
        return Err(Reason::Temperature);
    }
    let semantic = match (&prompt.question, control.mode, config.semantic.policy) {
        (Err(why), _, _) => Err(Reason::ExactOnly(*why)),
        (_, Mode::Exact, _) => Err(Reason::ModeExact),
        (_, _, config::Policy::Off) => Err(Reason::SemanticOff),
        _ => Ok(()),
    };
    let configured = match config.semantic.policy {
        config::Policy::Threshold => config.semantic.min_similarity,
        // These have a bound on errors in its place.
        config::Policy::Verified | config::Policy::Vcache | config::Policy::Off => 0.0,
    };
    Ok(Plan {
        read: if control.no_cache { Err(Reason::NoCache) } else { Ok(()) },
        semantic,
        ttl: control.ttl.unwrap_or(ttl),
        max_age: control.max_age,
        min_similarity: control.min_similarity.map_or(configured, |own| own.max(configured)),
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(headers: &[(&'static str, &'static str)]) -> Result<Control, Fault> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        Control::read(&map)
    }

    #[test]
    fn the_standard_directives_are_read() {
        let control = read(&[
            ("cache-control", "No-Cache, max-age=60"),
            ("cache-control", "only-if-cached, x=\"y\""),
        ])
        .unwrap();
        assert!(control.no_cache && control.only_if_cached && !control.no_store);
        assert_eq!(control.max_age, Some(Duration::from_secs(60)));
        assert!(read(&[("cache-control", "max-age=x")]).unwrap().max_age.is_none());
    }

    #[test]
    fn our_own_headers_are_read() {
        let control = read(&[
            ("x-reprise-mode", "exact"),
            ("x-reprise-ttl", "90"),
            ("x-reprise-namespace", "blue"),
            ("x-reprise-min-similarity", "0.97"),
            ("x-reprise-tags", "a, b,,"),
        ])
        .unwrap();
        assert_eq!(control.mode, Mode::Exact);
        assert_eq!(control.ttl, Some(Duration::from_secs(90)));
        assert_eq!(control.tags, ["a", "b"]);
        assert_eq!(read(&[("x-reprise-ttl", "2m")]).unwrap().ttl.unwrap().as_secs(), 120);
    }

    #[test]
    fn a_wrong_value_names_its_header() {
        for (name, value) in [
            ("x-reprise-mode", "maybe"),
            ("x-reprise-ttl", "soon"),
            ("x-reprise-ttl", "0"),
            ("x-reprise-namespace", ""),
            ("x-reprise-min-similarity", "1.5"),
            ("x-reprise-min-similarity", "nan"),
        ] {
            let fault = read(&[(name, value)]).unwrap_err();
            assert_eq!(fault.kind, Kind::BadRequest);
            assert!(fault.message.contains(name), "{fault}");
        }
    }
}
