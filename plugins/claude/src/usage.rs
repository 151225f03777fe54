//! Tokens and cost since the run began.
//!
//! `total_cost_usd` and `modelUsage` of a result are running totals that a resumed session starts at what it had before,
//! so only `model_usage_since_last_result` is added up; a version without it tells tokens of the main loop, and the cost
//! only where the session is new.

use std::collections::BTreeMap;

use falconer_backend::Usage;
use serde_json::{Value, json};

use crate::incoming::{Tokens, TurnResult};

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sum {
    input: u64,
    cached: u64,
    output: u64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.input += other.input;
        self.cached += other.cached;
        self.output += other.output;
    }
}

impl From<Tokens> for Sum {
    fn from(tokens: Tokens) -> Self {
        Self {
            input: tokens.input_tokens + tokens.cache_creation_input_tokens,
            cached: tokens.cache_read_input_tokens,
            output: tokens.output_tokens,
        }
    }
}

/// The account of one run.
#[derive(Debug)]
pub struct Account {
    /// Of the turns that ended.
    settled: Sum,
    /// Of the messages since the last result; the result corrects it.
    live: Sum,
    turns: u32,
    /// Messages that the main agent's model began since the last result.
    begun: u32,
    /// In US dollars; none when it cannot be known.
    cost: Option<f64>,
    /// `total_cost_usd` as it stood at the last result; none at the start of a session that began before.
    last_total: Option<f64>,
    models: BTreeMap<String, (Sum, f64)>,
}

impl Account {
    /// An empty one. `continued`: the session is older than the run.
    pub fn new(continued: bool) -> Self {
        Self {
            settled: Sum::default(),
            live: Sum::default(),
            turns: 0,
            begun: 0,
            cost: Some(0.0),
            last_total: (!continued).then_some(0.0),
            models: BTreeMap::new(),
        }
    }

    /// The main agent's model begins a message.
    pub const fn message_began(&mut self) {
        self.begun = self.begun.saturating_add(1);
    }

    /// One message of the model is whole.
    pub fn message(&mut self, tokens: Tokens) {
        self.live.add(tokens.into());
    }

    /// A turn ended.
    pub fn settle(&mut self, result: &TurnResult) {
        // In a turn that was cut short the program also counts what it notes about the cut.
        let turns = if result.is_cut() { result.num_turns.min(self.begun) } else { result.num_turns };
        self.turns = self.turns.saturating_add(turns);
        self.begun = 0;
        self.live = Sum::default();
        match &result.model_usage_since_last_result {
            Some(models) => {
                for (model, usage) in models {
                    let count = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
                    let sum = Sum {
                        input: count("inputTokens") + count("cacheCreationInputTokens"),
                        cached: count("cacheReadInputTokens"),
                        output: count("outputTokens"),
                    };
                    let cost = usage.get("costUSD").and_then(Value::as_f64).unwrap_or(0.0);
                    self.settled.add(sum);
                    self.cost = self.cost.map(|all| all + cost);
                    let entry = self.models.entry(model.clone()).or_default();
                    entry.0.add(sum);
                    entry.1 += cost;
                }
            }
            None => {
                self.settled.add(result.usage.into());
                let since = result.total_cost_usd.zip(self.last_total).map(|(now, before)| (now - before).max(0.0));
                self.cost = self.cost.zip(since).map(|(all, since)| all + since);
            }
        }
        self.last_total = result.total_cost_usd.or(self.last_total);
    }

    /// Turns of the model, up to the last result.
    pub const fn turns(&self) -> u32 {
        self.turns
    }

    /// As it stands.
    pub fn usage(&self) -> Usage {
        let mut all = self.settled;
        all.add(self.live);
        let models: BTreeMap<&String, Value> = self
            .models
            .iter()
            .map(|(model, (sum, cost))| {
                let row = json!({ "input_tokens": sum.input, "cached_tokens": sum.cached, "output_tokens": sum.output, "cost_usd": cost });
                (model, row)
            })
            .collect();
        Usage {
            input_tokens: all.input,
            cached_tokens: all.cached,
            output_tokens: all.output,
            turns: self.turns,
            // Not known before the turn's result.
            cost_microdollars: self.cost.filter(|_| self.live == Sum::default()).map(|cost| (cost * 1e6).round() as u64),
            detail: (!models.is_empty()).then(|| json!({ "models": models }).to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_counted() {
        let result = |total: f64| TurnResult {
            num_turns: 2,
            total_cost_usd: Some(total),
            usage: Tokens { input_tokens: 10, output_tokens: 3, ..Tokens::default() },
            ..TurnResult::default()
        };
        let mut new = Account::new(false);
        new.message(Tokens { input_tokens: 7, cache_read_input_tokens: 2, ..Tokens::default() });
        assert_eq!((new.usage().input_tokens, new.usage().cached_tokens, new.usage().cost_microdollars), (7, 2, None));
        new.settle(&result(0.5));
        new.settle(&result(0.75));
        let usage = new.usage();
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.turns, usage.cost_microdollars), (20, 6, 4, Some(750_000)));

        let mut continued = Account::new(true);
        continued.settle(&result(3.5));
        assert_eq!(continued.usage().cost_microdollars, None);

        let cut = || TurnResult { num_turns: 3, terminal_reason: Some("aborted_tools".to_owned()), ..TurnResult::default() };
        new.message_began();
        new.settle(&cut());
        assert_eq!(new.usage().turns, 5, "one message");
        new.settle(&cut());
        assert_eq!(new.usage().turns, 5, "none");

        let delta =
            json!({"m": {"inputTokens": 5, "cacheCreationInputTokens": 1, "cacheReadInputTokens": 4, "outputTokens": 2, "costUSD": 0.25}});
        let mut continued = Account::new(true);
        continued.settle(&TurnResult { model_usage_since_last_result: delta.as_object().cloned(), ..result(9.0) });
        let usage = continued.usage();
        assert_eq!((usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.cost_microdollars), (6, 4, 2, Some(250_000)));
    }
}
