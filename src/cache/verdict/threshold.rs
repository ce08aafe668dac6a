//! Policy `threshold`: at least so similar, and no guard objects.

use super::feature::{Stand, Vote};

/// First key, nearest first, that is similar enough; `None` if there is none.
pub fn nearest(votes: &[Vote], min_similarity: f32) -> Option<usize> {
    votes
        .iter()
        .enumerate()
        .filter(|(_, v)| v.stand == Stand::Full && v.similarity >= min_similarity)
        .max_by(|a, b| a.1.similarity.total_cmp(&b.1.similarity))
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::verdict::AnswerId;

    #[test]
    fn nearest_that_counts() {
        let vote = |similarity, stand| Vote { family: AnswerId(1), similarity, stand };
        let votes = [vote(0.97, Stand::Silent), vote(0.93, Stand::Full), vote(0.95, Stand::Full)];
        assert_eq!(nearest(&votes, 0.9), Some(2));
        assert_eq!(nearest(&votes, 0.96), None);
        assert_eq!(nearest(&[vote(f32::NAN, Stand::Full)], 0.1), None);
    }
}
