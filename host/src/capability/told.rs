//! What a component was allowed and what it was refused, for the run's history.
//!
//! Told in the order in which it was decided, before the component hears of it; whoever drives the run writes it. A component
//! that asks for the forbidden without end is told of [`REFUSALS_TOLD`] times; after that only the number grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Redactor;
use crate::contract::falconer::backend::types::{FarCommand, FarWords};

/// Refusals of one run that are told one by one.
pub const REFUSALS_TOLD: u64 = 100;
/// What is shown of the words of a command, in bytes.
pub const WORDS_SHOWN: usize = 4 * 1024;

/// Something that a component asked for when it started a program, and the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The name of the program in the grant.
    pub program: String,
    /// What was to be executed, secrets hidden: `{ program, args }`, or for the far end as in [`shown_far`].
    pub command: Value,
    /// The answer.
    pub verdict: Verdict,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A command for the far end was allowed.
    Allowed {
        /// The rule that says so.
        rule: String,
        /// The address that was judged, where it is known.
        address: Option<String>,
    },
    /// The start was refused by the grant of the program, its environment or its directory.
    SpawnRefused(String),
    /// The command for the far end was refused.
    CommandRefused(String),
}

/// Who tells. Cheap to clone; the default tells nobody.
#[derive(Debug, Clone, Default)]
pub struct Teller {
    to: Option<mpsc::UnboundedSender<Told>>,
    refusals: Arc<AtomicU64>,
}

/// Who hears.
#[derive(Debug)]
pub struct Hearing {
    from: mpsc::UnboundedReceiver<Told>,
    refusals: Arc<AtomicU64>,
}

/// A pair.
#[must_use]
pub fn telling() -> (Teller, Hearing) {
    let (to, from) = mpsc::unbounded_channel();
    let refusals = Arc::new(AtomicU64::new(0));
    (Teller { to: Some(to), refusals: Arc::clone(&refusals) }, Hearing { from, refusals })
}

impl Teller {
    pub(super) fn tell(&self, told: impl FnOnce() -> Told, is_refusal: bool) {
        if is_refusal && self.refusals.fetch_add(1, Ordering::Relaxed) >= REFUSALS_TOLD {
            return;
        }
        if let Some(to) = &self.to {
            // Who does not hear any more has written the run's end.
            let _ = to.send(told());
        }
    }
}

impl Hearing {
    /// What was told and not heard yet, oldest first; does not wait.
    pub fn take(&mut self) -> Option<Told> {
        self.from.try_recv().ok()
    }

    /// How many refusals were not told.
    #[must_use]
    pub fn untold(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed).saturating_sub(REFUSALS_TOLD)
    }
}

/// A command for the far end as it is shown: `{ args | shell, cwd, env }`, of the environment only the names.
#[must_use]
pub fn shown_far(command: &FarCommand) -> Value {
    let env: Vec<&String> = command.env.iter().map(|(name, _)| name).collect();
    match &command.words {
        FarWords::Args(args) => json!({ "args": args, "cwd": command.cwd, "env": env }),
        FarWords::Shell(line) => json!({ "shell": line, "cwd": command.cwd, "env": env }),
    }
}

/// Hides secrets and cuts what is long, for the record.
#[must_use]
pub fn for_the_record(mut shown: Value, secrets: Option<&Redactor>) -> Value {
    let mut room = WORDS_SHOWN;
    trim(&mut shown, secrets, &mut room);
    shown
}

fn trim(value: &mut Value, secrets: Option<&Redactor>, room: &mut usize) {
    match value {
        Value::String(text) => {
            if let Some(secrets) = secrets {
                *text = String::from_utf8_lossy(&secrets.whole(text.as_bytes())).into_owned();
            }
            if text.len() > *room {
                let whole = text.len();
                text.truncate(text.floor_char_boundary(*room));
                text.push_str(&format!("… ({whole} bytes)"));
            }
            // A word takes some room of its own, so that many short ones are cut too.
            *room = room.saturating_sub(text.len() + 4);
        }
        Value::Array(items) => {
            let whole = items.len();
            let mut kept = 0;
            for item in items.iter_mut() {
                if *room == 0 {
                    break;
                }
                trim(item, secrets, room);
                kept += 1;
            }
            if kept < whole {
                items.truncate(kept);
                items.push(format!("… ({whole} in all)").into());
            }
        }
        Value::Object(map) => map.values_mut().for_each(|value| trim(value, secrets, room)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(n: u64) -> Told {
        Told { program: n.to_string(), command: Value::Null, verdict: Verdict::SpawnRefused("no".into()) }
    }

    #[test]
    fn refusals_are_told_up_to_a_number_and_then_counted() {
        let (teller, mut hearing) = telling();
        for n in 0..REFUSALS_TOLD + 7 {
            teller.tell(|| told(n), true);
        }
        teller.tell(|| told(1_000), false);
        let heard: Vec<String> = std::iter::from_fn(|| hearing.take()).map(|told| told.program).collect();
        assert_eq!((heard.len() as u64, heard.last().map(String::as_str)), (REFUSALS_TOLD + 1, Some("1000")));
        assert_eq!(hearing.untold(), 7);
        Teller::default().tell(|| told(0), true);
    }

    #[test]
    fn what_is_recorded_is_short_and_without_secrets() {
        let secrets = Redactor::default();
        secrets.hide(b"canary-canary");
        let value = for_the_record(json!({ "args": ["x", "--token=canary-canary"], "cwd": null }), Some(&secrets));
        assert!(!value.to_string().contains("canary"), "{value}");
        let long = for_the_record(json!({ "args": vec!["ä".repeat(3_000); 3], "shell": "z".repeat(10_000) }), None).to_string();
        assert!(long.len() < WORDS_SHOWN + 500, "{}", long.len());
        let many = for_the_record(json!({ "args": vec![""; 4_000] }), None);
        assert_eq!(many["args"].as_array().unwrap().last().unwrap(), "… (4000 in all)");
    }
}
