//! Whether traffic should come here, and what is not as it should be.

use std::fmt::Write as _;

use parking_lot::RwLock;

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not listening yet.
    Starting,
    /// Listening.
    Serving,
    /// About to end: load balancers should go elsewhere.
    Draining,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// How one part is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Being opened or warmed: traffic should wait for it.
    Starting,
    /// As it should be.
    Ok,
    /// Not working, and why. Serving goes on without it, so it does not make us unready.
    Degraded(String),
}

type Probe = Box<dyn Fn() -> Part + Send + Sync>;

/// The process's phase and the parts that somebody watches.
pub struct Health {
    phase: RwLock<Phase>,
    parts: RwLock<Vec<(&'static str, Probe)>>,
}

impl Health {
    /// Starting, with no parts.
    #[expect(clippy::new_without_default, reason = "a health that nobody starts helps nobody")]
    pub fn new() -> Self {
        Self { phase: RwLock::new(Phase::Starting), parts: RwLock::default() }
    }

    /// Goes on to another phase. Draining is the last one: nothing leads out of it.
    pub fn enter(&self, phase: Phase) {
        let mut now = self.phase.write();
        if *now != Phase::Draining {
            *now = phase;
        }
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.read()
    }

    /// Watches a part: `probe` is asked at each look, so it must not wait. It replaces what was
    /// said of a part of this name before.
    pub fn watch(&self, name: &'static str, probe: impl Fn() -> Part + Send + Sync + 'static) {
        let mut parts = self.parts.write();
        let probe: Probe = Box::new(probe);
        match parts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = probe,
            None => parts.push((name, probe)),
        }
    }

    /// Says how a part is, until told otherwise.
    pub fn set(&self, name: &'static str, part: Part) {
        self.watch(name, move || part.clone());
    }

    /// What is wrong with a part, if anything is.
    pub fn trouble(&self, name: &str) -> Option<String> {
        let parts = self.parts.read();
        let (_, probe) = parts.iter().find(|(known, _)| *known == name)?;
        match probe() {
            Part::Degraded(why) => Some(why),
            Part::Ok | Part::Starting => None,
        }
    }

    /// Looks at everything.
    pub fn readiness(&self) -> Readiness {
        let parts: Vec<_> =
            self.parts.read().iter().map(|(name, probe)| (*name, probe())).collect();
        let phase = self.phase();
        let waiting = parts.iter().any(|(_, part)| *part == Part::Starting);
        Readiness { ready: phase == Phase::Serving && !waiting, phase, parts }
    }
}

/// What one look found.
pub struct Readiness {
    /// Whether traffic should come here.
    pub ready: bool,
    phase: Phase,
    parts: Vec<(&'static str, Part)>,
}

impl Readiness {
    /// One line.
    pub(super) fn brief(&self) -> String {
        if self.ready {
            return "ok\n".into();
        }
        let waiting: Vec<_> = self
            .parts
            .iter()
            .filter(|(_, part)| *part == Part::Starting)
            .map(|(name, _)| *name)
            .collect();
        match self.phase {
            Phase::Draining => "draining\n".into(),
            Phase::Starting | Phase::Serving if waiting.is_empty() => "starting\n".into(),
            Phase::Starting | Phase::Serving => format!("starting: {}\n", waiting.join(", ")),
        }
    }

    /// A line for each part, in the manner of Kubernetes' own health endpoints.
    pub(super) fn verbose(&self) -> String {
        let mut text = String::new();
        let sign = if self.phase == Phase::Serving { '+' } else { '-' };
        // Writing to a string does not fail.
        let _ = writeln!(text, "[{sign}]process {}", self.phase.name());
        for (name, part) in &self.parts {
            let _ = match part {
                Part::Ok => writeln!(text, "[+]{name} ok"),
                Part::Starting => writeln!(text, "[-]{name}: starting"),
                Part::Degraded(why) => {
                    // One line each, whatever an error message holds.
                    let why = why.replace(['\n', '\r'], " ");
                    writeln!(text, "[-]{name}: degraded, serving goes on without it: {why}")
                }
            };
        }
        text.push_str(if self.ready { "ready\n" } else { "not ready\n" });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_serving_and_no_part_is_starting() {
        let health = Health::new();
        health.set("embedder", Part::Starting);
        health.set("store", Part::Starting);
        assert!(!health.readiness().ready);
        assert_eq!(health.readiness().brief(), "starting: embedder, store\n");
        health.set("embedder", Part::Ok);
        health.enter(Phase::Serving);
        assert!(!health.readiness().ready, "the store is still opening");
        health.set("store", Part::Ok);
        assert!(health.readiness().ready);
        assert_eq!(health.readiness().brief(), "ok\n");
        assert_eq!(
            health.readiness().verbose(),
            "[+]process serving\n[+]embedder ok\n[+]store ok\nready\n"
        );
    }

    #[test]
    fn a_degraded_part_is_said_and_does_not_make_us_unready() {
        let health = Health::new();
        health.enter(Phase::Serving);
        health.set("store", Part::Degraded("corrupt,\nset aside as x".into()));
        let readiness = health.readiness();
        assert!(readiness.ready);
        assert!(readiness.verbose().contains(
            "[-]store: degraded, serving goes on without it: corrupt, set aside as x\nready\n"
        ));
    }

    #[test]
    fn draining_is_the_last_phase() {
        let health = Health::new();
        health.enter(Phase::Serving);
        health.enter(Phase::Draining);
        health.enter(Phase::Serving);
        assert_eq!(health.phase(), Phase::Draining);
        let readiness = health.readiness();
        assert!(!readiness.ready);
        assert_eq!(readiness.brief(), "draining\n");
        assert!(readiness.verbose().ends_with("not ready\n"));
    }

    #[test]
    fn a_watched_part_is_asked_at_each_look() {
        let health = Health::new();
        health.enter(Phase::Serving);
        let alive = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let seen = std::sync::Arc::clone(&alive);
        health.watch("embedder", move || {
            if seen.load(std::sync::atomic::Ordering::Relaxed) {
                Part::Ok
            } else {
                Part::Degraded("its thread is gone".into())
            }
        });
        assert!(health.readiness().verbose().contains("[+]embedder ok"));
        alive.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(health.readiness().verbose().contains("[-]embedder: degraded"));
    }
}
