//! Laying the four sources on top of one another, and saying everything that is wrong at once.
//!
//! Each single setting of the user is tried alone on top of the defaults: what serde then says
//! belongs to that setting, and one mistake does not hide the next.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::Deserialize as _;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{Config, DEFAULTS, check};

/// What flags say; each overrides the file and the environment.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--upstream URL`: replaces all configured upstreams.
    pub upstream: Option<String>,
    /// `--listen ADDR`.
    pub listen: Option<String>,
    /// `--admin ADDR`.
    pub admin: Option<String>,
    /// `--tls-self-signed`.
    pub tls_self_signed: bool,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key: `cache.ttl`, `upstream[0].urls`.
    pub key: String,
    /// Where it was said: `reprise.toml:12`, `environment`, `flag`; empty for a default.
    pub place: String,
    /// What was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(out, "{}: ", self.place)?;
        }
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        out.write_str(&self.message)
    }
}

/// Everything that is wrong, in the order of the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(out, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Reads and checks the configuration.
///
/// `file` is the user's file, `environment` the process environment (for `${VAR}` and
/// `REPRISE__...`).
///
/// # Errors
/// Everything that is wrong with any source, at once.
pub fn load(
    file: Option<&Path>,
    environment: &BTreeMap<String, String>,
    overrides: &Overrides,
) -> Result<Config, Problems> {
    let mut layers = Layers::new(environment)?;
    if let Some(path) = file {
        match std::fs::read_to_string(path) {
            Ok(text) => layers.file(&path.display().to_string(), &text),
            Err(error) => {
                layers.problem("", "", format!("cannot read {}: {error}", path.display()))
            }
        }
    }
    layers.environment();
    layers.flags(overrides);
    layers.finish()
}

/// One step into the tree: a table's key, or an array's place.
#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

struct Layers<'a> {
    environment: &'a BTreeMap<String, String>,
    defaults: Table,
    merged: Table,
    places: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl<'a> Layers<'a> {
    fn new(environment: &'a BTreeMap<String, String>) -> Result<Self, Problems> {
        let defaults: Table = toml::from_str(DEFAULTS).map_err(|error| {
            Problems(vec![Problem {
                key: String::new(),
                place: "config/reprise.toml (compiled in)".into(),
                message: error.to_string(),
            }])
        })?;
        let merged = defaults.clone();
        Ok(Self { environment, defaults, merged, places: BTreeMap::new(), problems: Vec::new() })
    }

    fn problem(&mut self, key: &str, place: &str, message: String) {
        let same = |known: &Problem| known.place == place && known.message == message;
        if !self.problems.iter().any(same) {
            self.problems.push(Problem { key: key.into(), place: place.into(), message });
        }
    }

    fn file(&mut self, name: &str, text: &str) {
        let (spanned, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            self.problem("", &format!("{name}:{line}"), error.message().to_owned());
        }
        let Ok(table) = toml::from_str::<Table>(text) else { return };
        let mut leaves = Vec::new();
        walk(&table, spanned.get_ref(), &mut Vec::new(), &mut leaves);
        for (path, value, offset) in leaves {
            let place = format!("{name}:{}", line_of(text, offset));
            match self.expand(value) {
                Ok(value) => self.set(&path, value, &place),
                Err(message) => self.problem(&dotted(&path), &place, message),
            }
        }
    }

    /// `REPRISE__CACHE__TTL=10m`: the rest of the name is the path, in any case.
    fn environment(&mut self) {
        let ours: Vec<_> = self
            .environment
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("REPRISE__")?, name, value)))
            .map(|(path, name, value)| {
                let keys: Vec<_> =
                    path.split("__").map(|key| Step::Key(key.to_lowercase())).collect();
                (keys, format!("environment {name}"), value.clone())
            })
            .collect();
        for (path, place, text) in ours {
            let value = like(self.lookup(&path), text);
            self.set(&path, value, &place);
        }
    }

    fn flags(&mut self, overrides: &Overrides) {
        let key = |path: &[&str]| -> Vec<Step> {
            path.iter().map(|key| Step::Key((*key).to_owned())).collect()
        };
        if let Some(url) = &overrides.upstream {
            let mut upstream = Table::new();
            upstream.insert("name".into(), Value::String("default".into()));
            upstream.insert("urls".into(), Value::Array(vec![Value::String(url.clone())]));
            self.merged.remove("upstream");
            self.set(&key(&["upstream"]), Value::Array(vec![Value::Table(upstream)]), "--upstream");
        }
        if let Some(address) = &overrides.listen {
            self.set(&key(&["listen", "http"]), Value::String(address.clone()), "--listen");
        }
        if let Some(address) = &overrides.admin {
            self.set(&key(&["listen", "admin"]), Value::String(address.clone()), "--admin");
        }
        if overrides.tls_self_signed {
            self.set(&key(&["tls", "self_signed"]), Value::Boolean(true), "--tls-self-signed");
        }
    }

    /// Tries one setting alone on top of the defaults; keeps it if it is good.
    fn set(&mut self, path: &[Step], value: Value, place: &str) {
        let mut alone = self.defaults.clone();
        insert(&mut alone, path, value.clone());
        if let Err(error) = Config::deserialize(Value::Table(alone)) {
            let (message, named) = explain(error.message());
            let key = named.map_or_else(|| dotted(path), |key| with_last(path, &key));
            self.problem(&key, place, message);
            return;
        }
        insert(&mut self.merged, path, value);
        self.places.insert(dotted(path), place.into());
    }

    fn lookup(&self, path: &[Step]) -> Option<&Value> {
        let mut steps = path.iter();
        let Some(Step::Key(first)) = steps.next() else { return None };
        steps.try_fold(self.defaults.get(first)?, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })
    }

    /// Replaces `${VAR}` in strings.
    fn expand(&self, value: Value) -> Result<Value, String> {
        match value {
            Value::String(text) => self.expand_text(&text).map(Value::String),
            Value::Array(items) => items
                .into_iter()
                .map(|item| self.expand(item))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Table(_) => Ok(value),
        }
    }

    fn expand_text(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            out.push_str(&rest[..start]);
            let inner = &rest[start + 2..];
            let end = inner.find('}').ok_or_else(|| "`${` without a closing `}`".to_owned())?;
            let name = &inner[..end];
            let value = self.environment.get(name).ok_or_else(|| {
                format!("the environment variable {name} is not set (named as ${{{name}}})")
            })?;
            out.push_str(value);
            rest = &inner[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn finish(mut self) -> Result<Config, Problems> {
        let merged = std::mem::take(&mut self.merged);
        match Config::deserialize(Value::Table(merged)) {
            Ok(mut config) => {
                for (key, message) in check::all(&mut config) {
                    let place = self.place_of(&key);
                    self.problem(&key, &place, message);
                }
                if self.problems.is_empty() {
                    return Ok(config);
                }
            }
            Err(error) => self.problem("", "", error.message().to_owned()),
        }
        Err(Problems(self.problems))
    }

    /// Where a key was set; for a key that a check names by its table, where that table begins.
    fn place_of(&self, key: &str) -> String {
        let under = |known: &str| known == key || known.starts_with(&format!("{key}."));
        self.places
            .iter()
            .find(|(known, _)| under(known))
            .map_or_else(String::new, |(_, place)| place.clone())
    }
}

/// Collects every setting with its path and the byte offset of its key.
fn walk(
    table: &Table,
    spanned: &DeTable<'_>,
    path: &mut Vec<Step>,
    leaves: &mut Vec<(Vec<Step>, Value, usize)>,
) {
    for (key, at) in spanned {
        let Some(value) = table.get(key.get_ref().as_ref()) else { continue };
        path.push(Step::Key(key.get_ref().to_string()));
        walk_value(value, at.get_ref(), key.span().start, path, leaves);
        path.pop();
    }
}

fn walk_value(
    value: &Value,
    spanned: &DeValue<'_>,
    offset: usize,
    path: &mut Vec<Step>,
    leaves: &mut Vec<(Vec<Step>, Value, usize)>,
) {
    match (value, spanned.as_table(), spanned.as_array()) {
        (Value::Table(inner), Some(at), _) if !inner.is_empty() => walk(inner, at, path, leaves),
        (Value::Array(items), _, Some(at)) if items.iter().any(Value::is_table) => {
            for (index, (item, at)) in items.iter().zip(at.iter()).enumerate() {
                path.push(Step::Index(index));
                walk_value(item, at.get_ref(), at.span().start, path, leaves);
                path.pop();
            }
        }
        _ => leaves.push((path.clone(), value.clone(), offset)),
    }
}

/// Puts a value at a path, making the tables and array places that it needs.
fn insert(table: &mut Table, path: &[Step], value: Value) {
    let [Step::Key(first), rest @ ..] = path else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let empty = match rest.first() {
        Some(Step::Index(_)) => Value::Array(Vec::new()),
        _ => Value::Table(Table::new()),
    };
    let slot = table.entry(first.clone()).or_insert(empty);
    match (slot, rest) {
        (Value::Table(inner), _) => insert(inner, rest, value),
        (Value::Array(items), [Step::Index(index), deeper @ ..]) => {
            while items.len() <= *index {
                items.push(Value::Table(Table::new()));
            }
            if let Some(Value::Table(inner)) = items.get_mut(*index) {
                insert(inner, deeper, value);
            }
        }
        // A section given where a plain value belongs: put it there, serde then says what it is.
        (slot, _) => *slot = value,
    }
}

/// An environment value in the type that the default has, so that `8` is a number where one
/// belongs and a string elsewhere.
fn like(default: Option<&Value>, text: String) -> Value {
    let parsed = || toml::from_str::<Table>(&format!("v = {text}")).ok()?.remove("v");
    match default {
        None | Some(Value::String(_)) => Value::String(text),
        Some(_) => parsed().unwrap_or(Value::String(text)),
    }
}

/// serde's sentence, with the nearest known key where it is about an unknown one.
fn explain(message: &str) -> (String, Option<String>) {
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return (message.trim().to_owned(), None);
    };
    let mut words = rest.split('`');
    let unknown = words.next().unwrap_or_default().to_owned();
    let known = words.skip(1).step_by(2);
    let nearest = known.max_by(|a, b| {
        strsim::jaro_winkler(a, &unknown).total_cmp(&strsim::jaro_winkler(b, &unknown))
    });
    let hint = nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
    (format!("unknown key `{unknown}`{hint}"), Some(unknown))
}

/// The path cut after the step that bears this name.
fn with_last(path: &[Step], name: &str) -> String {
    let at = path.iter().position(|step| matches!(step, Step::Key(key) if key == name));
    at.map_or_else(|| dotted(path), |at| dotted(&path[..=at]))
}

fn dotted(path: &[Step]) -> String {
    let mut out = String::new();
    for step in path {
        match step {
            Step::Key(key) if out.is_empty() => out.push_str(key),
            Step::Key(key) => {
                out.push('.');
                out.push_str(key);
            }
            Step::Index(index) => out.push_str(&format!("[{index}]")),
        }
    }
    out
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
