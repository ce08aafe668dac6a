//! What answers from the cache would have cost.

use crate::config::{Price, Prices};

/// Prices are per million tokens.
const TOKENS: f64 = 1e6;

/// The price table, in the order in which a model is looked for.
#[derive(Clone, Debug, Default)]
pub struct PriceTable {
    date: Option<String>,
    /// Whole names and beginnings, longest first: the most particular one wins.
    models: Vec<(Pattern, Price)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Pattern {
    Is(String),
    BeginsWith(String),
}

impl PriceTable {
    /// The configured table; `name*` is for all models that begin so.
    pub fn new(prices: &Prices) -> Self {
        let pattern = |name: &str| match name.strip_suffix('*') {
            Some(beginning) => Pattern::BeginsWith(beginning.to_owned()),
            None => Pattern::Is(name.to_owned()),
        };
        let mut models: Vec<_> =
            prices.models.iter().map(|(name, price)| (pattern(name), *price)).collect();
        models.sort_by_key(|(pattern, _)| match pattern {
            Pattern::Is(name) => (0, usize::MAX - name.len()),
            Pattern::BeginsWith(name) => (1, usize::MAX - name.len()),
        });
        Self { date: prices.date.clone(), models }
    }

    /// When the prices were looked up.
    pub(super) fn date(&self) -> Option<&str> {
        self.date.as_deref()
    }

    /// US dollars for so many tokens; `None` for a model without a price.
    pub(super) fn usd(&self, model: &str, prompt: u64, completion: u64) -> Option<f64> {
        let meant = |pattern: &Pattern| match pattern {
            Pattern::Is(name) => name == model,
            Pattern::BeginsWith(beginning) => model.starts_with(beginning.as_str()),
        };
        let (_, price) = self.models.iter().find(|(pattern, _)| meant(pattern))?;
        Some((prompt as f64 * price.input + completion as f64 * price.output) / TOKENS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_particular_price_wins() {
        let price = |input| Price { input, output: 10.0 * input };
        let models = [("llama-3.1-8b", 1.0), ("llama-*", 2.0), ("llama-3*", 3.0), ("*", 4.0)];
        let models = models.map(|(name, input)| (name.to_owned(), price(input))).into();
        let table = PriceTable::new(&Prices { date: None, models });
        for (model, input) in
            [("llama-3.1-8b", 1.0), ("llama-3.2", 3.0), ("llama-2", 2.0), ("gemma", 4.0)]
        {
            assert_eq!(table.usd(model, 1_000_000, 0), Some(input), "{model}");
        }
        let cost = table.usd("gemma", 500, 250).unwrap();
        assert!((cost - 0.012).abs() < 1e-12, "{cost}");
        assert_eq!(PriceTable::default().usd("gemma", 1, 1), None);
    }
}
