//! Following a group: each run is shown whole when it ends, one after the other, so that nothing of two is mixed.
//!
//! The first Ctrl-C stops the whole group and waits for the receipts; the second leaves it. The exit code is that of the run that
//! ended worst.

use serde_json::{Value, json};

use super::client::Client;
use super::exit::Exit;
use super::follow::{Interrupts, TICK, finish, told, whole};
use super::show::{self, Screen};
use crate::fault::Fault;
use crate::id::RunId;
use crate::run::request::{CancelRequest, WaitFor, WaitRequest};
use crate::run::view::{Cancelled, Spawned, WaitPage, Waited};

/// How long one wait lasts at the host.
const WAIT_MS: u64 = 30_000;

/// Shows the runs of a group as they end.
pub async fn follow(
    client: &Client,
    spawned: &Spawned,
    json: bool,
    screen: &mut Screen,
    interrupts: &mut Interrupts,
) -> Result<Exit, Fault> {
    let Some(group) = spawned.group_id else { return Ok(Exit::Completed) };
    told(screen.note(&format!("{group} {} runs", spawned.run_ids.len())))?;
    let mut group = Following { client, group: group.to_string(), left: spawned.run_ids.clone(), json, worst: Exit::Completed };
    let mut tick = tokio::time::interval(TICK);
    while !group.left.is_empty() {
        let request = group.wait(WAIT_MS);
        let mut wait = std::pin::pin!(client.call::<_, WaitPage>("wait_runs", &request));
        let page = loop {
            tokio::select! {
                page = &mut wait => break Some(page?),
                _ = tick.tick(), if screen.has_progress() => screen.tick(),
                () = interrupts.next() => break None,
            }
        };
        match page {
            Some(page) => group.show(page, screen).await?,
            None => return group.stop(screen, interrupts).await,
        }
    }
    Ok(group.worst)
}

/// A group that is followed.
struct Following<'a> {
    client: &'a Client,
    group: String,
    /// Runs that were not shown yet.
    left: Vec<RunId>,
    json: bool,
    worst: Exit,
}

impl Following<'_> {
    fn wait(&self, ms: u64) -> WaitRequest {
        WaitRequest { run_ids: self.left.iter().map(ToString::to_string).collect(), mode: WaitFor::Any, wait_ms: Some(ms) }
    }

    /// Shows those that have ended or need an answer.
    async fn show(&mut self, page: WaitPage, screen: &mut Screen) -> Result<(), Fault> {
        for run in page.runs.into_iter().filter(|run| run.ready) {
            self.left.retain(|left| *left != run.run_id);
            let exit = self.one(&run, screen).await?;
            if rank(exit) > rank(self.worst) {
                self.worst = exit;
            }
        }
        Ok(())
    }

    async fn one(&self, run: &Waited, screen: &mut Screen) -> Result<Exit, Fault> {
        let id = run.run_id.to_string();
        if self.json {
            let view: Value = self.client.call_value("get_run", &json!({ "run_id": id })).await?;
            told(show::print(&format!("{view}\n")))?;
            return Ok(Exit::of_status(run.status));
        }
        screen.clear();
        // What one run printed says nothing of the next.
        let screen = &mut Screen::new(false);
        told(screen.note(&format!("== {} {id}", run.target.as_deref().unwrap_or("-"))))?;
        whole(self.client, &id, 0, screen).await?;
        finish(self.client, &id, screen).await
    }

    async fn stop(mut self, screen: &mut Screen, interrupts: &mut Interrupts) -> Result<Exit, Fault> {
        told(screen.note(&format!("stopping {}; Ctrl-C again leaves it to the host", self.group)))?;
        let request = CancelRequest { run_id: self.group.clone(), grace_ms: None, reason: Some("Ctrl-C".to_owned()) };
        tokio::select! {
            stopped = self.client.call::<_, Cancelled>("cancel_run", &request) => drop(stopped?),
            () = interrupts.next() => {
                told(screen.note(&format!("left {} while it is being stopped; `falconer runs {0}` shows what became of it", self.group)))?;
                return Ok(Exit::Left);
            }
        }
        let page = self.client.call::<_, WaitPage>("wait_runs", &self.wait(0)).await?;
        self.show(page, screen).await?;
        if self.left.is_empty() {
            return Ok(self.worst);
        }
        told(screen.note(&format!(
            "{} runs are not stopped yet; `falconer runs {}` shows what becomes of them",
            self.left.len(),
            self.group
        )))?;
        Ok(Exit::Left)
    }
}

/// The worse, the higher.
pub(super) const fn rank(exit: Exit) -> u8 {
    match exit {
        Exit::Completed => 0,
        Exit::Cancelled => 1,
        Exit::Rejected => 2,
        Exit::Failed => 3,
        Exit::Lost => 4,
        Exit::NeedsAnswer => 5,
        Exit::Usage | Exit::Unreachable | Exit::Left => 6,
    }
}
