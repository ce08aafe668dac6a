//! Pairs of answers whose truth is known: what a judge is examined with.
//!
//! Plain cases on purpose: a judge that fails them cannot be right about hard ones, and one that says
//! the same to all of them is found out.

use crate::cache::verdict::Agreement;

/// A question with two answers, and whether these agree.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// What was asked.
    pub question: &'static str,
    /// One answer.
    pub fresh: &'static str,
    /// Another.
    pub stored: &'static str,
    /// Whether they agree.
    pub truth: Agreement,
}

const fn same(question: &'static str, fresh: &'static str, stored: &'static str) -> Probe {
    Probe { question, fresh, stored, truth: Agreement::Same }
}

const fn different(question: &'static str, fresh: &'static str, stored: &'static str) -> Probe {
    Probe { question, fresh, stored, truth: Agreement::Different }
}

/// Kinds alternate, so that any two in a row are one of each.
pub const PROBES: [Probe; 16] = [
    same("What is the capital of Australia?", "Canberra.", "The capital of Australia is Canberra."),
    different(
        "What is the capital of Australia?",
        "Canberra.",
        "The capital of Australia is Sydney.",
    ),
    same(
        "How do I undo my last commit but keep the changes?",
        "Run `git reset --soft HEAD~1`.",
        "Use git reset --soft HEAD~1: your changes stay staged.",
    ),
    different(
        "How do I undo my last commit but keep the changes?",
        "Run `git reset --hard HEAD~1`.",
        "Use git reset --soft HEAD~1: your changes stay staged.",
    ),
    same(
        "May I cancel my order after it was shipped?",
        "Once it has shipped it cannot be cancelled any more.",
        "No. Orders that have left the warehouse can't be cancelled.",
    ),
    different(
        "May I cancel my order after it was shipped?",
        "Yes, you may cancel it even after it was shipped.",
        "No. Orders that have left the warehouse can't be cancelled.",
    ),
    same(
        "How long does a bank transfer take?",
        "It usually arrives within 2 working days.",
        "Allow two business days for the money to arrive.",
    ),
    different(
        "How long does a bank transfer take?",
        "It usually arrives within 5 working days.",
        "Allow two business days for the money to arrive.",
    ),
    same(
        "Who wrote the novel Frankenstein?",
        "Mary Shelley wrote it; it appeared in 1818.",
        "Frankenstein is by Mary Shelley.",
    ),
    different(
        "Who wrote the novel Frankenstein?",
        "It was written by Bram Stoker.",
        "Frankenstein is by Mary Shelley.",
    ),
    same(
        "At what temperature does water boil at sea level?",
        "At 100 degrees Celsius.",
        "100 °C (that is 212 °F).",
    ),
    different(
        "At what temperature does water boil at sea level?",
        "At 90 degrees Celsius.",
        "100 °C (that is 212 °F).",
    ),
    same("Translate 'good night' into French.", "Bonne nuit", "\"Bonne nuit\""),
    different("Translate 'good night' into French.", "Gute Nacht", "\"Bonne nuit\""),
    same(
        "Does the free plan include phone support?",
        "No, phone support comes only with paid plans.",
        "Phone support isn't part of the free plan.",
    ),
    different(
        "Does the free plan include phone support?",
        "I'm sorry, but I can't help with that.",
        "Phone support isn't part of the free plan.",
    ),
];
