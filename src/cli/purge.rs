//! `reprise purge`: deletes answers of a running Reprise, after a look at how many.

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    time::{Duration, SystemTime},
};

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use super::desk::{Address, Desk, DeskFault, print};
use crate::config::Config;

/// Which answers.
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(group = ArgGroup::new("which").required(true))]
pub struct Purge {
    /// Where the running Reprise is.
    #[command(flatten)]
    pub address: Address,
    /// All of them.
    #[arg(long, group = "which")]
    pub all: bool,
    /// Those of a model.
    #[arg(long, value_name = "NAME", group = "which")]
    pub model: Option<String>,
    /// Those with a tag.
    #[arg(long, value_name = "TAG", group = "which")]
    pub tag: Option<String>,
    /// Those of a tenant, by its hash.
    #[arg(long, value_name = "HASH", group = "which")]
    pub tenant: Option<String>,
    /// Those of an upstream.
    #[arg(long, value_name = "NAME", group = "which")]
    pub route: Option<String>,
    /// Those made before a time (2026-01-31T12:00:00Z) or longer ago than this (24h).
    #[arg(long, value_name = "TIME", group = "which")]
    pub before: Option<String>,
    /// Only say how many there are.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
}

/// Counts, asks, deletes.
///
/// # Errors
/// Nobody answers there, it refuses, or nobody said yes.
pub fn run(wanted: &Purge, config: &Config) -> Result<(), DeskFault> {
    let desk = Desk::new(&wanted.address, config)?;
    let mut order = order(wanted)?;
    order["dry_run"] = true.into();
    let found = desk.post("/api/v1/purge", &order)?["entries"].as_u64().unwrap_or(0);
    if wanted.dry_run || found == 0 {
        return print(&format!("{found} entries; nothing was deleted\n"));
    }
    if !wanted.yes && !confirmed(found, desk.base())? {
        return print("nothing was deleted\n");
    }
    order["dry_run"] = false.into();
    let gone = desk.post("/api/v1/purge", &order)?["entries"].as_u64().unwrap_or(0);
    print(&format!("deleted {gone} entries\n"))
}

fn order(wanted: &Purge) -> Result<Value, DeskFault> {
    let named = [
        ("model", &wanted.model),
        ("tag", &wanted.tag),
        ("tenant", &wanted.tenant),
        ("route", &wanted.route),
    ];
    if let Some((key, Some(value))) = named.iter().find(|(_, value)| value.is_some()) {
        return Ok(json!({ *key: value }));
    }
    match &wanted.before {
        Some(text) => Ok(json!({ "before": unix_ms(text)? })),
        None => Ok(json!({ "all": true })),
    }
}

fn unix_ms(text: &str) -> Result<u64, DeskFault> {
    let ago = |span: Duration| SystemTime::now().checked_sub(span);
    let time = humantime::parse_rfc3339_weak(text)
        .ok()
        .or_else(|| humantime::parse_duration(text).ok().and_then(ago));
    let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let told = || DeskFault::Refused(format!("--before: expected a time or a duration: `{text}`"));
    u64::try_from(since.ok_or_else(told)?.as_millis()).map_err(|_| told())
}

/// Asks a person; where there is none, `--yes` has to be said.
fn confirmed(found: u64, base: &str) -> Result<bool, DeskFault> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(DeskFault::Refused(format!("{found} entries would be deleted: add --yes")));
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "Delete {found} entries of {base}? It cannot be undone. [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_selector_becomes_an_order() {
        let model = Purge { model: Some("m".into()), ..Default::default() };
        assert_eq!(order(&model).unwrap(), json!({"model": "m"}));
        let all = Purge { all: true, ..Default::default() };
        assert_eq!(order(&all).unwrap(), json!({"all": true}));
        let before = Purge { before: Some("2026-01-31T12:00:00Z".into()), ..Default::default() };
        assert_eq!(order(&before).unwrap(), json!({"before": 1_769_860_800_000_u64}));
        let now = crate::cache::entry::now_ms();
        let day = unix_ms("24h").unwrap();
        assert!((now - day).abs_diff(86_400_000) < 10_000, "{day}");
        assert!(unix_ms("yesterday").is_err());
    }
}
