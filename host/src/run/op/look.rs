//! A later look: what a lost run may have left at its far end is asked for again, by whoever cancels it.
//!
//! The backend is given the run once more, only to end what there is of it ([`crate::contract`]: `job.only-end`). The run stays as it
//! ended, and its history too; what the far end says goes into the receipt. Where nobody answers again, the receipt stays as it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::backend::{Backend, Instance, Made, State};
use crate::capability::told::telling;
use crate::capability::{ClientEnv, Host, Inputs, RunLog, Sealed, Setup};
use crate::clock::Millis;
use crate::contract::falconer::backend::types as wit;
use crate::far::Remote;
use crate::fault::{Fault, code};
use crate::ledger::{Op, RunRow, RunUpdate};
use crate::policy::command::Permitted;
use crate::run::manager::{Caller, Found, Manager, view_of};
use crate::run::planned::OnlyPlanned;
use crate::run::receipt::{FarEnd, Proof};
use crate::run::request::SpawnRequest;
use crate::run::status::Status;
use crate::tree::{Tree, Verdict};

/// How long a far end is given to answer. With what follows it stays below the time in which `cancel_run` answers.
const ANSWER: Duration = Duration::from_secs(25);

impl Manager {
    /// Looks again where that may tell more. What is found is on disk when this answers.
    pub(super) async fn look_again(&self, caller: &Caller, found: Found) -> Found {
        let Found::Ended(row) = found else { return found };
        if !is_unconfirmed(&row) {
            return Found::Ended(row);
        }
        // Two looks at a time would answer for each other.
        let line = self.line(row.session);
        let _only = line.lock().await;
        let run = row.id;
        match self.ask_far_end(caller, &row).await {
            Ok(Some(far)) if far.state == "confirmed" => match self.write_down(&row, far).await {
                Ok(row) => Found::Ended(Box::new(row)),
                Err(fault) => {
                    tracing::error!(%run, %fault, "what a later look found is not on disk");
                    Found::Ended(row)
                }
            },
            Ok(far) => {
                tracing::info!(%run, state = far.map(|far| far.state), "a later look confirmed nothing");
                Found::Ended(row)
            }
            Err(fault) => {
                tracing::info!(%run, %fault, "there was no later look");
                Found::Ended(row)
            }
        }
    }

    async fn ask_far_end(&self, caller: &Caller, row: &RunRow) -> Result<Option<FarEnd>, Fault> {
        let backend = self.inner.registry.get(&row.backend).await?;
        if !matches!(backend.state, State::Ready) {
            return Ok(None);
        }
        let tree = Tree::new(row.id, self.inner.ground.clone());
        let asked = self.ask_over(caller, row, backend, tree.clone()).await;
        tree.kill().await;
        if !matches!(tree.prove(self.policy().config().stop.prove).await, Verdict::Unverified { .. }) {
            tree.forget().await;
        }
        asked
    }

    /// Gives the backend its run once more, until it says what there is.
    async fn ask_over(&self, caller: &Caller, row: &RunRow, backend: Arc<Backend>, tree: Tree) -> Result<Option<FarEnd>, Fault> {
        let policy = self.policy();
        let request: SpawnRequest =
            serde_json::from_str(&row.request).map_err(|error| Fault::new(code::INTERNAL, format!("its request: {error}")))?;
        let Some(name) = &row.target else { return Ok(None) };
        let target = policy.inventory().target(name)?;
        let config = policy.config_of_run(&row.backend, request.config.as_ref())?;
        let limits = policy.config().backend(&row.backend).limits.clone();
        let log = RunLog::open(&self.inner.logs_dir.join(format!("{}.log", row.id)), Vec::new());
        let way = Arc::new(Remote::new(row.id, &row.backend, name, policy.clone(), log.clone(), true));
        // No command was planned, so none is executed.
        let far = OnlyPlanned {
            policy: policy.clone(),
            backend: row.backend.clone(),
            target: name.clone(),
            permitted: Permitted::default(),
            way,
        };
        let (host, news) = Host::new(Setup {
            run: row.id,
            backend: row.backend.clone(),
            grant: policy.grant(&row.backend),
            workspaces: Vec::new(),
            cwd: None,
            client_env: ClientEnv::of(&caller.env),
            tree,
            artifacts: self.inner.artifacts.clone(),
            inputs: Inputs::default(),
            log: log.clone(),
            children: limits.children,
            blob_bytes: 0,
            far: Some(Arc::new(far)),
            told: telling().0,
            sealed: Sealed::default(),
        });
        let until = Instant::now() + ANSWER;
        let ask_ms = u32::try_from(ANSWER.as_millis()).unwrap_or(u32::MAX);
        let job = wit::Job {
            run_id: row.id.to_string(),
            life: row.life.saturating_add(1),
            message: Vec::new(),
            instructions: None,
            cwd: None,
            session: None,
            target: Some(wit::Target { name: target.name.clone(), tags: target.tags.clone(), settings: "{}".into() }),
            output_schema: None,
            config: config.to_string(),
            limits: wit::Limits { wall_ms: None, idle_ms: None, ask_ms, output_bytes: 0 },
            checkpoint: None,
            only_end: true,
        };
        let instance = Instance::new(Made { backend, host, news, log, limits }).await?;
        let outcome = timeout_at(until, drive(&instance, job)).await;
        instance.cut();
        instance.gone().await;
        Ok(outcome.unwrap_or(Ok(None))?.and_then(|outcome| match outcome {
            wit::Outcome::Stopped(stopped) => Some(FarEnd::of(stopped.remote?, stopped.detail)),
            _ => None,
        }))
    }

    /// The run stays as it ended; its receipt says what is known now.
    async fn write_down(&self, row: &RunRow, mut far: FarEnd) -> Result<RunRow, Fault> {
        let mut row = row.clone();
        let mut outline = view_of(row.clone()).outline;
        let detail = far.detail.take().map(|detail| format!(": {detail}")).unwrap_or_default();
        far.detail = Some(format!("by a later look, at {}{detail}", Millis::now()));
        if let Some(receipt) = &mut outline.receipt {
            receipt.far_end = Some(far);
        }
        if let Some(error) = &mut outline.error {
            error.hint = Some("a later look has found that nothing of the run is left there; see the receipt".into());
        }
        row.state = serde_json::to_string(&outline).map_err(|error| Fault::new(code::INTERNAL, error.to_string()))?;
        let update = RunUpdate { state: Some(row.state.clone()), ..RunUpdate::of(&row) };
        let written = self.inner.ledger.commit(Some(row.id), vec![Op::UpdateRun(Box::new(update))]).await;
        written.map_err(|error| crate::run::record::ledger_fault(&error))?;
        Ok(row)
    }
}

/// Whether nothing of the run is left here, and that is not known of its far end.
fn is_unconfirmed(row: &RunRow) -> bool {
    let receipt = view_of(row.clone()).outline.receipt;
    row.status == Status::Lost.word()
        && row.target.is_some()
        && receipt.is_some_and(|receipt| {
            !matches!(receipt.proof, None | Some(Proof::Unverified { .. })) && receipt.far_end.is_some_and(|far| far.state != "confirmed")
        })
}

/// Start, cancel, polls until the outcome.
async fn drive(instance: &Instance, job: wit::Job) -> Result<Option<wit::Outcome>, Fault> {
    if instance.start(job).await?.is_err() || instance.cancel("a later look".into(), ANSWER).await?.is_err() {
        return Ok(None);
    }
    loop {
        match instance.poll().await?.next {
            wit::Next::Finished(outcome) => return Ok(Some(outcome)),
            wit::Next::Again => tokio::task::yield_now().await,
            wit::Next::Pending(None) => instance.news().await,
            wit::Next::Pending(Some(ms)) => {
                tokio::select! {
                    () = instance.news() => {}
                    () = sleep_until(Instant::now() + Duration::from_millis(ms.into())) => {}
                }
            }
        }
    }
}
