//! `list_runs`, `list_backends`, `list_targets`.

use super::get::summary_of;
use crate::backend::{Backend, State, TestedProgram};
use crate::config::Target;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::id::RunId;
use crate::ledger::RunFilter;
use crate::run::manager::{Manager, view_of};
use crate::run::record::ledger_fault;
use crate::run::request::ListRequest;
use crate::run::view::{BackendPage, BackendView, ProgramView, RunPage, TargetPage, TargetView};

/// How many runs a page has when the caller does not say.
const PAGE: u32 = 20;

fn parse<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, Fault>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| Fault::new(code::INVALID_ARGUMENT, format!("`{what}`: {error}")))
}

impl Manager {
    /// `list_runs`
    pub async fn list(&self, request: ListRequest) -> Result<RunPage, Fault> {
        let limit = request.limit.unwrap_or(PAGE);
        let session = match &request.session {
            None => None,
            Some(text) => match text.parse() {
                Ok(id) => Some(id),
                Err(_) => {
                    let row = self.inner.ledger.session_named(text).map_err(|error| ledger_fault(&error))?;
                    Some(
                        row.ok_or_else(|| {
                            Fault::new(code::UNKNOWN_SESSION, format!("no session is called `{text}`")).hint("list_agents shows the names")
                        })?
                        .id,
                    )
                }
            },
        };
        let filter = RunFilter {
            status: request.status.unwrap_or_default().into_iter().map(|status| status.word().to_owned()).collect(),
            backend: request.backend,
            session,
            group: request.group_id.as_deref().map(|text| parse("group_id", text)).transpose()?,
            parent: request.parent_run_id.as_deref().map(|text| parse("parent_run_id", text)).transpose()?,
            cwd: request.cwd,
            before: request.cursor.as_deref().map(cursor).transpose()?,
            limit: limit + 1,
        };
        let mut rows = self.inner.ledger.runs(&filter).map_err(|error| ledger_fault(&error))?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next_cursor = if more { rows.last().map(|row| format!("{}.{}", row.created_at.0, row.id)) } else { None };
        let runs = rows
            .into_iter()
            .map(|row| {
                let name = self.name_of(row.session);
                let view = self.find_live(row.id).map_or_else(|| view_of(row), |live| live.view());
                summary_of(view, name)
            })
            .collect();
        Ok(RunPage { runs, next_cursor })
    }

    /// `list_backends`
    pub async fn backends(&self) -> BackendPage {
        let mut views = Vec::new();
        for backend in self.inner.registry.list().await {
            let (state, reason) = match &backend.state {
                State::Ready => ("ready", None),
                State::Disabled => ("disabled", None),
                State::Failed(fault) => ("failed", Some(fault.clone())),
            };
            let description = backend.description.as_ref();
            views.push(BackendView {
                name: backend.name.clone(),
                state: state.to_owned(),
                reason,
                source: backend.source.clone(),
                digest: (!backend.digest.is_empty()).then(|| backend.digest.clone()),
                title: description.map(|description| description.title.clone()),
                version: description.map(|description| description.version.clone()),
                description: description.map(|description| description.description.clone()),
                capabilities: description.map(|description| words(description.abilities)).unwrap_or_default(),
                config_schema: description.map(|description| description.config_schema.clone()),
                programs: description.map(|description| description.programs.iter().map(program).collect()).unwrap_or_default(),
            });
        }
        BackendPage { backends: views }
    }

    /// `list_targets`
    pub async fn targets(&self) -> TargetPage {
        let able = |backend: &Backend| {
            matches!(backend.state, State::Ready)
                && backend.description.as_ref().is_some_and(|description| description.abilities.contains(wit::Abilities::TARGETS))
        };
        let backends =
            self.inner.registry.list().await.iter().filter(|backend| able(backend)).map(|backend| backend.name.clone()).collect();
        target_page(self.policy().inventory().targets(), backends)
    }
}

fn program(program: &TestedProgram) -> ProgramView {
    ProgramView { name: program.name.clone(), tested_from: program.tested_from.to_string(), tested_to: program.tested_to.to_string() }
}

/// Names, tags and descriptions; where a machine is and who logs in there is nobody's business here.
fn target_page(targets: &[Target], backends: Vec<String>) -> TargetPage {
    let view = |target: &Target| TargetView {
        name: target.name.clone(),
        tags: target.tags.clone(),
        description: target.description.clone(),
        backends: backends.clone(),
    };
    let mut targets: Vec<TargetView> = targets.iter().map(view).collect();
    targets.sort_by(|one, other| one.name.cmp(&other.name));
    TargetPage { targets }
}

fn cursor(text: &str) -> Result<(i64, RunId), Fault> {
    let wrong = || {
        Fault::new(code::INVALID_ARGUMENT, "`cursor` is none that list_runs gave").hint("give `next_cursor` of the page before, unchanged")
    };
    let (time, id) = text.split_once('.').ok_or_else(wrong)?;
    Ok((time.parse().map_err(|_| wrong())?, id.parse().map_err(|_| wrong())?))
}

/// The words for what a backend can.
fn words(abilities: wit::Abilities) -> Vec<String> {
    [
        (wit::Abilities::RESUME, "resume"),
        (wit::Abilities::FORK_SESSION, "fork_session"),
        (wit::Abilities::STEER, "steer"),
        (wit::Abilities::ASK, "ask"),
        (wit::Abilities::STRUCTURED_OUTPUT, "structured_output"),
        (wit::Abilities::RECOVER, "recover"),
        (wit::Abilities::TARGETS, "targets"),
        (wit::Abilities::IMAGES, "images"),
        (wit::Abilities::FILES, "files"),
    ]
    .into_iter()
    .filter(|(flag, _)| abilities.contains(*flag))
    .map(|(_, word)| word.to_owned())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};

    #[test]
    fn targets_are_listed_by_name_without_what_leads_to_them() {
        let text = "[[targets]]\nname = 'web.2'\naddress = '203.0.113.99'\nuser = 'canary'\nidentity = '/canary/key'\ntags = ['b', 'a']\ndescription = 'the second'\n[[targets]]\nname = 'web.1'\n";
        let config = Config::parse(text, None, &Overrides::at_home("/home/u")).unwrap();
        let page = target_page(&config.targets, vec!["ssh".to_owned()]);
        assert_eq!(page.targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>(), ["web.1", "web.2"]);
        let two = &page.targets[1];
        assert_eq!((two.tags.as_slice(), two.description.as_deref()), (&["b".to_owned(), "a".to_owned()][..], Some("the second")));
        assert_eq!(two.backends, ["ssh"]);
        let json = serde_json::to_string(&page).unwrap();
        assert!(!json.contains("203.0.113.99") && !json.contains("canary"), "{json}");
    }
}
