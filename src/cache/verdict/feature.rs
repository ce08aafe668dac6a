//! One number out of a neighbourhood: how much closer the best family is than all others together.

use super::AnswerId;

/// Inverse width of the kernel in cosine units: a key 0.05 further away counts 1/e as much.
const SHARPNESS: f32 = 20.0;
/// Votes that both sides own from the start. It keeps a lone key's margin finite: with nobody else
/// near, absence of rivals is absence of evidence, not certainty.
const FLOOR: f32 = 0.01;
/// Weight of the soft margin beside the similarity. Between 0.05 and 0.2 the results hardly move.
const MARGIN_WEIGHT: f32 = 0.1;

/// What a key may do for its family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stand {
    /// Vote, and be the key that the answer is served by.
    Full,
    /// Vote only: a guard found that the question says more, less or otherwise than this key, not
    /// the contrary.
    Votes,
    /// Nothing: quarantined, or the question contradicts it.
    Silent,
}

/// A key as the feature sees it.
#[derive(Clone, Copy, Debug)]
pub struct Vote {
    /// Family of the key's answer.
    pub family: AnswerId,
    /// Cosine similarity to the question.
    pub similarity: f32,
    /// What it may do.
    pub stand: Stand,
}

/// What a neighbourhood says about its best family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feature {
    /// Index, in the list of votes, of the closest key of the winning family that may serve.
    pub nearest: usize,
    /// Cosine similarity of the closest key of that family that votes.
    pub similarity: f32,
    /// Cosine similarity of the closest key of any other family, 0 if there is none.
    pub rival: f32,
    /// `similarity + 0.1 ln(votes for / votes against)`. Roughly -0.3..1.7; higher is safer.
    pub value: f32,
}

/// Weighs the keys, each by `exp(20 (s - s_best))`, and pits the best family against all others
/// together.
///
/// The hard margin `s1 - s2` looks at two keys; a namespace that has heard many phrasings of one
/// question knows more than that. With one key on either side the two agree up to a factor: the
/// soft margin is then `20 (s1 - s2)`. `None` when no key votes, or none of the winner's may serve.
pub fn feature(votes: &[Vote]) -> Option<Feature> {
    let counting = || {
        votes
            .iter()
            .enumerate()
            .filter(|(_, v)| v.stand != Stand::Silent && v.similarity.is_finite())
    };
    let best = counting().map(|(_, v)| v.similarity).max_by(f32::total_cmp)?;
    let weights: Vec<f32> =
        votes.iter().map(|v| (SHARPNESS * (v.similarity - best)).exp()).collect();
    let votes_for = |family: AnswerId| -> f32 {
        counting().filter(|(_, v)| v.family == family).map(|(at, _)| weights[at]).sum()
    };
    let mut winner = None;
    for (at, vote) in counting() {
        // Lists are short and neighbours mostly kin: asking once per family beats building a map.
        if !counting().take_while(|(i, _)| *i < at).any(|(_, v)| v.family == vote.family) {
            let own = votes_for(vote.family);
            if winner.is_none_or(|(_, most)| own > most) {
                winner = Some((vote.family, own));
            }
        }
    }
    let (family, own) = winner?;
    let total: f32 = counting().map(|(at, _)| weights[at]).sum();
    let closest = |mine: bool| {
        counting()
            .filter(|(_, v)| (v.family == family) == mine)
            .max_by(|a, b| a.1.similarity.total_cmp(&b.1.similarity))
    };
    let (_, key) = closest(true)?;
    let serving = counting().filter(|(_, v)| v.family == family && v.stand == Stand::Full);
    let (nearest, _) = serving.max_by(|a, b| a.1.similarity.total_cmp(&b.1.similarity))?;
    let rival = closest(false).map_or(0.0, |(_, v)| v.similarity);
    let against = (total - own).max(0.0);
    let value = key.similarity + MARGIN_WEIGHT * ((own + FLOOR) / (against + FLOOR)).ln();
    Some(Feature { nearest, similarity: key.similarity, rival, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn votes(list: &[(u128, f32)]) -> Vec<Vote> {
        list.iter()
            .map(|(f, s)| Vote { family: AnswerId(*f), similarity: *s, stand: Stand::Full })
            .collect()
    }

    #[test]
    fn a_close_rival_costs() {
        let alone = feature(&votes(&[(1, 0.9)])).unwrap();
        let contested = feature(&votes(&[(1, 0.9), (2, 0.89)])).unwrap();
        assert!(alone.value > contested.value + 0.3);
        assert_eq!((contested.similarity, contested.rival), (0.9, 0.89));
    }

    #[test]
    fn many_near_keys_outvote_one_nearest() {
        let found = feature(&votes(&[(1, 0.85), (2, 0.84), (2, 0.83), (2, 0.83)])).unwrap();
        assert_eq!(found.nearest, 1);
    }

    #[test]
    fn silent_keys_say_nothing() {
        let mut list = votes(&[(1, 0.95), (2, 0.9)]);
        list[0].stand = Stand::Silent;
        let found = feature(&list).unwrap();
        assert_eq!((found.nearest, found.rival), (1, 0.0));
        assert!(feature(&[]).is_none());
    }

    #[test]
    fn a_key_that_only_votes_is_not_served_by() {
        let mut list = votes(&[(1, 0.95), (1, 0.9), (2, 0.7)]);
        let before = feature(&list).unwrap();
        list[0].stand = Stand::Votes;
        let after = feature(&list).unwrap();
        assert_eq!((before.nearest, after.nearest), (0, 1));
        assert_eq!(before.value, after.value);
        list[1].stand = Stand::Votes;
        assert!(feature(&list).is_none());
    }

    proptest! {
        #[test]
        fn values_stay_on_the_grid(list in proptest::collection::vec((0u128..4, -1.0f32..1.0), 1..16)) {
            let found = feature(&votes(&list)).unwrap();
            prop_assert!(found.value.is_finite() && found.value > -1.9 && found.value < 1.8);
            prop_assert!(found.nearest < list.len());
        }
    }
}
