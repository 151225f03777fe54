//! Following a run to its end, live: the first Ctrl-C stops the run and waits for the receipt, the second leaves it.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::client::Client;
use super::exit::Exit;
use super::show::{self, Screen};
use crate::fault::{Fault, code};
use crate::run::event::{Event, EventType, Question};
use crate::run::request::{ArtifactRequest, CancelRequest, PollRequest};
use crate::run::status::Status;
use crate::run::view::{Cancelled, EventPage, RunView, Slice};

/// How long one poll waits at the host.
const POLL_MS: u64 = 30_000;
/// Events of one poll.
const POLL_EVENTS: u32 = 1_000;
/// Characters of one poll.
const POLL_CHARS: u32 = 400_000;
/// Bytes of one piece of an output that is too large for an event, and the field that it is in.
const SLICE: u32 = 256 << 10;
const TEXT: &str = "/text";
/// How often the progress line is drawn.
pub(super) const TICK: Duration = Duration::from_millis(500);

/// Presses of Ctrl-C, from now on.
pub struct Interrupts(Signal);

impl Interrupts {
    /// From now on Ctrl-C does not end this process.
    pub fn new() -> Result<Self, Fault> {
        signal(SignalKind::interrupt()).map(Self).map_err(|error| Fault::new(code::INTERNAL, format!("signals cannot be caught: {error}")))
    }

    /// The next press.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// What follows when standard output is closed, as by `| head`.
#[must_use]
pub fn closed(error: &io::Error) -> Fault {
    Fault::new("output_closed", format!("standard output cannot be written: {error}"))
        .hint("the run goes on; `falconer events RUN` shows it again")
}

/// Shows a run's events after this number until it ends or needs an answer, and what came of it.
pub async fn follow(client: &Client, run: &str, after: u64, screen: &mut Screen, interrupts: &mut Interrupts) -> Result<Exit, Fault> {
    let mut after = after;
    let mut tick = tokio::time::interval(TICK);
    loop {
        let request = PollRequest {
            run_id: run.to_owned(),
            after_seq: after,
            limit: Some(POLL_EVENTS),
            max_chars: Some(POLL_CHARS),
            types: None,
            wait_ms: Some(POLL_MS),
        };
        let mut poll = std::pin::pin!(client.call::<_, EventPage>("poll_events", &request));
        let page = loop {
            tokio::select! {
                page = &mut poll => break Some(page?),
                _ = tick.tick(), if screen.has_progress() => screen.tick(),
                () = interrupts.next() => break None,
            }
        };
        let Some(page) = page else { return stop(client, run, after, screen, interrupts).await };
        after = shown(client, run, &page, screen).await?;
        if page.ended && !page.has_more {
            return finish(client, run, screen).await;
        }
        if page.status.needs_answer() && !page.has_more {
            return finish(client, run, screen).await;
        }
    }
}

async fn shown(client: &Client, run: &str, page: &EventPage, screen: &mut Screen) -> Result<u64, Fault> {
    for event in &page.events {
        let is_cut = event.data["artifacts"].as_array().is_some_and(|parts| parts.iter().any(|part| part["pointer"] == TEXT));
        if event.kind == EventType::CommandOutput && is_cut && !screen.is_json() {
            in_full(client, run, event, screen).await?;
        } else {
            told(screen.event(event))?;
        }
    }
    Ok(page.next_after_seq)
}

/// Output that is too large for an event, by pieces.
async fn in_full(client: &Client, run: &str, event: &Event, screen: &mut Screen) -> Result<(), Fault> {
    let mut next = Some(0);
    while let Some(offset) = next {
        let request = ArtifactRequest { run_id: run.to_owned(), seq: event.seq, pointer: TEXT.to_owned(), offset, limit: Some(SLICE) };
        let slice: Slice = client.call("get_event_artifact", &request).await?;
        let mut piece = event.clone();
        piece.data["text"] = slice.content.into();
        told(screen.event(&piece))?;
        next = slice.next_offset;
    }
    Ok(())
}

async fn stop(client: &Client, run: &str, after: u64, screen: &mut Screen, interrupts: &mut Interrupts) -> Result<Exit, Fault> {
    told(screen.note(&format!("stopping {run}; Ctrl-C again leaves it to the host")))?;
    let request = CancelRequest { run_id: run.to_owned(), grace_ms: None, reason: Some("Ctrl-C".to_owned()) };
    let stopped = tokio::select! {
        stopped = client.call::<_, Cancelled>("cancel_run", &request) => stopped?,
        () = interrupts.next() => {
            told(screen.note(&format!("left {run} while it is being stopped; `falconer runs` shows what became of it")))?;
            return Ok(Exit::Left);
        }
    };
    whole(client, run, after, screen).await?;
    if !stopped.status.is_some_and(Status::is_terminal) {
        told(screen.note(&format!("{run} is not stopped yet; `falconer runs` shows what becomes of it")))?;
        return Ok(Exit::Left);
    }
    finish(client, run, screen).await
}

/// Shows all events of a run after this number that there are now.
pub(super) async fn whole(client: &Client, run: &str, mut after: u64, screen: &mut Screen) -> Result<(), Fault> {
    loop {
        let request = PollRequest { run_id: run.to_owned(), after_seq: after, max_chars: Some(POLL_CHARS), ..PollRequest::default() };
        let page: EventPage = client.call("poll_events", &request).await?;
        after = shown(client, run, &page, screen).await?;
        if !page.has_more {
            return Ok(());
        }
    }
}

/// Says what came of a run.
pub(super) async fn finish(client: &Client, run: &str, screen: &mut Screen) -> Result<Exit, Fault> {
    let view: RunView = client.call("get_run", &serde_json::json!({ "run_id": run })).await?;
    if let Some(text) = view.result.as_ref().and_then(|result| result.text.as_deref()) {
        told(screen.result(text))?;
    }
    screen.clear();
    for question in &view.questions {
        told(screen.note(&asked(run, question)))?;
    }
    if let Some(error) = &view.error {
        told(screen.note(&format!("{run} {}: {} ({})", view.status.word(), error.message, error.code)))?;
        if let Some(hint) = &error.hint {
            told(screen.note(&format!("  {hint}")))?;
        }
    } else if view.status.is_terminal() {
        told(screen.note(&format!("{run} {}", view.status.word())))?;
    }
    if let Some(receipt) = view.receipt.as_ref().filter(|receipt| receipt.reason.is_some() || !receipt.survivors.is_empty()) {
        for line in show::receipt(receipt) {
            told(screen.note(&format!("  {line}")))?;
        }
    }
    Ok(Exit::of_status(view.status))
}

pub(super) fn told(written: io::Result<()>) -> Result<(), Fault> {
    written.map_err(|error| closed(&error))
}

/// A question, and how to answer it.
pub(super) fn asked(run: &str, question: &Question) -> String {
    let mut text = format!("{run} asks: {}\n", show::inert(&question.prompt));
    if !question.details.is_null() {
        text.push_str(&format!("  {}\n", show::inert(&question.details.to_string())));
    }
    for choice in &question.choices {
        text.push_str(&format!("  {}: {}\n", show::inert(&choice.id), show::inert(&choice.label)));
    }
    let choose = match (&question.form, question.choices.is_empty()) {
        (_, false) => "--choose ID",
        (Some(_), true) => "--data JSON",
        (None, true) => "--text TEXT",
    };
    if let Some(form) = &question.form {
        text.push_str(&format!("  form: {}\n", show::inert(&form.to_string())));
    }
    text.push_str(&format!("answer: falconer continue {run} --answer {} --hash {} {choose}", question.question_id, question.details_hash));
    text
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::clock::Millis;
    use crate::id::{RunId, SessionId};
    use crate::mcp::call::Call;
    use crate::mcp::serve_table;
    use crate::mcp::tool::{Hints, Row, Table, Tool};
    use crate::run::event::{Event, EventType, QuestionKind};
    use crate::run::request::SpawnRequest;
    use crate::run::status::Completion;

    /// A host that answers what it is told to, so that what is shown is what is tested.
    #[derive(Clone)]
    struct Told {
        pages: Arc<Mutex<VecDeque<EventPage>>>,
        asked: Arc<Mutex<Vec<u64>>>,
        run: RunView,
    }

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Which {
        /// A run.
        run_id: String,
    }

    struct Poll;
    impl Tool<Told> for Poll {
        const NAME: &'static str = "poll_events";
        const TITLE: &'static str = "Poll";
        const DESCRIPTION: &'static str = "Poll.";
        const HINTS: Hints = Hints::LOOK;
        type Request = PollRequest;
        type Answer = EventPage;
        async fn call(call: &Call<Told>, request: PollRequest) -> Result<EventPage, Fault> {
            call.host.asked.lock().unwrap().push(request.after_seq);
            call.host.pages.lock().unwrap().pop_front().ok_or_else(|| Fault::new("no_more", "asked once too often"))
        }
    }

    struct Get;
    impl Tool<Told> for Get {
        const NAME: &'static str = "get_run";
        const TITLE: &'static str = "Get";
        const DESCRIPTION: &'static str = "Get.";
        const HINTS: Hints = Hints::LOOK;
        type Request = Which;
        type Answer = RunView;
        async fn call(call: &Call<Told>, request: Which) -> Result<RunView, Fault> {
            assert_eq!(request.run_id, call.host.run.run_id.to_string());
            Ok(call.host.run.clone())
        }
    }

    fn view(status: Status) -> RunView {
        RunView {
            run_id: RunId::random(),
            session_id: SessionId::random(),
            backend: "exec".to_owned(),
            backend_digest: String::new(),
            name: None,
            status,
            role: None,
            cwd: None,
            target: None,
            parent_run_id: None,
            group_id: None,
            created_at: Millis(0),
            started_at: None,
            ended_at: None,
            last_seq: 3,
            summary: None,
            metadata: None,
            request: SpawnRequest::default(),
            result: Some(Completion { text: Some("the result".to_owned()), structured: None }),
            error: None,
            limits: None,
            usage: None,
            question: None,
            questions: Vec::new(),
            open_questions: 0,
            receipt: None,
            durable: true,
        }
    }

    fn page(run: &RunView, seq: u64, status: Status, ended: bool, has_more: bool) -> EventPage {
        let event = Event { seq, ts: Millis(0), kind: EventType::StatusChanged, data: json!({}) };
        EventPage { run_id: run.run_id, status, ended, events: vec![event], next_after_seq: seq, has_more }
    }

    async fn followed(run: RunView, pages: Vec<EventPage>) -> (Result<Exit, Fault>, Vec<u64>) {
        let told = Told { pages: Arc::new(Mutex::new(pages.into())), asked: Arc::default(), run: run.clone() };
        let table: &'static Table<Told> = Box::leak(Box::new(Table::new(vec![Row::of::<Poll>(), Row::of::<Get>()])));
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (input, output) = tokio::io::split(theirs);
        let asked = told.asked.clone();
        tokio::spawn(serve_table(table, told, input, output, CancellationToken::new()));
        let (input, output) = tokio::io::split(ours);
        let client = Client::over(input, output).await.unwrap();
        let mut screen = Screen::over(Box::new(io::sink()), Box::new(io::sink()), false, false, false);
        let mut interrupts = Interrupts::new().unwrap();
        let exit = follow(&client, &run.run_id.to_string(), 0, &mut screen, &mut interrupts).await;
        client.close().await;
        (exit, asked.clone().lock().unwrap().clone())
    }

    #[tokio::test]
    async fn a_run_is_followed_to_its_end_also_when_that_takes_several_pages() {
        let run = view(Status::Completed);
        let pages = vec![
            page(&run, 1, Status::Running, false, false),
            page(&run, 2, Status::Completed, true, true),
            page(&run, 3, Status::Completed, true, false),
        ];
        let (exit, asked) = followed(run, pages).await;
        assert_eq!((exit.unwrap(), asked), (Exit::Completed, vec![0, 1, 2]));
    }

    #[tokio::test]
    async fn a_run_that_asks_is_left_with_the_question() {
        let mut run = view(Status::InputRequired);
        run.question = Some(Question {
            question_id: "q1".to_owned(),
            kind: QuestionKind::Approval,
            prompt: "May I?".to_owned(),
            choices: Vec::new(),
            multiple: false,
            details: json!({ "rm": "-r" }),
            details_hash: "ab".to_owned(),
            form: None,
            default_choice: None,
            expires_at: Millis(0),
            seq: 3,
        });
        let text = asked("run", run.question.as_ref().unwrap());
        assert!(text.ends_with("falconer continue run --answer q1 --hash ab --text TEXT"), "{text}");
        let pages = vec![page(&run, 1, Status::InputRequired, false, false)];
        assert_eq!(followed(run, pages).await.0.unwrap(), Exit::NeedsAnswer);
    }

    #[tokio::test]
    async fn a_fault_of_the_host_comes_through_as_it_was() {
        let run = view(Status::Running);
        let fault = followed(run, Vec::new()).await.0.unwrap_err();
        assert_eq!((fault.code.as_ref(), fault.message.as_str()), ("no_more", "asked once too often"));
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_an_unreachable_host() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        drop(theirs);
        let (input, output) = tokio::io::split(ours);
        let Err(fault) = Client::over(input, output).await else { panic!("there is nobody") };
        assert_eq!(Exit::of_fault(&fault), Exit::Unreachable);
    }
}
