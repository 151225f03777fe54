//! `list_backends`

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::Host;
use super::super::answer;
use super::super::call::Call;
use super::super::tool::{Hints, Tool};
use crate::fault::{Fault, code};
use crate::run::view::BackendPage;

/// Which backends there are.
pub struct ListBackends;

/// Which of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Only this backend, e.g. `exec`. Default: all.
    #[serde(default)]
    backend: Option<String>,
}

impl Tool<Host> for ListBackends {
    const NAME: &'static str = "list_backends";
    const TITLE: &'static str = "List backends";
    const DESCRIPTION: &'static str = "List the backends (kinds of jobs: coding agents such as Claude, commands, other plugins) with state, version, capabilities and the JSON \
        Schema of their config. Use it before the first spawn_run of a conversation to learn which backend does what and what its config takes; use \
        plan_run to learn whether one certain job is allowed, list_targets for machines to run on. state is ready, disabled (by the configuration) \
        or failed (reason says why); only ready ones can be used. capabilities name what a run can: resume, steer, ask and so on; programs, which \
        versions of them it was tested with. \
        config_schema is left out (null) where all of them together would be long: ask again with `backend`. Answers at once, looks at the \
        plugins directory again, starts nothing.";
    const HINTS: Hints = Hints::LOOK;
    type Request = Request;
    type Answer = BackendPage;

    async fn call(call: &Call<Host>, request: Request) -> Result<BackendPage, Fault> {
        let page = call.host.manager.backends().await;
        chosen(page, request.backend.as_deref())
    }
}

fn chosen(mut page: BackendPage, only: Option<&str>) -> Result<BackendPage, Fault> {
    match only {
        Some(name) => {
            let names: Vec<String> = page.backends.iter().map(|backend| backend.name.clone()).collect();
            page.backends.retain(|backend| backend.name == name);
            if page.backends.is_empty() {
                return Err(Fault::new(code::UNKNOWN_BACKEND, format!("no backend is called `{name}`"))
                    .hint(format!("there are: {}", names.join(", "))));
            }
        }
        None if answer::size(&page) > answer::BUDGET => page.backends.iter_mut().for_each(|backend| backend.config_schema = None),
        None => {}
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::run::view::BackendView;

    fn page(schema_size: usize) -> BackendPage {
        let backend = |name: &str| BackendView {
            name: name.to_owned(),
            state: "ready".to_owned(),
            reason: None,
            source: "bundled".to_owned(),
            digest: None,
            title: None,
            version: None,
            description: None,
            capabilities: Vec::new(),
            config_schema: Some(json!({ "description": "x".repeat(schema_size) })),
            programs: Vec::new(),
        };
        BackendPage { backends: vec![backend("claude"), backend("exec")] }
    }

    #[test]
    fn long_schemas_come_one_at_a_time() {
        assert!(chosen(page(10), None).unwrap().backends.iter().all(|backend| backend.config_schema.is_some()));
        assert!(chosen(page(9_000), None).unwrap().backends.iter().all(|backend| backend.config_schema.is_none()));
        let one = chosen(page(9_000), Some("exec")).unwrap().backends;
        assert!(one.len() == 1 && one.iter().all(|backend| backend.config_schema.is_some()));
    }

    #[test]
    fn an_unknown_backend_is_answered_with_those_there_are() {
        let fault = chosen(page(10), Some("codex")).unwrap_err();
        assert_eq!((fault.code.as_ref(), fault.hint.as_deref()), (code::UNKNOWN_BACKEND, Some("there are: claude, exec")));
    }
}
