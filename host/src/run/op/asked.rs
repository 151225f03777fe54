//! How questions were closed that memory does not know any more: by the events of their run.

use crate::fault::{Fault, code};
use crate::id::RunId;
use crate::run::event::{Closed, EventType};
use crate::run::manager::Manager;
use crate::run::question::unknown;
use crate::run::record::ledger_fault;

/// Events that are looked at in one go.
const PAGE: u32 = 1_000;

impl Manager {
    /// Why an answer to this question of this run cannot be taken. `said` is what its supervisor says, where it has one.
    pub(super) fn why_not(&self, run: RunId, question: &str, said: Option<Fault>) -> Fault {
        if let Some(fault) = &said
            && ![code::UNKNOWN_QUESTION, code::RUN_ENDED].contains(&fault.code.as_ref())
        {
            return fault.clone();
        }
        match self.closed(run, question) {
            Ok(Some(how)) => how.refusal(question),
            Ok(None) => said.filter(|fault| fault.code == code::RUN_ENDED).unwrap_or_else(|| unknown(question)),
            Err(fault) => fault,
        }
    }

    /// How a question of this run was closed the last time.
    fn closed(&self, run: RunId, question: &str) -> Result<Option<Closed>, Fault> {
        let mut last = None;
        let mut after = 0;
        loop {
            let words = [EventType::InputResolved.word()];
            let page = self.inner.ledger.events(run, after, PAGE, u64::MAX, &words).map_err(|error| ledger_fault(&error))?;
            let Some(end) = page.last() else { return Ok(last) };
            after = end.seq;
            for event in page {
                let data: serde_json::Value = serde_json::from_str(&event.data).unwrap_or_default();
                if data["question_id"] == question {
                    last = serde_json::from_value(data["how"].clone()).ok().or(last);
                }
            }
        }
    }
}
