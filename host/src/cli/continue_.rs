//! `falconer continue`: answer a run, steer it, carry its session on, or fork it.

use std::process::ExitCode;

use camino::Utf8PathBuf;

use super::Globals;
use super::client::{self, Client};
use super::exit::{Exit, end};
use super::follow::{self, Interrupts, closed};
use super::show::{self, Screen};
use crate::fault::Fault;
use crate::run::request::{Answer, ContinueRequest, Timing};
use crate::run::view::{ContinueAction, Continued, RunView};

/// Answer the question of a run, say something to a live one, or carry the session of an ended one on, and follow it.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["message", "file", "answer"]).multiple(true))]
pub struct Args {
    /// Run id or session name.
    pub run: String,
    /// What to say to it.
    pub message: Option<String>,
    /// A file that goes with the message (an image, say); several times for several.
    #[arg(long, value_name = "PATH", conflicts_with = "answer")]
    pub file: Vec<Utf8PathBuf>,
    /// Begin a new session that knows this one, and leave this one as it is.
    #[arg(long, conflicts_with = "answer")]
    pub fork: bool,
    /// The question to answer, by its id.
    #[arg(long, value_name = "QUESTION", requires = "hash", conflicts_with = "message")]
    pub answer: Option<String>,
    /// The hash that the question came with: proof that this very question is answered.
    #[arg(long, requires = "answer")]
    pub hash: Option<String>,
    /// A choice, by its id; several where the question allows it.
    #[arg(long, value_name = "ID", requires = "answer")]
    pub choose: Vec<String>,
    /// A free answer, or the reason of a choice.
    #[arg(long, requires = "answer")]
    pub text: Option<String>,
    /// A free answer as JSON that fits the question's form; beside a choice, what the backend takes with it (a changed input, say).
    #[arg(long, value_name = "JSON", value_parser = json, requires = "answer")]
    pub data: Option<serde_json::Value>,
    /// To a live run: say it at once, also in the middle of a step.
    #[arg(long, conflicts_with_all = ["answer", "fork"])]
    pub now: bool,
    /// Makes a retry safe.
    #[arg(long, value_name = "KEY")]
    pub request_key: Option<String>,
    /// Print the run's id and go.
    #[arg(long)]
    pub detach: bool,
}

/// The command.
pub async fn run(globals: &Globals, args: Args) -> ExitCode {
    end(go_on(globals, args).await)
}

async fn go_on(globals: &Globals, args: Args) -> Result<Exit, Fault> {
    let client = client::connect(globals).await?;
    let exit = followed(&client, args, globals.json).await;
    client.close().await;
    exit
}

async fn followed(client: &Client, args: Args, json: bool) -> Result<Exit, Fault> {
    let before: RunView = client.call("get_run", &serde_json::json!({ "run_id": args.run })).await?;
    let detach = args.detach;
    let continued: Continued = client.call("continue_run", &request(args)?).await?;
    let run = continued.run_id.to_string();
    if detach {
        let line = if json { serde_json::to_string(&continued).unwrap_or_default() } else { run };
        show::print(&format!("{line}\n")).map_err(|error| closed(&error))?;
        return Ok(Exit::Completed);
    }
    let (done, after) = match continued.action {
        ContinueAction::Answered => ("answered", before.last_seq),
        ContinueAction::Steered => ("steered", before.last_seq),
        ContinueAction::Continued => ("continues the session", 0),
        ContinueAction::Forked => ("forks the session", 0),
    };
    let mut interrupts = Interrupts::new()?;
    let mut screen = Screen::new(json);
    screen.note(&format!("{run} {done}")).map_err(|error| closed(&error))?;
    follow::follow(client, &run, after, &mut screen, &mut interrupts).await
}

fn json(text: &str) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_str(text)
}

fn request(args: Args) -> Result<ContinueRequest, Fault> {
    let answer = args.answer.map(|question_id| Answer {
        question_id,
        details_hash: args.hash.unwrap_or_default(),
        choices: Some(args.choose).filter(|choices| !choices.is_empty()),
        text: args.text,
        data: args.data,
    });
    let parts = super::files::message(args.message.as_deref(), &args.file)?.map(|message| message.parts);
    Ok(ContinueRequest {
        run_id: args.run,
        message: args.message.filter(|_| parts.is_none()),
        parts,
        fork: args.fork.then_some(true),
        answer,
        timing: args.now.then_some(Timing::Now),
        request_key: args.request_key,
        wait_ms: None,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &[&str]) -> Result<ContinueRequest, clap::Error> {
        Line::try_parse_from(std::iter::once("continue").chain(line.iter().copied())).map(|line| request(line.args).unwrap())
    }

    #[test]
    fn a_message_or_an_answer() {
        let request = parsed(&["planner", "go on", "--now"]).unwrap();
        assert_eq!((request.message.as_deref(), request.timing), (Some("go on"), Some(Timing::Now)));
        let request = parsed(&["planner", "--answer", "q1", "--hash", "ab", "--choose", "yes", "--text", "because"]).unwrap();
        let answer = request.answer.unwrap();
        assert_eq!((answer.question_id.as_str(), answer.details_hash.as_str(), answer.text.as_deref()), ("q1", "ab", Some("because")));
        assert_eq!(answer.choices, Some(vec!["yes".to_owned()]));
        let request = parsed(&["planner", "--answer", "q1", "--hash", "ab", "--data", r#"{"n":1}"#]).unwrap();
        assert_eq!(request.answer.unwrap().data, Some(serde_json::json!({ "n": 1 })));
        assert!(parsed(&["planner", "--answer", "q1", "--hash", "ab", "--data", "{"]).is_err());
        assert!(parsed(&["planner"]).is_err());
        assert!(parsed(&["planner", "go on", "--answer", "q1", "--hash", "ab"]).is_err());
        assert!(parsed(&["planner", "--answer", "q1"]).is_err(), "an answer names its hash");
        assert_eq!(parsed(&["planner", "go on", "--fork"]).unwrap().fork, Some(true));
        assert!(parsed(&["planner", "--fork", "--answer", "q1", "--hash", "ab"]).is_err());
    }
}
