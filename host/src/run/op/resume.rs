//! After a restart: a run that an earlier host left with a checkpoint is taken up again, as the same run in another life.
//!
//! Its job is made anew from the request in the ledger, under the configuration of today: what is not allowed any more ends it
//! with that reason. The values of its client's environment were in the memory of the earlier host alone; it gets those that clients
//! of this one bring. Which files came with its message is in the ledger, as artifacts of its first event.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use super::file::path_of;
use super::message::message_of;
use super::spawn::Accepted;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::id::{RunId, SessionId};
use crate::ledger::{ArtifactRow, Op, RunRow, SessionRow};
use crate::run::bookmark::Bookmark;
use crate::run::event::EventType;
use crate::run::live::{Live, StopWish};
use crate::run::manager::{Caller, Manager, view_of};
use crate::run::receipt::{Cause, Receipt};
use crate::run::record::{Quota, Record, ledger_fault};
use crate::run::request::{MessagePart, PartKind, SpawnRequest};
use crate::run::revive::Resumed;
use crate::run::status::{State, Status};
use crate::run::supervisor::Finish;
use crate::tree::forget_leftovers;

/// Events that are looked at in one go.
const PAGE: u32 = 1_000;

/// Where the file of a part of a run's message is noted.
fn pointer(part: usize) -> String {
    format!("/message/parts/{part}")
}

/// Notes the files that came with a run's message, so that it can be taken up again.
pub(super) fn files_of(job: &wit::Job, run: RunId) -> Option<Op> {
    let rows: Vec<ArtifactRow> = job
        .message
        .iter()
        .enumerate()
        .filter_map(|(at, part)| match part {
            wit::Part::File(file) => {
                Some(ArtifactRow { run, seq: 1, pointer: pointer(at), sha256: file.id.clone(), size: file.size, mime: file.mime.clone() })
            }
            wit::Part::Text(_) | wit::Part::Data(_) => None,
        })
        .collect();
    (!rows.is_empty()).then_some(Op::PutArtifacts(rows))
}

impl Manager {
    /// What an unfinished run goes on from; none: nothing, and it is lost.
    pub(super) fn kept(&self, run: RunId) -> Option<(Bookmark, Vec<u8>)> {
        let kept = self.inner.ledger.checkpoint(run).ok().flatten()?;
        let (mut bookmark, checkpoint) = Bookmark::split(&kept)?;
        loop {
            let page = self.inner.ledger.events(run, bookmark.seq, PAGE, u64::MAX, &[]).ok()?;
            if page.is_empty() {
                return Some((bookmark, checkpoint));
            }
            page.iter().for_each(|event| bookmark.pass(event));
        }
    }

    /// Judges a run again that is to go on. None: its backend takes nothing up, or was at fault already.
    pub(super) async fn judge_again(&self, row: &RunRow, bookmark: Bookmark, checkpoint: Vec<u8>) -> Result<Option<Accepted>, Fault> {
        let Some((state, owed)) = was(row) else { return Ok(None) };
        let mut request: SpawnRequest =
            serde_json::from_str(&row.request).map_err(|error| Fault::new(code::INTERNAL, format!("its request: {error}")))?;
        let (message, inputs) = self.message_again(row, &request)?;
        let session = self.session(row.session).ok_or_else(|| Fault::new(code::INTERNAL, "its session is gone"))?;
        let prior = self.prior_again(&request)?;
        // At a target it is the client's own, which is given below; nobody asked for it.
        if row.target.is_none() {
            request.cwd.clone_from(&row.cwd);
        }
        request.target.clone_from(&row.target);
        (request.prompt, request.message) = (None, None);
        (request.targets, request.target_tag, request.name) = (None, None, None);
        (request.session_id, request.fork) = (None, None);
        let mut accepted = self.accept(&Caller::default(), request, row.cwd.as_deref().map(Utf8Path::new)).await?;
        let can = accepted.backend.description.as_ref().is_some_and(|said| said.abilities.contains(wit::Abilities::RECOVER));
        if !can {
            return Ok(None);
        }
        let job = &mut accepted.job;
        job.run_id = row.id.to_string();
        job.life = row.life.saturating_add(1);
        (job.message, job.session, job.checkpoint) = (message, prior, Some(checkpoint));
        (accepted.inputs, accepted.session) = (inputs, session);
        // It was judged as a run of its own, and is this one.
        (accepted.matter.run, accepted.matter.parent) = (Some(row.id), row.parent);
        accepted.matter.caller = "host".into();
        for decision in &mut accepted.decisions {
            (decision.run, decision.parent) = (Some(row.id), row.parent);
            decision.caller.clone_from(&accepted.matter.caller);
        }
        let mut resumed = Resumed { state, bookmark, started_at: row.started_at, owed };
        if let Some(id) = row.parent {
            accepted.parent = self.find_live(id).filter(|parent| !matches!(parent.progress().status, Status::Cancelling));
            if accepted.parent.is_none() && resumed.owed.is_none() {
                let reason = Some(format!("its parent {id} does not go on"));
                resumed.owed = Some(Finish::Wish(StopWish { by: id.to_string(), cause: Cause::Parent, reason, grace: None }));
            }
        }
        accepted.resumed = Some(resumed);
        Ok(Some(accepted))
    }

    /// The message as it was taken, its files by their content.
    fn message_again(&self, row: &RunRow, request: &SpawnRequest) -> Result<(Vec<wit::Part>, BTreeMap<String, Utf8PathBuf>), Fault> {
        let mut inputs = BTreeMap::new();
        let mut parts = Vec::new();
        for (at, part) in message_of(request.prompt.as_deref(), request.message.as_ref())?.parts.into_iter().enumerate() {
            parts.push(match part.kind {
                PartKind::Text => wit::Part::Text(part.text.unwrap_or_default()),
                PartKind::Data => wit::Part::Data(part.data.unwrap_or_default().to_string()),
                PartKind::File => {
                    let kept = self.inner.ledger.artifact(row.id, 1, &pointer(at)).map_err(|error| ledger_fault(&error))?;
                    let found = kept.and_then(|kept| Some((self.inner.artifacts.path(&kept.sha256)?, kept)));
                    let (path, kept) =
                        found.ok_or_else(|| Fault::new(code::FILE_NOT_FOUND, format!("the file of part {at} of its message is gone")))?;
                    inputs.insert(kept.sha256.clone(), path);
                    wit::Part::File(wit::BlobRef { id: kept.sha256, size: kept.size, mime: kept.mime, file_name: name_of(&part) })
                }
            });
        }
        Ok((parts, inputs))
    }

    fn prior_again(&self, request: &SpawnRequest) -> Result<Option<wit::PriorSession>, Fault> {
        let Some(id) = request.session_id.as_deref().and_then(|text| text.parse::<SessionId>().ok()) else { return Ok(None) };
        let known: Option<SessionRow> = self.inner.ledger.session(id).map_err(|error| ledger_fault(&error))?;
        let native_id = known.and_then(|session| session.native_id).unwrap_or_default();
        Ok(Some(wit::PriorSession { id: id.to_string(), native_id, fork: request.fork.unwrap_or(false) }))
    }

    /// Writes that the run goes on, then lets it. Only what is proven to have left nothing here comes to this. Gives whether it goes on.
    pub(super) async fn take_up(&self, mut row: RunRow, accepted: Accepted) -> bool {
        let (run, old, life) = (row.id, row.digest.clone(), accepted.job.life);
        let digest = accepted.backend.digest.clone();
        let outline = view_of(row.clone()).outline;
        row.digest.clone_from(&digest);
        let (live, ear) = Live::new(row);
        live.publish(|seen| seen.outline = outline);
        let quota = Quota { events: u64::MAX, bytes: u64::MAX };
        let mut record = Record::new(live.clone(), self.inner.ledger.clone(), self.inner.artifacts.clone(), quota);
        if let Some(resumed) = &accepted.resumed {
            record.go_on(before(&live, &resumed.state), &resumed.bookmark);
        }
        record.begin_life(life);
        let mut message = format!("the host was restarted; the run goes on (life {life})");
        if old != digest {
            record.with(Op::PutDigest { run, digest });
            message.push_str(", by another build of its backend");
        }
        let notice = json!({ "severity": "warning", "code": "recovered", "message": message });
        record.with(Op::PutDecisions(accepted.decisions.clone()));
        let told = record.event(EventType::Notice, notice).await;
        record.withdraw_questions("the host was restarted; what is still to be known is asked again");
        if matches!(record.state(), State::Waiting { .. }) {
            record.enter(State::Running, serde_json::Map::new());
        }
        record.proven_so_far();
        // In the list before it is on disk: whoever finds its row finds it alive.
        self.enlist(&live);
        record.submit().await;
        if let Err(fault) = told.and(record.settled().await) {
            tracing::error!(%run, %fault, "a run cannot be taken up again");
            self.strike(run);
            return false;
        }
        forget_leftovers(&self.inner.ground, run);
        tracing::info!(%run, life, "takes up a run of an earlier host");
        self.launch(&Caller::default(), accepted, live, ear, None).await;
        true
    }
}

/// As it was before its questions are taken back.
fn before(live: &Live, state: &State) -> State {
    let open = live.view().outline.questions;
    if matches!(state, State::Running) && !open.is_empty() { State::Waiting { open } } else { state.clone() }
}

/// What a run is when it is taken up, and why it is to be stopped, if it is. None: it is to be told lost.
fn was(row: &RunRow) -> Option<(State, Option<Finish>)> {
    let outline = view_of(row.clone()).outline;
    match Status::from_word(&row.status)? {
        Status::Starting => Some((State::Starting, None)),
        Status::Running | Status::InputRequired | Status::AuthRequired => Some((State::Running, None)),
        Status::Cancelling => {
            let receipt = outline.receipt.unwrap_or_else(|| Receipt::begun("host", Cause::Recovery, None));
            let Receipt { asked_by: by, cause, reason, .. } = receipt.clone();
            let owed = match cause {
                Cause::Requested | Cause::Parent | Cause::Group | Cause::Shutdown => {
                    Finish::Wish(StopWish { by, cause, reason, grace: None })
                }
                Cause::Deadline | Cause::Idle | Cause::Limit | Cause::Ledger => {
                    let reason = reason.unwrap_or_else(|| "the run was being stopped".into());
                    Finish::Fault(cause, outline.stopping.unwrap_or_else(|| Fault::new(code::HOST_LOST, reason)))
                }
                Cause::Component | Cause::Finished | Cause::Recovery | Cause::Defect => return None,
            };
            Some((State::Cancelling { receipt }, Some(owed)))
        }
        _ => None,
    }
}

/// The name of a file, as its part gives it.
fn name_of(part: &MessagePart) -> Option<String> {
    let last = |path: &Utf8Path| path.file_name().map(str::to_owned);
    match (&part.name, &part.uri) {
        (Some(name), _) => last(Utf8Path::new(name)),
        (None, Some(uri)) => path_of(uri).ok().and_then(|path| last(&path)),
        (None, None) => None,
    }
}
