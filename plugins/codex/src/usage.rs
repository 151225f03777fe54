//! Tokens since the run began.
//!
//! Codex tells the total of a thread, which a resumed or forked one starts at what it had before, and what the last request took.
//! So only what a total grows by is counted, and the first one of a thread that is not known counts its last request.

use std::collections::BTreeMap;

use falconer_backend::Usage;
use serde_json::{Value, json};

/// Threads whose totals are kept; beyond it the first is forgotten, and counted by its last request when it comes again.
const MAX_THREADS: usize = 256;

/// `total` or `last` of `tokenUsage`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// With what came from a cache.
    pub input: u64,
    pub cached: u64,
    pub output: u64,
    /// Part of the output.
    pub reasoning: u64,
}

impl Tokens {
    /// Reads one; what is missing is nothing.
    pub fn read(value: &Value) -> Self {
        let count = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
        Self {
            input: count("inputTokens"),
            cached: count("cachedInputTokens"),
            output: count("outputTokens"),
            reasoning: count("reasoningOutputTokens"),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            input: self.input.saturating_sub(before.input),
            cached: self.cached.saturating_sub(before.cached),
            output: self.output.saturating_sub(before.output),
            reasoning: self.reasoning.saturating_sub(before.reasoning),
        }
    }
}

/// The account of one run, with its subagents.
#[derive(Debug, Default)]
pub struct Account {
    totals: BTreeMap<String, Tokens>,
    sum: Tokens,
    /// Requests to the model.
    turns: u32,
}

impl Account {
    /// A thread told its totals. `own`: in a turn of this run. Whether that is news.
    pub fn told(&mut self, thread: &str, own: bool, total: Tokens, last: Tokens) -> bool {
        let before = match self.totals.get(thread) {
            Some(before) => *before,
            // What a thread had before this run.
            None if !own => total,
            None => total.since(last),
        };
        if self.totals.len() >= MAX_THREADS && !self.totals.contains_key(thread) {
            self.totals.pop_first();
        }
        self.totals.insert(thread.to_owned(), total);
        let grown = total.since(before);
        if grown == Tokens::default() {
            return false;
        }
        self.sum.input += grown.input;
        self.sum.cached += grown.cached;
        self.sum.output += grown.output;
        self.sum.reasoning += grown.reasoning;
        self.turns = self.turns.saturating_add(1);
        true
    }

    /// Requests to the model.
    pub const fn turns(&self) -> u32 {
        self.turns
    }

    /// Input that is not from a cache, and output.
    pub const fn spent(&self) -> u64 {
        self.sum.input.saturating_sub(self.sum.cached).saturating_add(self.sum.output)
    }

    /// As it stands. Codex knows no cost.
    pub fn usage(&self) -> Usage {
        Usage {
            input_tokens: self.sum.input.saturating_sub(self.sum.cached),
            cached_tokens: self.sum.cached,
            output_tokens: self.sum.output,
            turns: self.turns,
            cost_microdollars: None,
            detail: Some(json!({ "reasoning_tokens": self.sum.reasoning }).to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(input: u64, cached: u64, output: u64) -> Tokens {
        Tokens { input, cached, output, reasoning: 0 }
    }

    #[test]
    fn only_what_is_new_is_counted() {
        let mut new = Account::default();
        assert!(new.told("t", true, tokens(100, 40, 5), tokens(100, 40, 5)));
        assert!(!new.told("t", true, tokens(100, 40, 5), tokens(100, 40, 5)));
        assert!(new.told("t", true, tokens(300, 140, 9), tokens(200, 100, 4)));
        let usage = new.usage();
        assert_eq!((usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.turns), (160, 140, 9, 2));
        assert_eq!(new.spent(), 169);

        // A resumed thread tells its total before its first turn, a forked one does not.
        for told in [true, false] {
            let mut continued = Account::default();
            if told {
                assert!(!continued.told("t", false, tokens(1000, 0, 50), tokens(500, 0, 20)));
            }
            assert!(continued.told("t", true, tokens(1600, 100, 57), tokens(600, 100, 7)));
            let usage = continued.usage();
            assert_eq!((usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.turns), (500, 100, 7, 1));
        }
    }

    #[test]
    fn subagents_count_and_are_bounded() {
        let mut account = Account::default();
        for n in 0..10_000u64 {
            account.told(&format!("t{n}"), true, tokens(2, 0, 1), tokens(2, 0, 1));
        }
        assert_eq!((account.spent(), account.turns()), (30_000, 10_000));
        assert_eq!(account.totals.len(), MAX_THREADS);
    }
}
