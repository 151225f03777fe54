//! `list_runs`

use super::super::Host;
use super::super::answer;
use super::super::call::Call;
use super::super::tool::{Hints, Tool};
use crate::fault::Fault;
use crate::run::request::ListRequest;
use crate::run::view::RunPage;

/// Many runs.
pub struct ListRuns;

/// Runs in an answer, when its caller does not say.
const DEFAULT_LIMIT: u32 = 20;

impl Tool<Host> for ListRuns {
    const NAME: &'static str = "list_runs";
    const TITLE: &'static str = "List runs";
    const DESCRIPTION: &'static str = "List runs, newest first, live and ended, of this and of earlier clients and conversations. Use it to find a run again whose id you \
        lost, to see what is running, or to see the runs of a session, a group or a parent run; use get_run for everything about one run, \
        wait_runs to wait for some, list_agents for named sessions. Filters are combined with `and`. Answers at once and changes nothing. \
        Pages hold 20 runs unless you give limit (at most 200), fewer where 20 would be long; give next_cursor back as cursor for the next page, \
        until it is null. Runs are listed until their retention (30 days after the end by default) is over.";
    const HINTS: Hints = Hints::LOOK;
    type Request = ListRequest;
    type Answer = RunPage;

    async fn call(call: &Call<Host>, request: ListRequest) -> Result<RunPage, Fault> {
        let asked = request.limit;
        let request = ListRequest { limit: Some(asked.unwrap_or(DEFAULT_LIMIT)), ..request };
        let page = call.host.manager.list(request.clone()).await?;
        match (asked, fewer(page.runs.len(), answer::size(&page))) {
            (None, Some(limit)) => call.host.manager.list(ListRequest { limit: Some(limit), ..request }).await,
            _ => Ok(page),
        }
    }
}

/// How many of so many would be within the budget, if these are not.
pub(super) fn fewer(count: usize, size: usize) -> Option<u32> {
    if size <= answer::BUDGET {
        return None;
    }
    u32::try_from((count * answer::BUDGET / size).max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_shortened_to_the_budget_and_never_to_nothing() {
        assert_eq!(fewer(20, answer::BUDGET), None);
        assert_eq!(fewer(20, 2 * answer::BUDGET), Some(10));
        assert_eq!(fewer(1, 50 * answer::BUDGET), Some(1));
    }
}
