//! What replicas tell each other of what they were taught, so that each knows what all heard.

use serde::{Deserialize, Serialize};

use super::Namespace;
use crate::cache::verdict::{AnswerId, Decision, Principal};

/// Lessons that wait to be told; where nobody fetches them, there is nobody to tell.
const MOST_UNTOLD: usize = 64;

/// Something that a namespace was taught.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lesson {
    /// An outcome was judged.
    Label(Label),
    /// Two answers say the same.
    Kin {
        /// Of the family that was there.
        elder: AnswerId,
        /// Who joins it.
        younger: AnswerId,
    },
    /// A principal's own fresh answer agreed.
    Backed {
        /// With this one.
        answer: AnswerId,
        /// Who it was.
        by: Principal,
    },
}

/// What a judged outcome says, apart from the question.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Label {
    /// Whose answer it was.
    pub family: AnswerId,
    /// [`Decision::feature`].
    pub feature: f32,
    /// [`Decision::similarity`].
    pub similarity: f32,
    /// [`Decision::alpha`].
    pub alpha: f64,
    /// It would have been served: an unbiased label.
    pub unbiased: bool,
    /// [`Decision::teaches`].
    pub teaches: bool,
    /// It would have been right.
    pub right: bool,
}

impl Label {
    /// Of a decision that had a winner.
    pub(super) fn of(decision: &Decision, right: bool) -> Option<Self> {
        Some(Self {
            family: decision.family?,
            feature: decision.feature,
            similarity: decision.similarity,
            alpha: decision.alpha,
            unbiased: decision.ruling.would_serve(),
            teaches: decision.teaches,
            right,
        })
    }
}

impl Namespace {
    /// What was taught here since the last call. Lessons taken over from others are not among it.
    pub fn untold(&mut self) -> Vec<Lesson> {
        std::mem::take(&mut self.untold)
    }

    pub(super) fn tell(&mut self, lesson: Lesson) {
        if self.untold.len() < MOST_UNTOLD {
            self.untold.push(lesson);
        }
    }

    /// Another replica was taught this.
    pub fn take_over(&mut self, lesson: &Lesson) {
        match lesson {
            Lesson::Label(label) => {
                let family = self.memory.families.eldest(label.family);
                self.count(&Label { family, ..*label });
            }
            Lesson::Kin { elder, younger } => self.memory.families.join(*elder, *younger),
            Lesson::Backed { answer, by } => self.stand_behind(*answer, *by),
        }
    }
}
