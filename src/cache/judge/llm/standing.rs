//! Is the judge to be believed? Known pairs tell.
//!
//! Two probes, one of answers that agree and one of answers that do not, follow every
//! [`JUDGEMENTS_A_PROBE_PAIR`] judgements, after an examination of [`EXAMINATION`] probes before the
//! first. So a judge that says yes or no to everything never passes; one that begins to do so later is
//! not believed any more after at most 60 judgements (three wrong probes of a kind); one that is dead
//! or slow after [`MOST_SILENT`] requests in a row without a reply.

use super::{JudgeError, PROBES, Probe};
use crate::cache::verdict::Agreement;

/// Probes before the first judgement is heard, half of each kind.
const EXAMINATION: u32 = 8;
/// Judgements between two pairs of probes: a tenth of what the judge is asked.
const JUDGEMENTS_A_PROBE_PAIR: u32 = 20;
/// Share of wrong probes of a kind from which the judge is not believed. Probes are plain cases.
const MOST_WRONG: f64 = 0.3;
/// A probe's weight halves over about so many of its kind: three wrong ones after any past are enough.
const DECAY: f64 = 1.0 - 1.0 / 8.0;
/// Requests in a row without a reply after which the judge counts as silent.
const MOST_SILENT: u32 = 10;

/// Whether a judge is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not yet examined.
    Probation,
    /// Its words are labels.
    Sound,
    /// It errs on known pairs.
    Unsound,
    /// It does not answer.
    Silent,
}

impl State {
    /// All, in the order of their names.
    pub const ALL: [Self; 4] = [Self::Probation, Self::Sound, Self::Unsound, Self::Silent];

    /// Stable name for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Probation => "probation",
            Self::Sound => "sound",
            Self::Unsound => "unsound",
            Self::Silent => "silent",
        }
    }

    /// Whether near questions may be served beside such a judge: who is on probation has taught
    /// nothing yet, so that what is served rests on what was known before.
    pub const fn lets_serve(self) -> bool {
        matches!(self, Self::Probation | Self::Sound)
    }
}

/// Probes of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    heard: u32,
    weight: f64,
    wrong: f64,
}

impl Kind {
    fn push(&mut self, wrong: bool) {
        self.heard = self.heard.saturating_add(1);
        self.weight = self.weight * DECAY + 1.0;
        self.wrong = self.wrong * DECAY + f64::from(u8::from(wrong));
    }

    /// With half a wrong one of one added: a share of four good probes is not zero.
    fn error(&self) -> f64 {
        if self.heard == 0 { 0.0 } else { (self.wrong + 0.05) / (self.weight + 0.1) }
    }

    fn is_good(&self) -> bool {
        self.wrong <= MOST_WRONG * self.weight
    }
}

/// What is known of the judge.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    agreeing: Kind,
    differing: Kind,
    /// The next probe's place in the list.
    next: usize,
    /// Judgements since the last probe.
    since: u32,
    silent: u32,
}

impl Standing {
    /// Whether the judge is believed.
    pub fn state(&self) -> State {
        if self.silent >= MOST_SILENT {
            State::Silent
        } else if self.agreeing.heard + self.differing.heard < EXAMINATION {
            State::Probation
        } else if self.agreeing.is_good() && self.differing.is_good() {
            State::Sound
        } else {
            State::Unsound
        }
    }

    /// How many probes go before the next case.
    pub fn due(&self) -> u32 {
        match self.state() {
            State::Probation => EXAMINATION - self.agreeing.heard - self.differing.heard,
            State::Sound if self.since < JUDGEMENTS_A_PROBE_PAIR => 0,
            // A pair a case, so that a judge that was mended is believed again.
            State::Sound | State::Unsound | State::Silent => 2,
        }
    }

    /// The next probe: kinds alternate.
    pub fn next_probe(&mut self) -> &'static Probe {
        let probe = &PROBES[self.next % PROBES.len()];
        self.next = self.next.wrapping_add(1);
        self.since = 0;
        probe
    }

    /// A probe was answered, or was not.
    pub fn probed(&mut self, truth: Agreement, said: Option<Agreement>) {
        self.heard(said.is_some());
        match (truth, said) {
            (_, None) => {}
            (Agreement::Same, Some(said)) => self.agreeing.push(said != truth),
            (Agreement::Different, Some(said)) => self.differing.push(said != truth),
        }
    }

    /// A case was judged, or found no reply.
    pub fn judged(&mut self, said: Option<Agreement>) {
        self.heard(said.is_some());
        self.since = self.since.saturating_add(1);
    }

    fn heard(&mut self, answered: bool) {
        self.silent = if answered { 0 } else { self.silent.saturating_add(1) };
    }

    /// How often it errs, by its probes.
    pub fn error(&self) -> JudgeError {
        JudgeError {
            false_rejections: self.agreeing.error(),
            false_acceptances: self.differing.error(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A judge's word on a case whose truth is known.
    type Judge = fn(Agreement) -> Option<Agreement>;

    const HONEST: Judge = Some;
    const YES: Judge = |_| Some(Agreement::Same);
    const NO: Judge = |_| Some(Agreement::Different);
    const DEAD: Judge = |_| None;

    /// One case by this judge, its probes first; true if its word was heard.
    fn case(standing: &mut Standing, judge: Judge) -> bool {
        for _ in 0..standing.due() {
            let probe = standing.next_probe();
            let said = judge(probe.truth);
            standing.probed(probe.truth, said);
            if said.is_none() {
                break;
            }
        }
        if standing.state() != State::Sound {
            return false;
        }
        let said = judge(Agreement::Same);
        standing.judged(said);
        said.is_some() && standing.state() == State::Sound
    }

    #[test]
    fn an_honest_judge_passes_at_once_and_stays() {
        let mut standing = Standing::default();
        assert!((0..500).all(|_| case(&mut standing, HONEST)));
        assert!(standing.error().false_acceptances < 0.01);
    }

    #[test]
    fn who_always_says_one_thing_is_never_heard() {
        for judge in [YES, NO] {
            let mut standing = Standing::default();
            assert!(!(0..500).any(|_| case(&mut standing, judge)));
            assert_eq!(standing.state(), State::Unsound);
        }
    }

    #[test]
    fn who_begins_to_say_one_thing_is_found_out_within_sixty_judgements() {
        for judge in [YES, NO] {
            for past in [1, 19, 20, 21, 400] {
                let mut standing = Standing::default();
                (0..past).for_each(|_| assert!(case(&mut standing, HONEST)));
                let heard = (0..500).filter(|_| case(&mut standing, judge)).count();
                assert!(heard <= 60, "{heard} after {past}");
                assert_eq!(standing.state(), State::Unsound);
                let until = (0..100).position(|_| case(&mut standing, HONEST));
                assert!(
                    until.is_some_and(|cases| cases < 20),
                    "mended and not believed: {until:?}"
                );
            }
        }
    }

    #[test]
    fn silence_is_noticed_within_ten_requests_and_forgiven_at_the_first_word() {
        let mut standing = Standing::default();
        assert!(case(&mut standing, HONEST));
        let noticed = (1..100).find(|_| {
            case(&mut standing, DEAD);
            standing.state() == State::Silent
        });
        assert_eq!(noticed, Some(MOST_SILENT));
        assert!(case(&mut standing, HONEST));
        let mut never = Standing::default();
        (0..MOST_SILENT).for_each(|_| assert!(!case(&mut never, DEAD)));
        assert_eq!(never.state(), State::Silent);
    }

    #[test]
    fn probes_come_in_both_kinds_by_turns() {
        for (at, probe) in PROBES.iter().enumerate() {
            let even = if at % 2 == 0 { Agreement::Same } else { Agreement::Different };
            assert_eq!(probe.truth, even, "{}", probe.question);
        }
    }
}
