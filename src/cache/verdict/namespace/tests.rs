use std::sync::LazyLock;

use super::*;
use crate::cache::readings::Readings;
use crate::cache::verdict::first_prior::{DEFAULT_MODEL, first_prior};
use crate::cache::verdict::{Agreement, Placement, Wording};

const NEVER: f64 = 0.999;

fn settings(policy: Policy) -> Settings {
    Settings { policy, ..Settings::default() }
}

fn near(answer: u128, similarity: f32, text: &str) -> Neighbour<'_> {
    static READINGS: LazyLock<Readings> = LazyLock::new(Readings::default);
    Neighbour { answer: AnswerId(answer), similarity, text: Wording::Text(text, &READINGS) }
}

fn threshold(min_similarity: f32) -> Namespace {
    Namespace::new(Settings { min_similarity, ..settings(Policy::Threshold) }, Belief::flat())
}

/// A namespace that has seen `families` answers, each right when close and wrong when far.
fn trained(target: f64, families: u128) -> Namespace {
    let mut space = Namespace::new(
        Settings { max_wrong_hits: target, ..settings(Policy::Verified) },
        first_prior(DEFAULT_MODEL),
    );
    let question = Reading::of("How do I reset the password of my account?");
    for round in 0..6 {
        for family in 0..families {
            let close = round % 2 == 0;
            let list = [near(
                family,
                if close { 0.95 } else { 0.5 },
                "How can I reset the password of my account?",
            )];
            let decision = space.decide(&question, &list, 0.0);
            let verdict = if close { Agreement::Same } else { Agreement::Different };
            space.learn(&decision, &[(AnswerId(family), verdict)]);
        }
    }
    space
}

#[test]
fn threshold_serves_what_is_similar_and_passes_guards() {
    let mut space = threshold(0.9);
    let question = Reading::of("How do I enable dark mode?");
    let rule =
        |space: &mut Namespace, list: &[Neighbour<'_>]| space.decide(&question, list, NEVER).ruling;
    assert_eq!(rule(&mut space, &[near(1, 0.95, "How can I enable dark mode?")]), Ruling::Serve);
    assert_eq!(rule(&mut space, &[near(1, 0.89, "How can I enable dark mode?")]), Ruling::Doubtful);
    assert_eq!(rule(&mut space, &[near(1, 0.97, "How do I disable dark mode?")]), Ruling::Guarded);
    assert_eq!(rule(&mut space, &[]), Ruling::NoNeighbour);
}

#[test]
fn a_clean_key_of_the_same_answer_is_served() {
    let mut space = threshold(0.9);
    let question = Reading::of("How do I enable dark mode?");
    let list = [
        near(1, 0.97, "How do I enable bright mode?"),
        near(1, 0.93, "How can I enable dark mode?"),
    ];
    let decision = space.decide(&question, &list, NEVER);
    assert_eq!((decision.ruling, decision.chosen), (Ruling::Serve, Some(1)));
    let other = [list[0], Neighbour { answer: AnswerId(2), ..list[1] }];
    assert_eq!(
        space.decide(&question, &other, NEVER).ruling,
        Ruling::Guarded,
        "a guard never turns to another answer"
    );
    assert!(!decision.guards.is_empty(), "what was found is still reported");
}

#[test]
fn guards_can_be_switched_off() {
    let mut space = Namespace::new(
        Settings { min_similarity: 0.9, guards: GuardSet::NONE, ..settings(Policy::Threshold) },
        Belief::flat(),
    );
    let list = [near(1, 0.97, "How do I disable dark mode?")];
    assert_eq!(
        space.decide(&Reading::of("How do I enable dark mode?"), &list, NEVER).ruling,
        Ruling::Serve
    );
}

#[test]
fn off_never_serves() {
    let mut space = Namespace::new(settings(Policy::Off), Belief::flat());
    let list = [near(1, 1.0, "What is the capital of France?")];
    assert_eq!(
        space.decide(&Reading::of("What is the capital of France?"), &list, NEVER).ruling,
        Ruling::Off
    );
}

#[test]
fn audits_follow_the_draw() {
    let mut space = trained(0.05, 60);
    let question = Reading::of("How do I reset the password of my account?");
    let list = [near(3, 0.97, "How can I reset the password of my account?")];
    assert_eq!(space.decide(&question, &list, 0.019).ruling, Ruling::Audit);
    assert_eq!(space.decide(&question, &list, 0.021).ruling, Ruling::Serve);
}

#[test]
fn a_doubtful_question_is_forwarded_and_teaches() {
    let mut space = trained(0.05, 60);
    let question = Reading::of("How do I reset the password of my account?");
    let list = [
        near(3, 0.7, "How can I reset the password of my account?"),
        near(4, 0.69, "Where is the password stored?"),
    ];
    let decision = space.decide(&question, &list, NEVER);
    assert_eq!(decision.ruling, Ruling::Doubtful);
    assert_eq!(decision.contenders.len(), 2);
    let placed = space
        .learn(&decision, &[(AnswerId(3), Agreement::Different), (AnswerId(4), Agreement::Same)]);
    assert_eq!(placed, Placement::Alias(AnswerId(4)));
}

#[test]
fn keys_are_capped_and_redundant_ones_refused() {
    let mut space = threshold(0.999);
    let question = Reading::of("How do I reset the password of my account?");
    let same = [(AnswerId(1), Agreement::Same)];
    let mut placements = vec![];
    for _ in 0..17 {
        let decision = space.decide(&question, &[near(1, 0.9, "Reset my account password")], NEVER);
        placements.push(space.learn(&decision, &same));
    }
    assert_eq!(placements.iter().filter(|p| **p == Placement::Alias(AnswerId(1))).count(), 15);
    assert_eq!(placements[16], Placement::Kin(AnswerId(1)));
    let decision = space.decide(&question, &[near(1, 0.995, "Reset my account password")], NEVER);
    assert_eq!(space.learn(&decision, &same), Placement::Redundant(AnswerId(1)));
}

#[test]
fn nothing_judged_is_nothing_learned() {
    let mut space = trained(0.05, 30);
    let before = space.snapshot().unwrap();
    let decision =
        space.assess(&Reading::of("How do I fly?"), &[near(3, 0.5, "Who can fly?")], NEVER);
    assert_eq!(space.learn(&decision, &[]), Placement::Own);
    assert!(space.snapshot().unwrap() == before, "a question without a label left a trace");
}

#[test]
fn a_rejected_answer_and_its_kin_are_served_no_more() {
    let mut space = threshold(0.9);
    space.join(AnswerId(1), AnswerId(2));
    space.reject(AnswerId(2));
    let question = Reading::of("How do I bake good bread?");
    for answer in [1, 2] {
        let decision =
            space.decide(&question, &[near(answer, 0.99, "How do I bake bread well?")], NEVER);
        assert_eq!(decision.ruling, Ruling::NoNeighbour);
        assert!(space.is_quarantined(AnswerId(answer)));
    }
}

/// Vectors leave emoji out; guards may be off.
#[test]
fn other_emoji_make_another_question_and_one_alone_adorns() {
    let bare =
        Settings { min_similarity: 0.9, guards: GuardSet::NONE, ..settings(Policy::Threshold) };
    for (asked, stored, ruling) in [
        ("What does a \u{1f917} mean?", "What does a \u{1f621} mean?", Ruling::NoNeighbour),
        ("What does a \u{1f917} mean?", "What does a \u{1f917} mean to you?", Ruling::Serve),
        ("Where is my parcel? \u{1f917}", "Where is my parcel?", Ruling::Serve),
        (
            "Who rules \u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}?",
            "Who rules \u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}?",
            Ruling::NoNeighbour,
        ),
        ("What is 2 \u{2796} 1?", "What is 2 \u{2795} 1?", Ruling::NoNeighbour),
    ] {
        let mut space = Namespace::new(bare.clone(), Belief::flat());
        let decision = space.decide(&Reading::of(asked), &[near(1, 1.0, stored)], NEVER);
        assert_eq!(decision.ruling, ruling, "{asked} | {stored}");
    }
}

#[test]
fn a_mark_that_is_heard_again_teaches_nothing_more() {
    let mut space = trained(0.05, 40);
    space.reject(AnswerId(3));
    let once = space.labels();
    space.reject(AnswerId(3));
    assert_eq!(space.labels(), once);
}

#[test]
fn a_restart_keeps_what_was_learned() {
    let space = trained(0.05, 40);
    let snapshot = space.snapshot().unwrap();
    let back = Namespace::restore(space.settings().clone(), Belief::flat(), &snapshot).unwrap();
    let question = Reading::of("How do I reset the password of my account?");
    let list = [near(3, 0.93, "How can I reset the password of my account?")];
    let (a, b) = (space.assess(&question, &list, NEVER), back.assess(&question, &list, NEVER));
    assert_eq!(a.ruling, b.ruling);
    assert!((a.alpha - b.alpha).abs() < 1e-5);
    assert!(Namespace::restore(space.settings().clone(), Belief::flat(), "{}").is_err());
    let other = Namespace::restore(settings(Policy::Threshold), Belief::flat(), &snapshot).unwrap();
    assert_eq!(other.wrong_hits().high, 1.0);
}

/// Uniform numbers, well spread and the same in every run: multiples of the golden ratio.
fn draw(n: usize) -> f64 {
    (n as f64 * 0.618_033_988_749_894_9).fract()
}

/// Feeds `count` questions, the first being number `from`, about fresh answers at a similarity that
/// was always right, judged by `judge`; returns the hits.
fn feed(
    space: &mut Namespace,
    from: usize,
    count: usize,
    judge: impl Fn(usize) -> Option<Agreement>,
) -> usize {
    let question = Reading::of("How do I reset the password of my account?");
    let mut hits = 0;
    for n in from..from + count {
        let answer = (n % 50) as u128;
        let list = [near(answer, 0.95, "How can I reset the password of my account?")];
        let decision = space.decide(&question, &list, draw(n));
        if decision.ruling == Ruling::Serve {
            hits += 1;
        } else if let Some(agreement) = judge(n) {
            space.learn(&decision, &[(AnswerId(answer), agreement)]);
        }
    }
    hits
}

#[test]
fn a_judge_that_always_says_no_ends_serving() {
    let mut space = trained(0.05, 60);
    assert!(feed(&mut space, 0, 100, |_| None) > 50, "it serves to begin with");
    feed(&mut space, 100, 1000, |_| Some(Agreement::Different));
    assert_eq!(feed(&mut space, 1100, 200, |_| Some(Agreement::Different)), 0);
}

#[test]
fn drift_is_noticed_and_recovery_too() {
    let mut space = trained(0.02, 60);
    assert!(feed(&mut space, 0, 500, |_| Some(Agreement::Same)) > 300);
    let wrong = |space: &mut Namespace, block: usize| {
        feed(space, 500 + 50 * block, 50, |_| Some(Agreement::Different))
    };
    let noticed = (0..40).position(|block| wrong(&mut space, block) == 0).map(|blocks| blocks * 50);
    assert!(
        noticed.is_some_and(|requests| requests <= 1000),
        "every answer turned wrong and was served for {noticed:?} requests"
    );
    feed(&mut space, 5000, 20_000, |_| Some(Agreement::Same));
    assert_eq!(space.trust(), Trust::Serving);
    assert!(feed(&mut space, 25_000, 500, |_| Some(Agreement::Same)) > 300);
}

#[test]
fn a_plain_paraphrase_is_served_on_day_one() {
    let mut space = Namespace::new(settings(Policy::Verified), first_prior(DEFAULT_MODEL));
    let question = Reading::of("What's the capital of France?");
    let rule = |space: &mut Namespace, s: f32, text: &str| {
        space.decide(&question, &[near(1, s, text)], NEVER).ruling
    };
    assert_eq!(rule(&mut space, 0.97, "What is the capital of France?"), Ruling::Serve);
    assert_eq!(rule(&mut space, 0.85, "Tell me about the capital of France"), Ruling::Doubtful);
    assert_eq!(rule(&mut space, 0.97, "What is the capital of Spain?"), Ruling::Guarded);
}

#[test]
fn a_judge_that_died_ends_serving() {
    let mut space = trained(0.05, 60);
    assert!(feed(&mut space, 0, 100, |_| Some(Agreement::Same)) > 50);
    let question = Reading::of("How do I reset the password of my account?");
    let list = [near(3, 0.97, "How can I reset the password of my account?")];
    for _ in 0..20 {
        let decision = space.decide(&question, &list, 0.0);
        space.learn(&decision, &[]);
    }
    assert_eq!(space.decide(&question, &list, NEVER).ruling, Ruling::Suspended);
}

#[test]
fn a_dead_judge_teaches_nothing() {
    // Dead: no labels, so the level stays at the target and only what the first prior vouches for
    // is served.
    let mut space = Namespace::new(settings(Policy::Verified), first_prior(DEFAULT_MODEL));
    feed(&mut space, 0, 2000, |_| None);
    assert!(space.level().is_some_and(|level| level <= 0.06));
    assert_eq!(space.wrong_hits().high, 1.0, "no rate is claimed without a label");
}
