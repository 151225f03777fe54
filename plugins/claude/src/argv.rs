//! How `claude` is started: its arguments. The environment is in [`crate::environment`].

use falconer_backend::{Failure, Job};
use serde_json::json;

use crate::config::{Config, PermissionMode};
use crate::mcp::Servers;
use crate::schema::Schema;

/// The name of the granted program.
pub const PROGRAM: &str = "claude";
/// Linux takes no single argument of 128 KiB or more (`MAX_ARG_STRLEN`); a little is for the flag.
const MAX_ARGUMENT: usize = (128 << 10) - 64;

/// The arguments. Values are joined to their flags by `=`, so that none is ever taken for a flag.
///
/// # Errors
/// `instructions_too_long`, `invalid_session`, `invalid_argument`.
pub fn arguments(job: &Job, config: &Config, servers: &Servers, schema: Option<&Schema>) -> Result<Vec<String>, Failure> {
    let mut args = Arguments(
        ["-p", "--input-format=stream-json", "--output-format=stream-json", "--verbose", "--include-partial-messages"]
            .map(str::to_owned)
            .to_vec(),
    );
    args.flag("permission-prompt-tool", "stdio");
    // The agent has the servers that the run names, whatever its home or its directory say.
    args.bare("strict-mcp-config");
    if let Some(servers) = &servers.config {
        args.long("mcp-config", servers, "the definitions of its MCP servers")?;
    }
    if let Some(session) = &job.session {
        if session.native_id.is_empty() || !session.native_id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(Failure::new("invalid_session", format!("{:?} is no session id of claude", session.native_id)));
        }
        args.flag("resume", &session.native_id);
        if session.fork {
            args.bare("fork-session");
        }
    }
    let sources: Vec<&str> = config.settings().iter().map(|source| source.word()).collect();
    args.flag("setting-sources", &sources.join(","));
    args.flag("permission-mode", config.permission_mode.word());
    if config.permission_mode == PermissionMode::Plan {
        // Else commands are judged by a model while it plans, and nobody is asked.
        args.flag("settings", &json!({ "useAutoModeDuringPlan": false }).to_string());
    }
    for (name, value) in [("model", &config.model), ("effort", &config.effort)] {
        if let Some(value) = value {
            args.flag(name, value);
        }
    }
    if let Some(turns) = config.max_turns {
        args.flag("max-turns", &turns.to_string());
    }
    if let Some(budget) = config.max_budget_usd {
        args.flag("max-budget-usd", &budget.to_string());
    }
    for (name, values) in
        [("allowedTools", &config.allowed_tools), ("disallowedTools", &config.disallowed_tools), ("add-dir", &config.add_dirs)]
    {
        for value in values {
            args.flag(name, value);
        }
    }
    if let Some(schema) = schema {
        args.flag("json-schema", &schema.text);
    }
    if let Some(instructions) = job.instructions.as_deref().filter(|text| !text.is_empty()) {
        if instructions.len() > MAX_ARGUMENT {
            let message = format!("instructions of {} bytes; claude takes at most {MAX_ARGUMENT}", instructions.len());
            return Err(Failure::new("instructions_too_long", message).with_hint("put them into a file and name it in the message"));
        }
        args.flag("append-system-prompt", instructions);
    }
    Ok(args.0)
}

struct Arguments(Vec<String>);

impl Arguments {
    fn bare(&mut self, name: &str) {
        self.0.push(format!("--{name}"));
    }

    fn flag(&mut self, name: &str, value: &str) {
        self.0.push(format!("--{name}={value}"));
    }

    /// A flag whose value may be long.
    fn long(&mut self, name: &str, value: &str, what: &str) -> Result<(), Failure> {
        if value.len() > MAX_ARGUMENT {
            let message = format!("{what} take {} bytes; claude can be given {MAX_ARGUMENT}", value.len());
            return Err(Failure::new("invalid_argument", message).with_hint("name fewer, or shorten them in the configuration"));
        }
        self.flag(name, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use falconer_backend::{Limits, PriorSession};

    use super::*;
    use crate::mcp;

    fn job(session: Option<PriorSession>) -> Job {
        Job {
            run_id: "run_x".to_owned(),
            life: 1,
            message: Vec::new(),
            instructions: Some("--be brief".to_owned()),
            cwd: None,
            session,
            target: None,
            output_schema: None,
            config: String::new(),
            limits: Limits { wall_ms: None, idle_ms: None, ask_ms: 1_000, output_bytes: 1 << 20 },
            checkpoint: None,
            only_end: false,
        }
    }

    fn of(config: &str, session: Option<PriorSession>) -> Result<Vec<String>, Failure> {
        let config: Config = serde_json::from_str(config).unwrap();
        arguments(&job(session), &config, &mcp::servers(&config)?, None)
    }

    fn has(args: &[String], arg: &str) -> bool {
        args.iter().any(|one| one == arg)
    }

    #[test]
    fn every_mode_has_its_flag() {
        for (mode, word) in [
            ("ask", "default"),
            ("accept_edits", "acceptEdits"),
            ("plan", "plan"),
            ("never_ask_deny", "default"),
            ("bypass", "bypassPermissions"),
        ] {
            let args = of(&format!(r#"{{"permission_mode": "{mode}"}}"#), None).unwrap();
            assert!(has(&args, &format!("--permission-mode={word}")), "{args:?}");
            assert_eq!(args.iter().any(|arg| arg.contains("useAutoModeDuringPlan")), mode == "plan");
        }
        let args = of("{}", None).unwrap();
        for arg in ["--permission-mode=default", "--strict-mcp-config", "--setting-sources=user,project,local"] {
            assert!(has(&args, arg), "{args:?}");
        }
        assert!(has(&args, "--append-system-prompt=--be brief") && !args.iter().any(|arg| arg.starts_with("--mcp-config")));
        assert!(has(&of(r#"{"settings": []}"#, None).unwrap(), "--setting-sources="));
        assert!(has(&of(r#"{"settings": ["user"]}"#, None).unwrap(), "--setting-sources=user"));
    }

    #[test]
    fn values_are_never_flags() {
        let config =
            r#"{"model": "-m", "allowed_tools": ["Bash", "Read"], "add_dirs": ["/a b", "/c"], "max_turns": 3, "max_budget_usd": 0.5}"#;
        let args = of(config, None).unwrap();
        for arg in [
            "--model=-m",
            "--allowedTools=Bash",
            "--allowedTools=Read",
            "--add-dir=/a b",
            "--add-dir=/c",
            "--max-turns=3",
            "--max-budget-usd=0.5",
        ] {
            assert!(has(&args, arg), "{args:?}");
        }
    }

    #[test]
    fn a_session_is_resumed_or_forked() {
        let session = |native: &str, fork| Some(PriorSession { id: "ses_x".to_owned(), native_id: native.to_owned(), fork });
        let args = of("{}", session("0-a", false)).unwrap();
        assert!(has(&args, "--resume=0-a") && !has(&args, "--fork-session"));
        assert!(has(&of("{}", session("0-a", true)).unwrap(), "--fork-session"));
        assert_eq!(of("{}", session("../x", false)).unwrap_err().code, "invalid_session");
    }
}
