//! `falconer run`: start a run and follow it.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde_json::{Map, Value, json};

use super::Globals;
use super::client::{self, Client};
use super::exit::{Exit, end};
use super::follow::{self, Interrupts};
use super::group;
use super::show::{self, Screen};
use crate::config::units;
use crate::fault::{Fault, code};
use crate::run::request::{RunLimits, SpawnRequest};
use crate::run::view::{Plan, Spawned};

/// Start a run, show what it does and says, and end as it ends. With several targets: a group of runs, and the end of the worst.
///
/// Standard output has what the run gives, standard error what it does. The first Ctrl-C stops the run and waits for the
/// receipt; the second leaves it. Exit codes: 0 completed, 1 failed, 2 wrong usage or configuration, 3 cancelled,
/// 4 refused, 5 lost, 6 needs an answer, 7 no host, 130 left.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The backend, as `falconer backends` lists it.
    pub backend: String,
    /// What is to be done; `-` reads it from standard input.
    pub prompt: Option<String>,
    /// A key of the backend's config with a text as its value.
    #[arg(long = "set", value_name = "KEY=TEXT")]
    pub set: Vec<String>,
    /// A key of the backend's config with a JSON value.
    #[arg(long = "config-json", value_name = "KEY=JSON")]
    pub config_json: Vec<String>,
    /// The working directory; by default this one. With `ssh`: the directory at the target.
    #[arg(long)]
    pub cwd: Option<Utf8PathBuf>,
    /// A name for the session, by which it can be called afterwards.
    #[arg(long)]
    pub name: Option<String>,
    /// A label, such as `worker`.
    #[arg(long)]
    pub role: Option<String>,
    /// Continue this session instead of a new one.
    #[arg(long, value_name = "ses_…")]
    pub session: Option<String>,
    /// With --session: begin a new session that knows it, and leave it as it is.
    #[arg(long, requires = "session")]
    pub fork: bool,
    /// A file that goes with the prompt (an image, say); several times for several.
    #[arg(long, value_name = "PATH")]
    pub file: Vec<Utf8PathBuf>,
    /// Where to run, by name.
    #[arg(long, conflicts_with_all = ["targets", "tag"])]
    pub target: Option<String>,
    /// Several targets, by name: a run for each, as a group. Each is shown when it ends.
    #[arg(long, value_name = "NAME,NAME…", value_delimiter = ',', conflicts_with = "tag")]
    pub targets: Vec<String>,
    /// All targets with this tag, as a group.
    #[arg(long)]
    pub tag: Option<String>,
    /// Of a group: at most so many runs at once.
    #[arg(long, value_name = "COUNT")]
    pub parallel: Option<u32>,
    /// Of a group: the first run that does not complete stops all others.
    #[arg(long)]
    pub stop_on_failure: bool,
    /// Standing instructions.
    #[arg(long)]
    pub instructions: Option<String>,
    /// Stop the run after this time, e.g. `90s`, `20m`, `2h`.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub timeout: Option<u64>,
    /// Stop the run when nothing happened in it for this time.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub idle_timeout: Option<u64>,
    /// Memory of all its processes together, e.g. `512MiB`, `2GiB`; a number without a unit is bytes.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub tree_memory: Option<u64>,
    /// Processes and threads of it at once.
    #[arg(long, value_name = "COUNT")]
    pub tree_processes: Option<u32>,
    /// CPUs' worth of time for all its processes together, e.g. `1.5`.
    #[arg(long, value_name = "CPUS", value_parser = cpus)]
    pub tree_cpu: Option<f64>,
    /// Makes a retry safe: the same key and arguments give the same run.
    #[arg(long, value_name = "KEY")]
    pub request_key: Option<String>,
    /// Say what would be done, and start nothing.
    #[arg(long)]
    pub plan: bool,
    /// Print the run's id (the group's) and go; it goes on without this command.
    #[arg(long)]
    pub detach: bool,
    /// For `exec` and `ssh` the program and its arguments; for other backends the prompt.
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

/// The command.
pub async fn run(globals: &Globals, args: Args) -> ExitCode {
    end(start(globals, args).await)
}

async fn start(globals: &Globals, args: Args) -> Result<Exit, Fault> {
    let (detach, plan) = (args.detach, args.plan);
    let request = request(args)?;
    let client = client::connect(globals).await?;
    let exit = if plan { planned(&client, &request, globals.json).await } else { started(&client, request, detach, globals.json).await };
    client.close().await;
    exit
}

async fn started(client: &Client, request: SpawnRequest, detach: bool, json: bool) -> Result<Exit, Fault> {
    let mut interrupts = Interrupts::new()?;
    let spawned: Spawned = tokio::select! {
        spawned = client.call("spawn_run", &request) => spawned?,
        () = interrupts.next() => {
            let fault = Fault::new("interrupted", "interrupted before the host said that the run was taken");
            return Err(fault.hint("`falconer runs` shows whether it was"));
        }
    };
    if detach {
        let id = spawned.group_id.map(|group| group.to_string()).or_else(|| spawned.run_id.map(|run| run.to_string()));
        let line = if json { serde_json::to_string(&spawned).unwrap_or_default() } else { id.unwrap_or_default() };
        show::print(&format!("{line}\n")).map_err(|error| follow::closed(&error))?;
        return Ok(Exit::Completed);
    }
    let mut screen = Screen::new(json);
    let (Some(run), Some(status)) = (spawned.run_id, spawned.status) else {
        return group::follow(client, &spawned, json, &mut screen, &mut interrupts).await;
    };
    let run = run.to_string();
    screen.note(&format!("{run} {}", status.word())).map_err(|error| follow::closed(&error))?;
    follow::follow(client, &run, 0, &mut screen, &mut interrupts).await
}

async fn planned(client: &Client, request: &SpawnRequest, json: bool) -> Result<Exit, Fault> {
    let plan: Plan = client.call("plan_run", request).await?;
    let text = if json { format!("{}\n", serde_json::to_string(&plan).unwrap_or_default()) } else { told(&plan) };
    show::print(&text).map_err(|error| follow::closed(&error))?;
    Ok(if plan.allowed { Exit::Completed } else { Exit::Rejected })
}

/// A plan, for people.
fn told(plan: &Plan) -> String {
    let mut text = format!("{}\n", show::inert(&plan.summary));
    let refusal = plan.refusal.as_ref().map_or("", |refusal| refusal.message.as_str());
    for action in &plan.actions {
        let what = action_line(&action.kind, &action.detail);
        // Why it is refused is said once, at the end.
        let line = match (action.allowed, refusal.ends_with(&action.rule)) {
            (true, _) => format!("  allowed  {what}  ({})\n", action.rule),
            (false, true) => format!("  REFUSED  {what}\n"),
            (false, false) => format!("  REFUSED  {what}  ({})\n", action.rule),
        };
        // A line of a plan stays one, whatever a command holds.
        text.push_str(&crate::config::inert(line.trim_end()));
        text.push('\n');
        for hop in action.detail["network"].as_array().into_iter().flatten() {
            let word = |key: &str| hop[key].as_str().map(show::inert).unwrap_or_default();
            text.push_str(&format!("  network  {}: {}\n", word("target"), word("rule")));
        }
    }
    if let Some(limits) = limits(&plan.limits) {
        text.push_str(&format!("  limits   {limits}\n"));
    }
    for unknown in &plan.unknown {
        text.push_str(&format!("  unknown  {}\n", show::inert(unknown)));
    }
    if let Some(refusal) = &plan.refusal {
        text.push_str(&format!("refused: {} ({})\n", refusal.message, refusal.code));
        if let Some(hint) = &refusal.hint {
            text.push_str(&format!("  {hint}\n"));
        }
    }
    text
}

/// What would be done, in a line: `uptime -s at web-1`, `/usr/bin/make -j2 in /home/u/project`.
fn action_line(kind: &str, detail: &Value) -> String {
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let words = |args: &Value| {
        let quoted = |arg: &str| if arg.is_empty() || arg.contains(char::is_whitespace) { format!("{arg:?}") } else { arg.to_owned() };
        args.as_array().into_iter().flatten().filter_map(Value::as_str).map(quoted).collect::<Vec<_>>().join(" ")
    };
    let far = &detail["command"];
    let (what, place) = match (kind, far.is_object()) {
        ("spawn", true) => (word(&far["shell"]).map_or_else(|| words(&far["args"]), |line| format!("sh: {line}")), far),
        ("spawn", false) => {
            let program = word(&detail["path"]).or_else(|| word(&detail["program"])).unwrap_or_default();
            (format!("{program} {}", words(&detail["args"])), detail)
        }
        _ => (format!("{kind} {detail}"), &Value::Null),
    };
    let mut line = what.trim_end().to_owned();
    let names: Vec<&str> = far["env"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !names.is_empty() {
        line.push_str(&format!(" with {}", names.join(" ")));
    }
    for (before, value) in [(" at ", &detail["target"]), (" in ", &place["cwd"])] {
        if let Some(value) = value.as_str() {
            line.push_str(before);
            line.push_str(value);
        }
    }
    line
}

/// The limits that a plan names, without those that there are not.
pub(super) fn limits(limits: &Value) -> Option<String> {
    let one = |(key, value): (&String, &Value)| {
        let number = value.as_u64();
        match (key.strip_suffix("_s"), key.strip_suffix("_bytes")) {
            _ if value.is_null() || value.as_array().is_some_and(Vec::is_empty) => None,
            (Some(name), _) if number.is_some() => {
                Some(format!("{name} {}", units::show_duration(Duration::from_secs(number.unwrap_or_default()))))
            }
            (_, Some(name)) if number.is_some() => Some(format!("{name} {}", units::show_size(number.unwrap_or_default()))),
            _ => Some(format!("{key} {value}")),
        }
    };
    limits.as_object().map(|limits| limits.iter().filter_map(one).collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())
}

fn wrong(message: String) -> Fault {
    Fault::new(code::INVALID_ARGUMENT, message)
}

/// The request that the arguments stand for.
fn request(args: Args) -> Result<SpawnRequest, Fault> {
    let mut config = Map::new();
    for pair in &args.set {
        let (key, text) = pair.split_once('=').ok_or_else(|| wrong(format!("--set {pair}: write KEY=TEXT")))?;
        config.insert(key.to_owned(), Value::String(text.to_owned()));
    }
    for pair in &args.config_json {
        let (key, text) = pair.split_once('=').ok_or_else(|| wrong(format!("--config-json {pair}: write KEY=JSON")))?;
        let value = serde_json::from_str(text)
            .map_err(|error| wrong(format!("--config-json {key}: {error}")).hint(format!("for a text write --set {key}={text}")))?;
        config.insert(key.to_owned(), value);
    }
    let mut prompt = match args.prompt.as_deref() {
        Some("-") => Some(standard_input()?),
        _ => args.prompt,
    };
    if let Some((program, rest)) = args.args.split_first() {
        if args.backend == "exec" {
            config.insert("program".to_owned(), json!(program));
            config.insert("args".to_owned(), json!(rest));
        } else if args.backend == "ssh" {
            config.insert("command".to_owned(), json!(args.args));
            // Nobody there reads a prompt; it is what the command reads.
            if let Some(input) = prompt.take() {
                config.insert("stdin".to_owned(), json!(input));
            }
        } else if prompt.is_none() {
            prompt = Some(args.args.join(" "));
        } else {
            return Err(wrong("the prompt is given twice".to_owned()).hint("write it before `--` or after it"));
        }
    }
    let mut cwd = args.cwd;
    if args.backend == "ssh"
        && let Some(there) = cwd.take()
    {
        if !there.is_absolute() {
            let why = format!("--cwd {there}: with ssh this is a directory of the target, and must be absolute");
            return Err(wrong(why).hint("write it from `/` on"));
        }
        if config.insert("cwd".to_owned(), json!(there)).is_some() {
            return Err(wrong("the working directory is given twice".to_owned()).hint("leave out --cwd, or `cwd` of the config"));
        }
    }
    let limits = RunLimits { tree_memory_bytes: args.tree_memory, tree_processes: args.tree_processes, tree_cpu: args.tree_cpu };
    let message = super::files::message(prompt.as_deref(), &args.file)?;
    Ok(SpawnRequest {
        backend: args.backend,
        prompt: prompt.filter(|_| message.is_none()),
        message,
        config: Some(config).filter(|config| !config.is_empty()),
        cwd: cwd.map(absolute).transpose()?,
        session_id: args.session,
        fork: args.fork.then_some(true),
        target: args.target,
        targets: Some(args.targets).filter(|targets| !targets.is_empty()),
        target_tag: args.tag,
        parallel: args.parallel,
        stop_on_failure: args.stop_on_failure.then_some(true),
        name: args.name,
        role: args.role,
        instructions: args.instructions,
        timeout_s: args.timeout,
        idle_timeout_s: args.idle_timeout,
        limits: Some(limits).filter(|limits| *limits != RunLimits::default()),
        request_key: args.request_key,
        ..SpawnRequest::default()
    })
}

/// The most that is read as a prompt.
const MAX_INPUT: u64 = 8 << 20;

fn standard_input() -> Result<String, Fault> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MAX_INPUT + 1).read_to_string(&mut text);
    read.map_err(|error| wrong(format!("the prompt on standard input cannot be read: {error}")))?;
    if text.len() as u64 > MAX_INPUT {
        return Err(wrong(format!("the prompt on standard input is larger than {} MiB", MAX_INPUT >> 20)));
    }
    Ok(text)
}

fn absolute(path: Utf8PathBuf) -> Result<String, Fault> {
    let path = camino::absolute_utf8(&path).map_err(|error| wrong(format!("--cwd {path}: {error}")))?;
    Ok(path.into_string())
}

/// Bytes out of `512MiB`, or of a plain number, as `spawn_run` takes it.
fn size(text: &str) -> Result<u64, String> {
    if let Ok(bytes) = text.parse() {
        return Ok(bytes);
    }
    units::size(text).map_err(|error| format!("{}; {}", error.message, error.hint))
}

/// A number, and nothing that JSON has no word for.
fn cpus(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|cpus: &f64| cpus.is_finite()).ok_or_else(|| "write a number of CPUs, e.g. `0.5`".to_owned())
}

/// Seconds out of `90`, `90s`, `20m`, `2h`, `1d`.
fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = text.find(|letter: char| !letter.is_ascii_digit()).map_or((text, "s"), |at| text.split_at(at));
    let factor = match unit.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        other => return Err(format!("`{other}` is no unit of time; write s, m, h or d, e.g. 90s or 2h")),
    };
    let number: u64 = number.parse().map_err(|_| "write a number with a unit, e.g. 90s or 2h".to_owned())?;
    number.checked_mul(factor).filter(|seconds| *seconds > 0).ok_or_else(|| "must be more than 0 and not endless".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &[&str]) -> Result<SpawnRequest, Fault> {
        request(Line::try_parse_from(std::iter::once("run").chain(line.iter().copied())).unwrap().args)
    }

    #[test]
    fn a_command_after_two_dashes_is_for_exec() {
        let request = parsed(&["exec", "--timeout", "2m", "--", "make", "-j2", "--", "test"]).unwrap();
        assert_eq!(Value::Object(request.config.unwrap()), json!({ "program": "make", "args": ["-j2", "--", "test"] }));
        assert_eq!((request.prompt, request.timeout_s), (None, Some(120)));
    }

    #[test]
    fn words_after_two_dashes_are_the_prompt_of_others() {
        assert_eq!(parsed(&["claude", "--", "-x", "is", "what?"]).unwrap().prompt.as_deref(), Some("-x is what?"));
        assert_eq!(parsed(&["claude", "one", "--", "two"]).unwrap_err().code, code::INVALID_ARGUMENT);
    }

    #[test]
    fn several_targets_make_a_group() {
        let request = parsed(&["ssh", "--targets", "a,b", "--parallel", "2", "--stop-on-failure"]).unwrap();
        assert_eq!(request.targets, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!((request.is_group(), request.parallel, request.stop_on_failure), (true, Some(2), Some(true)));
        assert!(!parsed(&["ssh", "--target", "a"]).unwrap().is_group());
        assert!(Line::try_parse_from(["run", "ssh", "--target", "a", "--tag", "b"]).is_err());
    }

    #[test]
    fn with_ssh_the_working_directory_is_one_of_the_target() {
        let request = parsed(&["ssh", "--target", "a", "--cwd", "/srv", "--", "ls"]).unwrap();
        assert_eq!((request.cwd, request.config.unwrap()["cwd"].as_str()), (None, Some("/srv")));
        assert!(parsed(&["ssh", "--target", "a", "--cwd", "srv", "--", "ls"]).unwrap_err().message.contains("must be absolute"));
    }

    #[test]
    fn what_a_plan_would_do_is_read_as_a_command() {
        let far = json!({ "program": "ssh", "args": ["-F", "x"], "target": "web-1", "command": { "args": ["ls", "a b"], "cwd": "/srv", "env": ["LANG"] } });
        assert_eq!(action_line("spawn", &far), "ls \"a b\" with LANG at web-1 in /srv");
        let line = json!({ "target": "web-1", "command": { "shell": "ps | wc -l" } });
        assert_eq!(action_line("spawn", &line), "sh: ps | wc -l at web-1");
        let here = json!({ "program": "make", "path": "/usr/bin/make", "args": ["-j2"], "cwd": "/home/u", "command": null });
        assert_eq!(action_line("spawn", &here), "/usr/bin/make -j2 in /home/u");
        assert_eq!(action_line("request", &json!({ "url": "u" })), "request {\"url\":\"u\"}");
    }

    #[test]
    fn config_is_text_or_json() {
        let request = parsed(&["claude", "hi", "--set", "model=haiku", "--set", "n=5", "--config-json", "max_turns=5"]).unwrap();
        assert_eq!(Value::Object(request.config.unwrap()), json!({ "model": "haiku", "n": "5", "max_turns": 5 }));
        let fault = parsed(&["claude", "hi", "--config-json", "model=haiku"]).unwrap_err();
        assert_eq!(fault.hint.as_deref(), Some("for a text write --set model=haiku"));
        assert!(parsed(&["claude", "hi", "--set", "model"]).is_err());
    }

    #[test]
    fn a_relative_cwd_is_made_absolute() {
        let cwd = parsed(&["exec", "--cwd", "src"]).unwrap().cwd.unwrap();
        assert!(cwd.starts_with('/') && cwd.ends_with("/src"), "{cwd}");
    }

    #[test]
    fn sizes_are_bytes_or_have_units_and_the_units_are_named() {
        assert_eq!(["209715200", "200MiB", "200 MiB"].map(|text| size(text).unwrap()), [200 << 20; 3]);
        let error = size("64M").unwrap_err();
        assert!(error.contains("`M` is no unit of size") && error.contains("MiB"), "{error}");
        assert!(["", "-1", "1.5GiB", "99999999999999999999"].iter().all(|text| size(text).is_err()));
    }

    #[test]
    fn the_limits_of_a_plan_are_for_people() {
        let told = limits(&json!({ "wall_s": 7200, "idle_s": null, "tree_memory_bytes": 64 << 20, "tree_cpu": 0.2, "events": 5 })).unwrap();
        for part in ["wall 2h", "tree_memory 64 MiB", "tree_cpu 0.2", "events 5"] {
            assert!(told.split(", ").any(|one| one == part), "{told}");
        }
        assert!(!told.contains("idle"), "{told}");
        assert_eq!(limits(&Value::Null), None, "a plan that is refused before has none");
    }

    #[test]
    fn times_have_units() {
        assert_eq!(["90", "90s", "20m", "2h", "1d"].map(|text| seconds(text).unwrap()), [90, 90, 1_200, 7_200, 86_400]);
        assert!(["", "0", "h", "2w", "-1", "1.5h", "99999999999999999999d"].iter().all(|text| seconds(text).is_err()));
    }
}
