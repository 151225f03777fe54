//! How `claude` is started: arguments and environment.

use falconer_backend::{Command, Failure, Job};

use crate::config::Config;

/// The name of the granted program.
pub const PROGRAM: &str = "claude";
/// Linux takes no single argument of 128 KiB or more (`MAX_ARG_STRLEN`).
const MAX_INSTRUCTIONS: usize = 120 << 10;
/// What claude and its tools can use, where it is granted.
const USEFUL_ENV: [&str; 34] = [
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "CLAUDE_CONFIG_DIR",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "ANTHROPIC_CUSTOM_HEADERS",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "AWS_REGION",
    "AWS_PROFILE",
    "CLOUD_ML_REGION",
    "ANTHROPIC_VERTEX_PROJECT_ID",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
];
/// Granted secrets that are passed on under their own names.
const SECRETS: [&str; 3] = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];

/// The start for this job. `available` tells whether a secret is granted and has a value.
///
/// # Errors
/// `instructions_too_long`, `invalid_session`.
pub fn command(job: &Job, config: &Config, available: impl Fn(&str) -> bool) -> Result<Command, Failure> {
    let mut command = Command::new(PROGRAM).args(arguments(job, config)?).piped_stdin();
    for name in USEFUL_ENV.into_iter().filter(|name| !config.env.iter().any(|own| own == name)) {
        command = command.env_if_granted(name);
    }
    for name in &config.env {
        command = command.env_inherited(name);
    }
    for name in SECRETS.into_iter().filter(|name| available(name)) {
        command = command.env_secret(name, name);
    }
    Ok(command
        .env("CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS", "1")
        .env("CLAUDE_CODE_MAX_RETRIES", config.max_retries().to_string())
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("DISABLE_AUTOUPDATER", "1"))
}

/// The arguments. Values are joined to their flags by `=`, so that none is ever taken for a flag.
fn arguments(job: &Job, config: &Config) -> Result<Vec<String>, Failure> {
    let mut args: Vec<String> =
        ["-p", "--input-format=stream-json", "--output-format=stream-json", "--verbose", "--include-partial-messages"]
            .map(str::to_owned)
            .to_vec();
    args.push("--permission-prompt-tool=stdio".to_owned());
    let mut flag = |name: &str, value: &str| args.push(format!("--{name}={value}"));
    if let Some(session) = &job.session {
        if session.native_id.is_empty() || !session.native_id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(Failure::new("invalid_session", format!("{:?} is no session id of claude", session.native_id)));
        }
        flag("resume", &session.native_id);
    }
    if let Some(model) = &config.model {
        flag("model", model);
    }
    if let Some(mode) = &config.permission_mode {
        flag("permission-mode", mode);
    }
    if let Some(effort) = &config.effort {
        flag("effort", effort);
    }
    if let Some(turns) = config.max_turns {
        flag("max-turns", &turns.to_string());
    }
    if let Some(budget) = config.max_budget_usd {
        flag("max-budget-usd", &budget.to_string());
    }
    for tool in &config.allowed_tools {
        flag("allowedTools", tool);
    }
    for tool in &config.disallowed_tools {
        flag("disallowedTools", tool);
    }
    if let Some(instructions) = job.instructions.as_deref().filter(|text| !text.is_empty()) {
        if instructions.len() > MAX_INSTRUCTIONS {
            let message = format!("instructions of {} bytes; claude takes at most {MAX_INSTRUCTIONS}", instructions.len());
            return Err(Failure::new("instructions_too_long", message).with_hint("put them into a file and name it in the message"));
        }
        flag("append-system-prompt", instructions);
    }
    if job.session.as_ref().is_some_and(|session| session.fork) {
        args.push("--fork-session".to_owned());
    }
    Ok(args)
}
