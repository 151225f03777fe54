//! `list_targets`

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::Host;
use super::super::call::Call;
use super::super::tool::{Hints, Tool};
use crate::fault::Fault;
use crate::run::view::TargetPage;

/// Where runs can run.
pub struct ListTargets;

/// Which of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Only targets that this backend can run on, e.g. `ssh`. Default: all.
    #[serde(default)]
    backend: Option<String>,
    /// Only targets with this tag. Default: all.
    #[serde(default)]
    tag: Option<String>,
}

impl Tool<Host> for ListTargets {
    const NAME: &'static str = "list_targets";
    const TITLE: &'static str = "List targets";
    const DESCRIPTION: &'static str = "List the targets (remote machines, SSH hosts, remote agents) that a run can be sent to, by name, with their tags and the backends that \
        can use them. Use it to find the `target`, `targets` or `target_tag` for spawn_run; most backends run on this machine and need none, \
        then use list_backends alone. The list is what the configuration names: an empty list means that there are none, and only a person can add \
        one. Answers at once, connects to nothing and changes nothing.";
    const HINTS: Hints = Hints::LOOK;
    type Request = Request;
    type Answer = TargetPage;

    async fn call(call: &Call<Host>, request: Request) -> Result<TargetPage, Fault> {
        let mut page = call.host.manager.targets().await;
        page.targets.retain(|target| {
            request.backend.as_ref().is_none_or(|backend| target.backends.contains(backend))
                && request.tag.as_ref().is_none_or(|tag| target.tags.contains(tag))
        });
        Ok(page)
    }
}
