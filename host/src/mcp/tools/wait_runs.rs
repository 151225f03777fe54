//! `wait_runs`

use super::super::call::Call;
use super::super::tool::{Hints, Tool};
use super::super::{Host, answer, wait};
use crate::fault::Fault;
use crate::run::request::WaitRequest;
use crate::run::view::WaitPage;

/// Waits for runs.
pub struct WaitRuns;

impl Tool<Host> for WaitRuns {
    const NAME: &'static str = "wait_runs";
    const TITLE: &'static str = "Wait for runs";
    const DESCRIPTION: &'static str = "Wait until any or all of some runs end or need an answer: one call instead of many polls. Use it after spawn_run, when you have \
        nothing else to do; use poll_events to watch what one run prints, get_run to look without waiting. Takes run ids, session names and group \
        ids (at most 100). Waits 25 s unless you give wait_ms (at most 45000), and answers with the state of every run: `ready` true means ended, or \
        input_required or auth_required (then answer with continue_run). When the time is over the answer is `ready` false, no error: call it again. \
        Ending the call early ends the wait and never a run. Results are previews where they are long; get_run has more. Changes nothing.";
    const HINTS: Hints = Hints::LOOK;
    const MAIN: bool = true;
    type Request = WaitRequest;
    type Answer = WaitPage;

    fn lasts(request: &WaitRequest) -> bool {
        request.wait_ms != Some(0)
    }

    async fn call(call: &Call<Host>, request: WaitRequest) -> Result<WaitPage, Fault> {
        wait::for_runs(call, request).await.map(shortened)
    }
}

/// Many long results: each is cut to its share.
fn shortened(mut page: WaitPage) -> WaitPage {
    if answer::size(&page) <= answer::BUDGET {
        return page;
    }
    let share = (answer::BUDGET / (2 * page.runs.len().max(1))).max(80);
    for run in &mut page.runs {
        let Some(result) = &mut run.result else { continue };
        if let Some(text) = &mut result.text {
            *text = answer::cut(text, share, "get_run has more");
        }
        if answer::size(&result.structured) > share {
            result.structured = None;
            result.text.get_or_insert_with(|| "[the structured result is long; get_run has it]".to_owned());
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RunId;
    use crate::run::status::{Completion, Status};
    use crate::run::view::Waited;

    fn ended(text: &str) -> Waited {
        Waited {
            run_id: RunId::random(),
            target: None,
            status: Status::Completed,
            ready: true,
            last_seq: 9,
            summary: None,
            question: None,
            open_questions: 0,
            result: Some(Completion { text: Some(text.to_owned()), structured: None }),
            error: None,
        }
    }

    #[test]
    fn many_long_results_are_cut_and_say_so() {
        let page = WaitPage { ready: true, runs: (0..10).map(|_| ended(&"ü".repeat(5_000))).collect() };
        let page = shortened(page);
        assert!(answer::size(&page) < 2 * answer::BUDGET);
        assert!(page.runs.iter().all(|run| run.result.as_ref().unwrap().text.as_ref().unwrap().ends_with("[cut; get_run has more]")));
    }

    #[test]
    fn short_results_stay_as_they_are() {
        let page = WaitPage { ready: true, runs: vec![ended("done")] };
        assert_eq!(shortened(page.clone()), page);
    }
}
