//! Which settings an evaluation tries.

use super::{Eval, Fault};
use crate::{
    cache::{
        guards::{Guard, GuardSet},
        verdict::{Policy, Settings},
    },
    config,
};

/// One setting for each policy and level asked for.
pub(super) fn of(eval: &Eval, semantic: &config::Semantic) -> Result<Vec<Settings>, Fault> {
    if let Some(bound) = eval.bound.iter().find(|bound| !(**bound > 0.0 && **bound < 1.0)) {
        return Err(Fault::Usage(format!("--bound {bound}: a share in (0, 1)")));
    }
    let guards = guards(eval, semantic)?;
    let mut all = Vec::new();
    for (policy, level) in asked(eval)? {
        let top = if policy == Policy::Threshold { 1.0 } else { 0.999_999 };
        if !(level > 0.0 && level <= top) {
            return Err(Fault::Usage(format!(
                "--level {level} is no level of {}: (0, 1]",
                policy.name()
            )));
        }
        let mut settings =
            Settings { policy, audit: semantic.audit, guards, ..Settings::default() };
        match policy {
            Policy::Threshold => {
                settings.min_similarity = level as f32;
                // As served: a fixed threshold is not audited.
                settings.audit = 0.0;
            }
            Policy::Verified | Policy::Vcache | Policy::Off => settings.max_wrong_hits = level,
        }
        all.push(settings);
    }
    Ok(all)
}

/// Policies with their levels.
fn asked(eval: &Eval) -> Result<Vec<(Policy, f64)>, Fault> {
    let named = eval.policy.iter().map(|name| {
        let policy = Policy::from_name(name).filter(|policy| *policy != Policy::Off);
        policy.ok_or_else(|| {
            Fault::Usage(format!("--policy: verified, threshold or vcache, not `{name}`"))
        })
    });
    let mut policies = named.collect::<Result<Vec<_>, _>>()?;
    let usual = |policy: &Policy| -> &[f64] {
        match policy {
            Policy::Threshold => &[0.80, 0.85, 0.90, 0.95, 0.98],
            Policy::Verified | Policy::Vcache | Policy::Off => &[0.01, 0.02, 0.05],
        }
    };
    if policies.is_empty() {
        policies = vec![Policy::Verified, Policy::Threshold];
    }
    let levels = &eval.level;
    if levels.is_empty() {
        let each = |policy: Policy| usual(&policy).iter().map(move |level| (policy, *level));
        return Ok(policies.into_iter().flat_map(each).collect());
    }
    match policies.as_slice() {
        [one] => Ok(levels.iter().map(|level| (*one, *level)).collect()),
        several if several.len() == levels.len() => {
            Ok(several.iter().copied().zip(levels.iter().copied()).collect())
        }
        several => Err(Fault::Usage(format!(
            "{} policies and {} levels: name one policy, or one --level for each, in their order",
            several.len(),
            levels.len()
        ))),
    }
}

fn guards(eval: &Eval, semantic: &config::Semantic) -> Result<GuardSet, Fault> {
    let configured = || semantic.guards.iter().map(String::as_str).collect();
    let names: Vec<&str> = match eval.guards.as_deref() {
        None => configured(),
        Some("none" | "") => vec![],
        Some(list) => list.split(',').map(str::trim).collect(),
    };
    let known = names.into_iter().map(|name| {
        Guard::from_name(name).ok_or_else(|| {
            let all: Vec<&str> = Guard::ALL.into_iter().map(Guard::name).collect();
            Fault::Usage(format!(
                "--guards: no guard is called `{name}`; none, or {}",
                all.join(", ")
            ))
        })
    });
    Ok(GuardSet::of(&known.collect::<Result<Vec<_>, _>>()?))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::{Cli, Command},
        config::{Overrides, load},
    };

    fn tried(line: &str) -> Result<Vec<Settings>, String> {
        let cli = Cli::parse_from(format!("reprise eval x.jsonl {line}").split_whitespace());
        let Some(Command::Eval(eval)) = cli.command else { panic!("not eval") };
        let overrides = Overrides { upstream: Some("http://h:1".into()), ..Overrides::default() };
        let config = load(None, &std::collections::BTreeMap::new(), &overrides).unwrap();
        of(&eval, &config.cache.semantic).map_err(|fault| fault.to_string())
    }

    #[test]
    fn levels_go_with_their_policies() {
        let pairs = |line: &str| -> Vec<(Policy, f64)> {
            let level = |s: &Settings| match s.policy {
                Policy::Threshold => f64::from((s.min_similarity * 1e3).round()) / 1e3,
                _ => s.max_wrong_hits,
            };
            tried(line).unwrap().iter().map(|s| (s.policy, level(s))).collect()
        };
        assert_eq!(pairs("").len(), 8);
        assert_eq!(
            pairs("--policy verified --level 0.01 --level 0.02"),
            [(Policy::Verified, 0.01), (Policy::Verified, 0.02)]
        );
        assert_eq!(
            pairs("--policy verified --level 0.01 --policy threshold --level 0.9"),
            [(Policy::Verified, 0.01), (Policy::Threshold, 0.9)]
        );
    }

    #[test]
    fn what_cannot_be_tried_is_said() {
        for (line, said) in [
            ("--policy verified --policy vcache --level 0.1", "2 policies and 1 levels"),
            ("--policy off", "not `off`"),
            ("--policy verified --level 1", "no level of verified"),
            ("--level 0.01", "2 policies"),
            ("--guards number,nonsense", "`nonsense`"),
            ("--bound 1.5", "--bound"),
        ] {
            let error = tried(line).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn guards_are_the_configured_ones_or_those_named() {
        let of = |line: &str| tried(line).unwrap()[0].guards;
        assert_eq!(of(""), GuardSet::DEFAULT.and(GuardSet::of(&Guard::ALL)));
        assert!(of("--guards none").is_empty());
        assert_eq!(of("--guards number,role"), GuardSet::of(&[Guard::Number, Guard::Role]));
    }
}
